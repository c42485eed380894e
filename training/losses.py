"""Adversarial losses, the gradient penalty, and the blur that hides detail from the discriminator at the start."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def generator_loss(fake: Tensor, real: Tensor | None = None) -> Tensor:  # logits [B] -> [B]
    """Non-saturating loss; with ``real`` the relativistic pairing loss (Huang et al. 2024, "R3GAN", equation 2)."""
    return F.softplus(-fake) if real is None else F.softplus(-(fake - real))


def discriminator_loss(fake: Tensor, real: Tensor, relativistic: bool = False) -> Tensor:  # logits [B] -> [B]
    """Logistic loss, or its relativistic pairing form."""
    return F.softplus(-(real - fake)) if relativistic else F.softplus(fake) + F.softplus(-real)


def gradient_penalty(logits: Tensor, images: Tensor) -> Tensor:  # [B], [B, C, H, W] -> [B]
    """Squared norm of d logit / d image per sample (Mescheder et al. 2018): R1 on reals, R2 on fakes."""
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3))


def gaussian_blur(images: Tensor, sigma: float) -> Tensor:  # [B, C, H, W] -> same
    """Blur with f(x) = 2^(-(x / sigma)^2) of half-width floor(3 sigma), as EG3D's warm-up; nothing below sigma 1/3."""
    radius = math.floor(sigma * 3)
    if radius == 0:
        return images
    channels = images.shape[1]
    taps = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype).div(sigma).square().neg().exp2()
    taps = (taps / taps.sum()).expand(channels, 1, 1, -1)
    x = F.conv2d(images, taps, padding=(0, radius), groups=channels)
    return F.conv2d(x, taps.transpose(2, 3), padding=(radius, 0), groups=channels)


def composite(rgb: Tensor, alpha: Tensor, background: Tensor) -> Tensor:
    """Put images [B, 3, H, W] with alpha [B, 1, H, W] over colours [B, 3]; any common range of values."""
    return rgb * alpha + background[:, :, None, None] * (1.0 - alpha)
