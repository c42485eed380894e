"""Real spherical harmonics for view-dependent color.

The basis order and the signs are those of 3D Gaussian Splatting.

The functions are the real harmonics of Kerbl et al. 2023 (3DGS), written as polynomials of the unit
direction; degree 1 in the order (y, z, x) with signs (-, +, -).
"""

import math

import torch
from torch import Tensor

from gghead.finite import find_nonfinite

C0 = 0.28209479177387814  # sqrt(1 / (4 pi)): a constant color c is stored as (c - 0.5) / C0
C1 = 0.4886025119029199  # sqrt(3 / (4 pi))
MAX_DEGREE = 3


def num_bases(degree: int) -> int:
    """Number of coefficients per channel up to ``degree``."""
    return (degree + 1) ** 2


def rgb_to_dc(rgb: Tensor) -> Tensor:
    """Degree-0 coefficient of a color in [0, 1]."""
    return (rgb - 0.5) / C0


def dc_to_rgb(dc: Tensor) -> Tensor:
    """The inverse of ``rgb_to_dc``: the color from all sides together."""
    return dc * C0 + 0.5


def basis(
    degree: int,
    directions: Tensor,  # [..., 3] unit vectors
    dim: int = -1,
) -> Tensor:
    """Values [..., (degree + 1)^2] of the basis functions.

    ``dim`` is where x, y, z and the functions stand.
    """
    if not 0 <= degree <= MAX_DEGREE:
        raise ValueError(f"sh_degree must be between 0 and {MAX_DEGREE}, but it is {degree}.")
    x, y, z = directions.unbind(dim)
    values = [torch.full_like(x, C0)]
    if degree >= 1:
        values += [-C1 * y, C1 * z, -C1 * x]
    if degree >= 2:
        xx, yy, zz = x * x, y * y, z * z
        values += [
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.31539156525252005 * (3 * zz - 1),
            -1.0925484305920792 * x * z,
            0.5462742152960396 * (xx - yy),
        ]
        if degree >= 3:
            values += [
                -0.5900435899266435 * y * (3 * xx - yy),
                2.890611442640554 * x * y * z,
                -0.4570457994644658 * y * (5 * zz - 1),
                0.3731763325901154 * z * (5 * zz - 3),
                -0.4570457994644658 * x * (5 * zz - 1),
                1.445305721320277 * z * (xx - yy),
                -0.5900435899266435 * x * (xx - 3 * yy),
            ]
    return torch.stack(values, dim)


def rotation(
    degree: int,
    matrix: Tensor,  # [..., 3, 3] rotations
) -> Tensor:
    """Matrices [..., K, K] in float64 that turn coefficients [K, D].

    They are of f(d) before and of f(R^-1 d) afterwards.

    Each degree spans a space that rotations leave whole (Ramamoorthi and Hanrahan 2001), so values
    at more directions than there are functions determine the matrix, exactly but for rounding.
    """
    index = torch.arange(4 * num_bases(MAX_DEGREE), dtype=torch.float64, device=matrix.device)
    # evenly over the sphere
    z, turn = 1 - (2 * index + 1) / len(index), index * (math.pi * (3 - math.sqrt(5)))
    radius = (1 - z * z).sqrt()
    points = torch.stack([radius * turn.cos(), radius * turn.sin(), z], -1)
    turned = basis(degree, points @ matrix.to(torch.float64))  # rows are R^-1 d
    return torch.linalg.pinv(basis(degree, points)) @ turned


def evaluate(
    degree: int,
    directions: Tensor,  # [..., 3] from the camera center to the Gaussian; need not be normalized
    coefficients: Tensor,  # [..., K, D], K >= (degree + 1)^2; further bands are ignored
) -> Tensor:
    """Colors [..., D]: the harmonics plus 0.5, clamped at 0 from below as in 3DGS.

    The color is NaN, and its gradient zero, where the direction or a coefficient is not finite: no
    rasterizer draws it.
    """
    used = num_bases(degree)
    if used > coefficients.shape[-2]:
        raise ValueError(
            f"sh_degree {degree} needs {used} coefficients, but there are {coefficients.shape[-2]}."
        )
    coefficients = coefficients[..., :used, :]
    bad = find_nonfinite(directions, coefficients.flatten(-2))
    if bad is not None:
        directions = directions.masked_fill(bad[..., None], 1.0)
        coefficients = coefficients.masked_fill(bad[..., None, None], 0.0)
    directions = torch.nn.functional.normalize(directions, dim=-1)
    values = basis(degree, directions)
    colors = ((values[..., None] * coefficients).sum(-2) + 0.5).clamp_min(0.0)
    return colors if bad is None else colors.masked_fill(bad[..., None], torch.nan)


def directions(
    means: Tensor,  # [..., N, 3] world units
    viewmats: Tensor,  # [..., C, 4, 4] world to camera
) -> Tensor:
    """Vectors [..., C, N, 3] from the camera centers to the Gaussians.

    Not finite where the matrix has no inverse.
    """
    bad = find_nonfinite(viewmats.flatten(-2))
    # one camera's numbers must not reach the Gaussians' gradients, to which all cameras add
    if bad is not None:
        unit = torch.eye(4, dtype=viewmats.dtype, device=viewmats.device)
        viewmats = torch.where(bad[..., None, None], unit, viewmats)
    centers = torch.linalg.inv_ex(viewmats).inverse[..., :3, 3]
    return means[..., None, :, :] - centers[..., None, :]
