"""Images of a generator for the metrics: seeded latents, cameras drawn from the data set."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gghead.cameras import Cameras
from gghead.models.generator import Generator
from gghead.torch_utils.rng import generator


@dataclass(frozen=True, eq=False)
class Draw:
    """Which generated images are wanted."""

    count: int
    """Images of the whole set."""
    part: range
    """Those of them that are wanted now."""
    batch: int
    """Images per pass."""
    noise_mode: str = "const"
    """Of the noise inputs: const, or random, drawn anew for every image."""
    labels: Tensor | None = None
    """Cameras [M, 25] that are drawn from; none: the sampler's own."""


Sampler = Callable[[Draw], Iterable[Tensor]]
"""Yields the images [b, 3, H, W] of ``part`` in order, uint8 or float in [-1, 1]."""


class ModelSampler:
    """``sampler(draw)`` yields float images [b, 3, S, S] in [-1, 1].

    They are over white, or the model's own background.

    Cameras come with replacement from ``labels`` [M, 25] and condition the mapping network too, if
    it is conditioned (the protocol of EG3D and GGHead). Latents and cameras depend on the seed, the
    set's size and the image's number only, random noise also on how images are cut into
    batches.
    """

    def __init__(self, model: Generator, labels: Tensor, seed: int = 0, psi: float = 1.0) -> None:
        self.model, self.labels, self.seed, self.psi = model, labels.to(model.device), seed, psi
        # for the parts of one set
        self._drawn: tuple[tuple[int, int], Tensor, Tensor] | None = None

    @torch.no_grad()
    def __call__(self, draw: Draw) -> Iterator[Tensor]:
        device = self.model.device
        labels = self.labels if draw.labels is None else draw.labels.to(device)
        z, index = self._draw(draw.count, len(labels))
        for begin in range(draw.part.start, draw.part.stop, draw.batch):
            rows = slice(begin, min(begin + draw.batch, draw.part.stop))
            c = labels[index[rows].to(device)]
            ws = self.model.mapping(z[rows].to(device), c if self.model.c_dim else None, self.psi)
            noise = generator(self.seed, "metrics/noise", begin, device=device)
            out = self.model.images(
                ws, Cameras.from_label(c[:, None]), noise_mode=draw.noise_mode, generator=noise
            )
            yield out.color[:, 0] * 2.0 - 1.0

    def _draw(self, count: int, cameras: int) -> tuple[Tensor, Tensor]:
        if self._drawn is None or self._drawn[0] != (count, cameras):
            source = generator(self.seed, "metrics")
            z = torch.randn(count, self.model.z_dim, generator=source)
            self._drawn = (count, cameras), z, torch.randint(cameras, (count,), generator=source)
        return self._drawn[1:]
