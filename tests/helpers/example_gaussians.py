"""Random Gaussians of about a head's size."""

import torch

from gghead.gaussians import Gaussians
from gghead.torch_utils.rng import generator


def make(
    batch: tuple[int, ...] = (2,),
    n: int = 40,
    degree: int | None = None,
    seed: int = 0,
    extras: bool = False,
):
    rng = generator(seed, "gaussians")
    colors = (3,) if degree is None else ((degree + 1) ** 2, 3)
    return Gaussians(
        means=0.2 * torch.randn(*batch, n, 3, generator=rng),
        quats=torch.randn(*batch, n, 4, generator=rng),
        scales=0.01 + 0.06 * torch.rand(*batch, n, 3, generator=rng),
        opacities=0.1 + 0.8 * torch.rand(*batch, n, generator=rng),
        colors=torch.rand(*batch, n, *colors, generator=rng) - (0 if degree is None else 0.3),
        sh_degree=degree,
        uv=torch.rand(*batch, n, 2, generator=rng) if extras else None,
        features=torch.rand(*batch, n, 5, generator=rng) if extras else None,
    )
