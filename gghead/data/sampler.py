"""The endless, shuffled order of training images as a pure function of (seed, position)."""

import bisect
import functools

import numpy as np
import torch
from torch import Tensor

from gghead.torch_utils.errors import UserError
from gghead.torch_utils.rng import generator


class EpochSampler:
    """Index of the image at any position of an endless sequence of permuted epochs.

    The sequence depends on ``seed`` alone, not on batch size or number of processes; so a run that
    stopped at a position continues there exactly, also on another number of processes. The
    processes take its positions in turn: together they see every image once per epoch.
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
        return [
            int(self._permutation(position // self.size)[position % self.size])
            for position in positions
        ]

    def _make_permutation(self, epoch: int) -> Tensor:
        return torch.randperm(self.size, generator=generator(self.seed, "data order", epoch))


class ShardSampler:
    """The same for data that are read in order, shard by shard.

    A process has few shards open at a time.

    In every epoch the shards are shuffled and dealt out to the processes, so that each is read by
    one of them only; a process goes through its shards in groups of ``at_once`` and shuffles the
    images of a group. All processes together see every image once per epoch (one with larger shards
    begins its next epoch a little later). The order is a pure function of (seed, position, number
    of processes): a run continues exactly on as many processes as before; on another number it goes
    on from the same position of another order.

    Args:
        shards: Item indices of every shard.
        seed: Seed of the order; the same on every process.
        at_once: Shards whose images are mixed.
    """

    def __init__(self, shards: list[np.ndarray], seed: int, at_once: int):
        if not shards:
            raise UserError("A data set without images cannot be sampled.")
        if at_once < 1:
            raise UserError(
                f"At least one shard must be read at a time, but {at_once} were asked for."
            )
        self.shards, self.seed, self.at_once = shards, seed, at_once
        # (rank, world) -> where the rank's epochs end
        self._ends: dict[tuple[int, int], list[int]] = {}
        self._order = functools.lru_cache(maxsize=4)(self._make_order)

    def indices(self, start: int, count: int, rank: int = 0, world: int = 1) -> list[int]:
        """Return ``count`` images of a process after all of them have consumed ``start``."""
        if world > len(self.shards):
            raise UserError(
                f"{len(self.shards)} shards cannot be shared by {world} processes; make more of"
                " them with dataset_tool.py shard, or start fewer processes."
            )
        return [self._at(start // world + k, rank, world) for k in range(count)]

    def _at(self, position: int, rank: int, world: int) -> int:
        ends = self._ends.setdefault((rank, world), [0])
        while ends[-1] <= position:
            share = self._share(len(ends) - 1, rank, world)
            ends.append(ends[-1] + sum(len(self.shards[shard]) for shard in share))
        epoch = bisect.bisect_right(ends, position) - 1
        return int(self._order(epoch, rank, world)[position - ends[epoch]])

    def _share(self, epoch: int, rank: int, world: int) -> list[int]:
        order = torch.randperm(
            len(self.shards), generator=generator(self.seed, "shard order", epoch)
        ).tolist()
        return order[rank::world]

    def _make_order(self, epoch: int, rank: int, world: int) -> np.ndarray:
        share = self._share(epoch, rank, world)
        groups = [share[i : i + self.at_once] for i in range(0, len(share), self.at_once)]
        parts = []
        for group in groups:
            items = np.concatenate([self.shards[shard] for shard in group])
            order = torch.randperm(
                len(items), generator=generator(self.seed, "shard group", epoch, *group)
            )
            parts.append(items[order.numpy()])
        return np.concatenate(parts)
