"""From one head to another: straight through w (latents of any origin), or along the sphere of z
(seeds)."""

import torch
from torch import Tensor

from gghead.latent import Latent, stack
from gghead.models.generator import Generator


def between(first: Latent, second: Latent, share: float) -> Latent:
    """Return the head a ``share`` of the way from ``first`` to ``second``: styles, residuals and
    deltas alike.

    0 and 1 give the two heads exactly, values outside continue the line. A batch of one meets any
    batch.
    """
    count = max(len(first), len(second))
    first, second = (
        one.map(lambda value: value.expand(count, *value.shape[1:])) if len(one) == 1 else one
        for one in (first, second)
    )
    both = stack([first, second])
    return both.map(lambda value: torch.lerp(value[:count], value[count:], share))


def slerp(first: Tensor, second: Tensor, share: float) -> Tensor:  # [..., D], [..., D] -> [..., D]
    """Interpolate along the great circle (White 2016, "Sampling generative networks"), and the
    lengths linearly.

    A straight line between two samples of a wide Gaussian passes through lengths that no sample
    has.
    """
    lengths = first.norm(dim=-1, keepdim=True), second.norm(dim=-1, keepdim=True)
    a, b = first / lengths[0].clamp_min(1e-12), second / lengths[1].clamp_min(1e-12)
    angle = (a * b).sum(-1, keepdim=True).clamp(-1, 1).acos()
    along = torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b
    direction = torch.where(
        angle.sin() > 1e-4, along / angle.sin().clamp_min(1e-4), torch.lerp(a, b, share)
    )
    return direction * torch.lerp(lengths[0], lengths[1], share)


@torch.no_grad()
def between_seeds(
    model: Generator, first: int, second: int, share: float, psi: float = 1.0
) -> Latent:
    """Return the head at ``share`` of the way along the sphere of z between two seeds."""
    z = slerp(model.seed_to_z(first), model.seed_to_z(second), share)
    return Latent(model.mapping(z, model.neutral_label(), psi))
