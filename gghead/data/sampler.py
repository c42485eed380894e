"""The endless, shuffled order of training images as a pure function of (seed, position)."""

import functools

import torch
from torch import Tensor

from torch_utils.errors import UserError
from torch_utils.rng import generator


class EpochSampler:
    """Index of the image at any position of an endless sequence of epochs, each its own permutation.

    The sequence depends on ``seed`` alone, not on batch size or number of processes; so a run that stopped at a
    position continues there exactly, also on another number of processes.
    """

    def __init__(self, size: int, seed: int):
        if size < 1:
            raise UserError("A data set without images cannot be sampled.")
        self.size = size
        self.seed = seed
        self._permutation = functools.lru_cache(maxsize=4)(self._make_permutation)

    def indices(self, start: int, count: int, rank: int = 0, world: int = 1) -> list[int]:
        """Return the images at positions ``start + rank + k * world`` for k = 0 … count - 1."""
        positions = range(start + rank, start + rank + count * world, world)
        return [int(self._permutation(position // self.size)[position % self.size]) for position in positions]

    def _make_permutation(self, epoch: int) -> Tensor:
        return torch.randperm(self.size, generator=generator(self.seed, "data order", epoch))
