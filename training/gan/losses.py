"""The adversarial losses and the generator's regularizers."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def generator_loss(fake: Tensor, real: Tensor | None = None) -> Tensor:  # logits [B] -> [B]
    """Non-saturating loss.

    With ``real`` the relativistic pairing loss (Huang et al. 2024, "R3GAN", equation 2).
    """
    return F.softplus(-fake) if real is None else F.softplus(-(fake - real))


# logits [B] -> [B]
def discriminator_loss(fake: Tensor, real: Tensor, relativistic: bool = False) -> Tensor:
    """Logistic loss, or its relativistic pairing form."""
    return F.softplus(-(real - fake)) if relativistic else F.softplus(fake) + F.softplus(-real)


def gradient_penalty(logits: Tensor, images: Tensor) -> Tensor:  # [B], [B, C, H, W] -> [B]
    """Squared norm of d logit / d image per sample: R1 on reals, R2 on fakes.

    Mescheder et al. 2018.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3))


def gaussian_blur(images: Tensor, sigma: float) -> Tensor:  # [B, C, H, W] -> same
    """Blur with f(x) = 2^(-(x / sigma)^2) of half-width floor(3 sigma), as EG3D's warm-up.

    Nothing below sigma 1/3.
    """
    radius = math.floor(sigma * 3)
    if radius == 0:
        return images
    channels = images.shape[1]
    taps = (
        torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
        .div(sigma)
        .square()
        .neg()
        .exp2()
    )
    taps = (taps / taps.sum()).expand(channels, 1, 1, -1)
    x = F.conv2d(images, taps, padding=(0, radius), groups=channels)
    return F.conv2d(x, taps.transpose(2, 3), padding=(radius, 0), groups=channels)


def composite(rgb: Tensor, alpha: Tensor, background: Tensor) -> Tensor:
    """Put images [B, 3, H, W] with alpha [B, 1, H, W] over colors [B, 3].

    Any common range of values.
    """
    return rgb * alpha + background[:, :, None, None] * (1.0 - alpha)


def mean_length(raw: Tensor) -> Tensor:  # [B, N, C] -> scalar
    """Mean Euclidean length of a raw attribute, not squared, as in the released GGHead.

    The floor under the root keeps the gradient finite where an attribute is exactly zero, as all
    are at step 0.
    """
    return (raw.square().sum(dim=-1) + 1e-12).sqrt().mean()


def beta_prior(opacities: Tensor) -> Tensor:  # [B, N] in [0, 1] -> scalar
    """Push opacities to 0 or 1: log(0.1 + o) + log(1.1 - o) + 2.20727.

    The prior is Neural Volumes', used in GGHead's stage 2.
    """
    return ((0.1 + opacities).log() + (1.1 - opacities).log() + 2.20727).mean()


def uv_total_variation(
    uv: Tensor,  # [..., 2, H, W] alpha-weighted UV coordinates in [-1, 1]
    alpha: Tensor,  # [..., 1, H, W]
    depth: Tensor | None = None,  # [..., 1, H, W]
    *,
    alpha_floor: float = 0.5,
    depth_edge: float = 0.0,
) -> Tensor:
    """Mean absolute difference of neighboring pixels' UV, vertical plus horizontal.

    GGHead, equation 8.

    Neighbors that show far-apart parts of the UV square mean that layers pierce each other. Pixels
    whose alpha is below ``alpha_floor`` are silhouette and left out: dividing by a small alpha
    amplifies noise, and by zero gives NaN gradients even where the result is masked. With
    ``depth_edge`` > 0 neighbors further apart in depth are left out too, since the nose in front
    of the cheek is no fault. No valid pair gives 0.
    """
    inside = alpha > alpha_floor
    coordinates = uv / torch.where(inside, alpha, torch.ones_like(alpha))

    def along(dim: int) -> Tensor:
        size = uv.shape[dim]
        first, second = (
            (lambda x: x.narrow(dim, 0, size - 1)),
            (lambda x: x.narrow(dim, 1, size - 1)),
        )
        valid = first(inside) & second(inside)
        if depth is not None and depth_edge > 0:
            valid = valid & ((first(depth) - second(depth)).abs() < depth_edge)
        difference = (first(coordinates) - second(coordinates)).abs().mean(dim=-3, keepdim=True)
        return torch.where(valid, difference, 0.0).sum() / valid.sum().clamp_min(1)

    return along(-2) + along(-1)
