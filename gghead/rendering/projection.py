"""Projection of 3D Gaussians to 2D ones: EWA splatting (Zwicker et al. 2001) with the numbers of gsplat 1.5.3.

Everything is plain torch, differentiable with respect to the Gaussians and the view matrices. The tensors are kept
component-major ([..., component, N]) so that each step is one vectorised operation over all Gaussians.
"""

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

MIN_ALPHA = 1 / 255  # contributions below are skipped
MAX_EXTENT = 3.33  # half-width of a footprint in standard deviations; sqrt(2 ln 255) rounded up

_SLOPE_MARGIN = 0.15  # the Jacobian's ray slopes are clamped to the picture widened by this share on each side
_MIN_COMPENSATION = 1e-12  # keeps the square root's gradient finite for a Gaussian seen exactly from its edge


@dataclass(frozen=True)
class Projection:
    """Gaussians in ``B * C`` pictures."""

    means2d: Tensor  # [B, C, N, 2] pixels
    depths: Tensor  # [B, C, N] camera-space z
    conics: Tensor  # [B, C, N, 3] inverse 2D covariance: xx, xy, yy
    opacities: Tensor  # [B, C, N] with the antialiasing factor where asked for
    radii: Tensor  # [B, C, N, 2] int32 half-widths of the footprint in pixels, 0 = culled


def project(
    means: Tensor,  # [B, N, 3] world units
    quats: Tensor,  # [B, N, 4] w, x, y, z of any length
    scales: Tensor,  # [B, N, 3] standard deviations, world units
    opacities: Tensor,  # [B, N]
    viewmats: Tensor,  # [B, C, 4, 4] world to camera
    Ks: Tensor,  # [B, C, 3, 3] pixels; a skew is ignored, as in gsplat
    width: int,
    height: int,
    near_plane: float,
    far_plane: float,
    eps2d: float,
    antialiased: bool,
) -> Projection:
    """Project every Gaussian of a batch element into its ``C`` cameras.

    With ``A = J W R(q) S`` (2x3; ``J`` the pinhole's Jacobian at the mean) the 2D covariance is ``A A^T + eps2d I``. Its
    determinant is taken as ``|a x b|^2 + eps2d (|a|^2 + |b|^2) + eps2d^2`` with the rows ``a, b`` of ``A``, which does not
    cancel for needles where ``xx * yy - xy^2`` would.
    """
    b, n = opacities.shape
    c = viewmats.shape[1]
    rotations = viewmats[..., :3, :3].reshape(b, c * 3, 3)
    translations = viewmats[..., :3, 3].reshape(b, c * 3, 1)
    centres = torch.baddbmm(translations, rotations, means.mT).reshape(b, c, 3, n)
    axes = (rotations @ _scaled_axes(quats, scales).reshape(b, 3, 3 * n)).reshape(b, c, 3, 3, n)  # [camera axis, own axis]

    depths = centres[:, :, 2]
    in_range = (depths >= near_plane) & (depths <= far_plane)
    # A culled Gaussian gets a harmless depth: dividing by its own could make 0 * inf in the gradient.
    z = torch.where(in_range, depths, 1.0)[:, :, None]
    size = means.new_tensor([width, height])[:, None]
    focal = torch.stack([Ks[..., 0, 0], Ks[..., 1, 1]], -1)[..., None]  # [B, C, 2, 1]
    principal = Ks[..., :2, 2:]
    slopes = centres[:, :, :2] / z  # [B, C, 2, N]
    means2d = slopes * focal + principal

    margin = _SLOPE_MARGIN * size
    clamped = torch.clamp(slopes, -(principal + margin) / focal, (size - principal + margin) / focal)
    rows = (axes[:, :, :2] - clamped[:, :, :, None] * axes[:, :, 2:]) * (focal / z)[:, :, :, None]  # [B, C, 2, 3, N]
    variances = rows.square().sum(3)  # [B, C, 2, N]
    first, second = rows.unbind(2)
    covariance = (first * second).sum(2)
    area = torch.linalg.cross(first, second, dim=2).square().sum(2)  # determinant before the blur
    det = area + eps2d * (variances.sum(2) + eps2d)
    variances = variances + eps2d
    conics = torch.stack([variances[:, :, 1] / det, -covariance / det, variances[:, :, 0] / det], -1)

    opacities = opacities[:, None].expand(b, c, n)
    if antialiased:
        opacities = opacities * (area / det).clamp_min(_MIN_COMPENSATION).sqrt()
    radii = _radii(means2d, variances, opacities, in_range & (det > 0), size)
    return Projection(means2d.mT.contiguous(), depths, conics, opacities, radii)


def quat_to_rotmat(quats: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] of quaternions [..., 4] (w, x, y, z) of any length."""
    rotations = _rotation_entries(quats.reshape(1, -1, 4).mT).mT
    return rotations.reshape(*quats.shape[:-1], 3, 3)


def _scaled_axes(
    quats: Tensor,  # [B, N, 4]
    scales: Tensor,  # [B, N, 3]
) -> Tensor:
    """``R(q) S`` as [B, 3, 3, N]: column k is the k-th own axis of the Gaussian, as long as its standard deviation."""
    b, n, _ = quats.shape
    return _rotation_entries(quats.mT).reshape(b, 3, 3, n) * scales.mT.contiguous()[:, None]


def _rotation_entries(quats: Tensor) -> Tensor:  # [B, 4, N] -> [B, 9, N]
    """The entries of R(q) are linear in the products of two components of q, divided by its squared length."""
    b, _, n = quats.shape
    quats = quats.contiguous()
    products = (quats[:, :, None] * quats[:, None]).reshape(b, 16, n)
    length = quats.square().sum(1, keepdim=True).clamp_min(torch.finfo(quats.dtype).tiny)
    return (_products_to_rotation(quats.dtype, quats.device) @ products) / length


@functools.cache
def _products_to_rotation(dtype: torch.dtype, device: torch.device) -> Tensor:
    """[9, 16] with R = table . vec(q q^T) for a unit quaternion."""
    entries = (  # signed products of (w, x, y, z) per entry of R, row-major
        {"ww": 1, "xx": 1, "yy": -1, "zz": -1},
        {"xy": 2, "wz": -2},
        {"xz": 2, "wy": 2},
        {"xy": 2, "wz": 2},
        {"ww": 1, "xx": -1, "yy": 1, "zz": -1},
        {"yz": 2, "wx": -2},
        {"xz": 2, "wy": -2},
        {"yz": 2, "wx": 2},
        {"ww": 1, "xx": -1, "yy": -1, "zz": 1},
    )
    table = torch.zeros(9, 4, 4, dtype=dtype, device=device)
    for row, products in zip(table, entries, strict=True):
        for (p, q), sign in products.items():
            row["wxyz".index(p), "wxyz".index(q)] = sign
    return table.reshape(9, 16)


@torch.no_grad()
def _radii(
    means2d: Tensor,  # [B, C, 2, N]
    variances: Tensor,  # [B, C, 2, N]
    opacities: Tensor,  # [B, C, N]
    valid: Tensor,  # [B, C, N] bool
    size: Tensor,  # [2, 1] width, height
) -> Tensor:
    """Half-widths [B, C, N, 2] of the region where alpha can reach 1/255; 0 where nothing of it is seen.

    The opacity-aware extent is that of Radl et al. 2024 (StopThePop), appendix B.2.
    """
    extent = (2 * (opacities / MIN_ALPHA).clamp_min(1.0).log()).sqrt().clamp_max(MAX_EXTENT)[:, :, None]
    radii = (extent * variances.sqrt()).ceil()
    inside = ((means2d + radii > 0) & (means2d - radii < size)).all(2)
    seen = (valid & inside & (opacities >= MIN_ALPHA))[:, :, None]
    return torch.where(seen, radii, 0.0).clamp_max(2.0**30).mT.to(torch.int32).contiguous()
