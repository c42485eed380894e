"""Pictures of a generator for the metrics: seeded latents, cameras drawn from the data set."""

from collections.abc import Iterator

import torch
from torch import Tensor

from gghead.cameras import Cameras
from gghead.models.generator import Generator
from gghead.torch_utils.rng import generator


class ModelSampler:
    """``sampler(n, batch)`` yields float pictures [b, 3, S, S] in [-1, 1] over white (or the model's own background).

    Cameras come with replacement from ``labels`` [M, 25] and condition the mapping network too, if it is conditioned
    (the protocol of EG3D and GGHead). Latents and cameras depend on the seed and the picture's number only.
    """

    def __init__(self, model: Generator, labels: Tensor, seed: int = 0, psi: float = 1.0) -> None:
        self.model, self.labels, self.seed, self.psi = model, labels.to(model.device), seed, psi

    @torch.no_grad()
    def __call__(self, count: int, batch: int) -> Iterator[Tensor]:
        source = generator(self.seed, "metrics")
        z = torch.randn(count, self.model.z_dim, generator=source)
        index = torch.randint(len(self.labels), (count,), generator=source)
        for begin in range(0, count, batch):
            part = slice(begin, begin + batch)
            c = self.labels[index[part].to(self.model.device)]
            ws = self.model.mapping(z[part].to(self.model.device), c if self.model.c_dim else None, self.psi)
            yield self.model.images(ws, Cameras.from_label(c[:, None])).color[:, 0] * 2.0 - 1.0
