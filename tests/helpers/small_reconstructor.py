"""An untrained reconstructor whose outputs nevertheless differ from head to head."""

import torch
from helpers.small_network import SMALL

from gghead.models.config import GeneratorConfig
from gghead.models.reconstructor import Reconstructor
from gghead.models.reconstructor_config import ReconstructorConfig

TINY = dict(
    channels=(8, 8, 8),
    blocks=1,
    width=16,
    layers=2,
    heads=2,
    mlp_ratio=1.0,
    mixing="convolution",
    detail=2,
)


def reconstructor_config(generator: dict | None = None, **changes) -> ReconstructorConfig:
    return ReconstructorConfig(
        generator=GeneratorConfig(**{**SMALL, **(generator or {})}), **{**TINY, **changes}
    )


def small_reconstructor(seed: int = 0, generator: dict | None = None, **changes) -> Reconstructor:
    """Every layer that starts at zero is given numbers."""
    torch.manual_seed(seed)
    model = Reconstructor(reconstructor_config(generator, **changes)).eval().requires_grad_(False)
    for value in model.parameters():
        if not bool(value.any()):
            value.copy_(torch.randn(value.shape) * 0.1)
    return model
