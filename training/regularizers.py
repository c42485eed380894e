"""GGHead's regularisers on raw attributes, opacities and rendered UV coordinates."""

import torch
from torch import Tensor


def mean_length(raw: Tensor) -> Tensor:  # [B, N, C] -> scalar
    """Mean Euclidean length of a raw attribute, not squared, as in the released GGHead.

    The floor under the root keeps the gradient finite where an attribute is exactly zero, as all are at step 0.
    """
    return (raw.square().sum(dim=-1) + 1e-12).sqrt().mean()


def beta_prior(opacities: Tensor) -> Tensor:  # [B, N] in [0, 1] -> scalar
    """Push opacities to 0 or 1: log(0.1 + o) + log(1.1 - o) + 2.20727 (Neural Volumes' prior; GGHead's stage 2)."""
    return ((0.1 + opacities).log() + (1.1 - opacities).log() + 2.20727).mean()


def uv_total_variation(
    uv: Tensor,  # [..., 2, H, W] alpha-weighted UV coordinates in [-1, 1]
    alpha: Tensor,  # [..., 1, H, W]
    depth: Tensor | None = None,  # [..., 1, H, W]
    *,
    alpha_floor: float = 0.5,
    depth_edge: float = 0.0,
) -> Tensor:
    """Mean absolute difference of neighbouring pixels' UV coordinates, vertical plus horizontal (GGHead, equation 8).

    Neighbours that show far-apart parts of the UV square mean that layers pierce each other. Pixels whose alpha is
    below ``alpha_floor`` are silhouette and left out: dividing by a small alpha amplifies noise, and by zero gives NaN
    gradients even where the result is masked. With ``depth_edge`` > 0 neighbours further apart in depth are left out
    too, since the nose in front of the cheek is no fault. No valid pair gives 0.
    """
    inside = alpha > alpha_floor
    coordinates = uv / torch.where(inside, alpha, torch.ones_like(alpha))

    def along(dim: int) -> Tensor:
        size = uv.shape[dim]
        first, second = (lambda x: x.narrow(dim, 0, size - 1)), (lambda x: x.narrow(dim, 1, size - 1))
        valid = first(inside) & second(inside)
        if depth is not None and depth_edge > 0:
            valid = valid & ((first(depth) - second(depth)).abs() < depth_edge)
        difference = (first(coordinates) - second(coordinates)).abs().mean(dim=-3, keepdim=True)
        return torch.where(valid, difference, 0.0).sum() / valid.sum().clamp_min(1)

    return along(-2) + along(-1)
