"""An untrained network, small enough that a step takes milliseconds."""

import torch

from gghead.models.config import GeneratorConfig
from gghead.models.generator import Generator

SMALL = dict(
    z_dim=8,
    w_dim=8,
    template="sphere",
    plane_resolution=8,
    latent_resolution=4,
    cbase=64,
    cmax=8,
    grid=12,
    image_size=24,
)


def small_network(seed: int = 0, **changes) -> Generator:
    """Heads and noise inputs that differ visibly from seed to seed."""
    torch.manual_seed(seed)
    model = Generator(GeneratorConfig(**{**SMALL, **changes})).eval().requires_grad_(False)
    for name, value in model.named_parameters():
        if name.startswith("decoder") or "noise" in name:
            value.copy_(torch.randn(value.shape) * 0.5)
    return model
