"""Batches from a data set, prepared by background threads in a fixed order."""

import functools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from gghead.data.image_dataset import ImageDataset
from gghead.data.read_ahead import ReadAhead
from gghead.data.sampler import EpochSampler, ShardSampler
from gghead.torch_utils.errors import UserError

Batch = dict[str, Tensor]


class BatchLoader(Iterator[Batch]):
    """Endless iterator over dict(image uint8 [B, 3, H, W], alpha uint8 [B, 1, H, W], label float32 [B, 25]).

    Args:
        dataset: Where the items come from.
        batch: Images per batch of this process; all processes together consume ``batch * world`` per step.
        seed: Seed of the default order; the same on every process.
        rank, world: This process and their number.
        start: Images consumed so far by all processes together (``position`` of the loader that is continued).
        workers: Threads, each preparing a whole batch; None: as many as it takes that nobody waits (``ReadAhead``).
        prefetch: Batches prepared ahead by a fixed number of workers; None = one per worker, at least two.
        sampler: The order, such as ``dataset.sampler(seed)``; None: any image at any time.

    An error in a worker (a broken file) is raised by ``next``. Use as a context manager or call ``close``.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        batch: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        start: int = 0,
        workers: int | None = None,
        prefetch: int | None = None,
        sampler: EpochSampler | ShardSampler | None = None,
    ):
        if batch < 1 or not 0 <= rank < world or start < 0 or (workers is not None and workers < 1):
            raise UserError(f"Impossible loader: batch {batch}, rank {rank} of {world}, start {start}, {workers=}.")
        self.dataset, self.batch, self.rank, self.world = dataset, batch, rank, world
        self.position = start  # images handed out so far, over all processes
        self._sampler = sampler if sampler is not None else EpochSampler(len(dataset), seed)
        self._reader = ReadAhead(self._jobs(start), workers, prefetch, world, 4 * batch * dataset.resolution**2)

    @property
    def ahead(self) -> int:
        """Batches that are prepared at a time."""
        return self._reader.ahead

    def __next__(self) -> Batch:
        batch = next(self._reader)
        self.position += self.batch * self.world
        return batch

    def close(self) -> None:
        """Stop the threads and drop what they prepared; the data set stays open."""
        self._reader.close()

    def __enter__(self) -> "BatchLoader":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def _jobs(self, position: int) -> Iterator[Callable[[], Batch]]:
        while True:
            indices = self._sampler.indices(position, self.batch, self.rank, self.world)
            yield functools.partial(self._make, indices)
            position += self.batch * self.world

    def _make(self, indices: list[int]) -> Batch:
        images, alphas, labels = zip(*(self.dataset.get(index) for index in indices), strict=True)
        return {"image": torch.stack(images), "alpha": torch.stack(alphas), "label": torch.stack(labels)}
