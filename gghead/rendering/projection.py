"""Projection of 3D Gaussians to 2D ones.

EWA splatting (Zwicker et al. 2001) with the numbers of gsplat 1.5.3.

Everything is plain torch, differentiable with respect to the Gaussians and the view matrices. The
tensors are kept component-major ([..., component, N]) so that each step is one vectorized operation
over all Gaussians.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

RenderMode = Literal["RGB", "D", "ED", "RGB+D", "RGB+ED"]
RasterizeMode = Literal["classic", "antialiased"]
MIN_ALPHA = 1 / 255  # contributions below are skipped
# a conic's diagonal below it, 10^12 pixels of standard deviation, is beyond float's reach
MIN_CURVATURE = 1e-24
MAX_EXTENT = 3.33  # half-width of a footprint in standard deviations; sqrt(2 ln 255) rounded up

# the Jacobian's ray slopes are clamped to the image widened by this share on each side
_SLOPE_MARGIN = 0.15
# keeps the square root's gradient finite for a Gaussian seen exactly from its edge
_MIN_COMPENSATION = 1e-12


@dataclass(frozen=True)
class Projection:
    """Gaussians in ``B * C`` images."""

    means2d: Tensor  # [B, C, N, 2] pixels
    depths: Tensor  # [B, C, N] camera-space z
    conics: Tensor  # [B, C, N, 3] inverse 2D covariance: xx, xy, yy
    opacities: Tensor  # [B, C, N] with the antialiasing factor where asked for
    # [B, C, N, 2] int32 half-widths of the footprint in pixels, 0 = culled or unusable
    radii: Tensor


def project(
    means: Tensor,  # [B, N, 3] world units
    quats: Tensor,  # [B, N, 4] w, x, y, z of any length; no rotation where its square overflows
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

    With ``A = J W R(q) S`` (2x3; ``J`` the pinhole's Jacobian at the mean) the 2D covariance is ``A
    A^T + eps2d I``. Its determinant is taken as ``|a x b|^2 + eps2d (|a|^2 + |b|^2) + eps2d^2``
    with the rows ``a, b`` of ``A``, which does not cancel for needles where ``xx * yy - xy^2``
    would.

    A Gaussian that some camera sees with a number that is not finite, or with a conic too flat for
    float, has the radii 0 and arbitrary finite numbers there, and gets no gradient from there.
    """
    arguments = (
        means,
        quats,
        scales,
        opacities,
        viewmats,
        Ks,
        width,
        height,
        near_plane,
        far_plane,
        eps2d,
        antialiased,
    )
    projection = _project(*arguments, None)
    usable = _usable(projection)
    return projection if bool(usable.all()) else _project(*arguments, usable)


@torch.no_grad()
def _usable(projection: Projection) -> Tensor:
    """Where [B, C, N] all that was projected is finite and the conic is not too flat."""
    values = (
        projection.depths[..., None],
        projection.means2d,
        projection.conics,
        projection.opacities[..., None],
    )
    finite = torch.stack([value.isfinite().all(-1) for value in values]).all(0)
    return finite & (projection.conics[..., ::2] >= MIN_CURVATURE).all(-1)


def _project(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    near_plane: float,
    far_plane: float,
    eps2d: float,
    antialiased: bool,
    usable: Tensor | None,
) -> Projection:
    """``project`` for finite inputs.

    Harmless numbers stand in wherever ``usable`` [B, C, N] is False.
    """
    b, n = opacities.shape
    c = viewmats.shape[1]
    rotations = viewmats[..., :3, :3].reshape(b, c * 3, 3)
    translations = viewmats[..., :3, 3].reshape(b, c * 3, 1)
    sideways, depths = (
        torch.baddbmm(translations, rotations, means.mT).reshape(b, c, 3, n).split([2, 1], 2)
    )
    axes = rotations @ _scaled_axes(quats, scales).reshape(b, 3, 3 * n)
    across, along = axes.reshape(b, c, 3, 3, n).split([2, 1], 2)  # [B, C, camera axis, own axis, N]

    depths = depths.squeeze(2)
    if usable is not None:  # wherever an overflow could meet the zero of a gradient
        sideways = torch.where(usable[:, :, None], sideways, 0.0)
        depths = torch.where(usable, depths, 1.0)
        across, along = (
            torch.where(usable[:, :, None, None], rows, 0.0) for rows in (across, along)
        )
    in_range = (depths >= near_plane) & (depths <= far_plane)
    # A culled Gaussian gets a harmless depth: dividing by its own could make 0 * inf in the
    # gradient.
    inverse_z = torch.where(in_range, depths, 1.0).reciprocal()[:, :, None]
    size = means.new_tensor([width, height])[:, None]
    focal = torch.stack([Ks[..., 0, 0], Ks[..., 1, 1]], -1)[..., None]  # [B, C, 2, 1]
    principal = Ks[..., :2, 2:]
    slopes = sideways * inverse_z  # [B, C, 2, N]
    means2d = slopes * focal + principal

    margin = _SLOPE_MARGIN * size
    clamped = torch.clamp(
        slopes, -(principal + margin) / focal, (size - principal + margin) / focal
    )
    # [B, C, 2, 3, N]
    rows = (across - clamped[:, :, :, None] * along) * (focal * inverse_z)[:, :, :, None]
    if usable is not None:
        flat = torch.eye(2, 3, dtype=rows.dtype, device=rows.device)[..., None]
        rows = torch.where(usable[:, :, None, None], rows, flat)
    first, second = rows.unbind(2)
    var_x, var_y, covariance = (
        first.square().sum(2),
        second.square().sum(2),
        (first * second).sum(2),
    )
    area = _squared_area(first, second)  # determinant before the blur
    det = area + eps2d * (var_x + var_y + eps2d)
    var_x, var_y, inverse_det = var_x + eps2d, var_y + eps2d, det.reciprocal()
    conics = torch.stack([var_y * inverse_det, -covariance * inverse_det, var_x * inverse_det], -1)

    opacities = opacities[:, None].expand(b, c, n)
    if antialiased:
        opacities = opacities * (area / det).clamp_min(_MIN_COMPENSATION).sqrt()
    valid = in_range & (det > 0) if usable is None else usable & in_range & (det > 0)
    radii = _radii(means2d, torch.stack([var_x, var_y], 2), opacities, valid, size)
    return Projection(means2d.mT.contiguous(), depths, conics, opacities, radii)


def quat_to_rotmat(quats: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] of quaternions [..., 4] (w, x, y, z) of any length."""
    return torch.stack(_rotation_entries(quats, dim=-1), -1).unflatten(-1, (3, 3))


def _scaled_axes(
    quats: Tensor,  # [B, N, 4]
    scales: Tensor,  # [B, N, 3]
) -> Tensor:
    """``R(q) S`` as [B, 3, 3, N]: column k is the k-th own axis of the Gaussian.

    It is as long as the standard deviation.
    """
    rotations = torch.stack(_rotation_entries(quats.mT.contiguous(), dim=1), 1).unflatten(1, (3, 3))
    return rotations * scales.mT.contiguous()[:, None]


def _rotation_entries(quats: Tensor, dim: int) -> list[Tensor]:
    """The nine entries of R(q), row by row; the four components of q lie along ``dim``."""
    # Scaling to the length sqrt(2) takes care of all factors of 2 below.
    squared = quats.square().sum(dim, keepdim=True)
    tiny = torch.finfo(quats.dtype).tiny
    # Short ones get the length 1 first, for the sake of their gradients. Where the square
    # overflows, there is no rotation, as for a length of 0.
    quats = torch.where(
        (squared >= tiny) & (squared < 1e-15),
        quats / squared.detach().clamp_min(tiny).sqrt(),
        quats,
    )
    quats = torch.where(squared < math.inf, quats, 0.0)
    squared = quats.square().sum(dim, keepdim=True)
    squared = squared.clamp_min(tiny)
    w, x, y, z = (quats * (2 / squared).sqrt()).unbind(dim)
    wx, wy, wz, xx, xy, xz, yy, yz, zz = (
        w * x,
        w * y,
        w * z,
        x * x,
        x * y,
        x * z,
        y * y,
        y * z,
        z * z,
    )
    return [
        1 - (yy + zz),
        xy - wz,
        xz + wy,
        xy + wz,
        1 - (xx + zz),
        yz - wx,
        xz - wy,
        yz + wx,
        1 - (xx + yy),
    ]


def _squared_area(first: Tensor, second: Tensor) -> Tensor:  # [B, C, 3, N] each -> [B, C, N]
    """Squared length of the cross product."""
    (ax, ay, az), (bx, by, bz) = first.unbind(2), second.unbind(2)
    return (
        (ay * bz - az * by).square() + (az * bx - ax * bz).square() + (ax * by - ay * bx).square()
    )


@torch.no_grad()
def _radii(
    means2d: Tensor,  # [B, C, 2, N]
    variances: Tensor,  # [B, C, 2, N]
    opacities: Tensor,  # [B, C, N]
    valid: Tensor,  # [B, C, N] bool
    size: Tensor,  # [2, 1] width, height
) -> Tensor:
    """Half-widths [B, C, N, 2] of the region where alpha can reach 1/255.

    0 where nothing of it is seen.

    The opacity-aware extent is that of Radl et al. 2024 (StopThePop), appendix B.2.
    """
    extent = (
        (2 * (opacities / MIN_ALPHA).clamp_min(1.0).log()).sqrt().clamp_max(MAX_EXTENT)[:, :, None]
    )
    radii = (extent * variances.sqrt()).ceil()
    inside = ((means2d + radii > 0) & (means2d - radii < size)).all(2)
    seen = (valid & inside & (opacities >= MIN_ALPHA))[:, :, None]
    return torch.where(seen, radii, 0.0).clamp_max(2.0**30).mT.to(torch.int32).contiguous()
