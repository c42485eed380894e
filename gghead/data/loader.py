"""Batches in the order of a sampler, decoded ahead by threads."""

import collections
import functools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Generic, Self, TypeVar

import torch
from torch import Tensor

from gghead.data.dataset import ImageDataset
from gghead.data.sampler import EpochSampler, ShardSampler
from gghead.torch_utils.machine import cores

Result = TypeVar("Result")
_MOST_THREADS = 16  # beyond that the interpreter's lock, and not decoding, is what threads wait for
_ROOM = 512 * 2**20  # bytes that results may take which nobody has asked for yet
_FIRST = 2  # results prepared at a time before anybody had to wait


def most_threads(processes: int = 1) -> int:
    """Return how many threads of this process may read.

    Its share of the cores but one, from 2 to 16.

    ``processes`` work at the same run; torchrun says how many of them are on this machine.
    """
    share = cores() // int(os.environ.get("LOCAL_WORLD_SIZE", processes))
    return min(max(share - 1, _FIRST), _MOST_THREADS)


class ReadAhead(Iterator[Result], Generic[Result]):
    """The results of ``jobs`` in their order, computed by threads.

    PIL and zlib work without the interpreter's lock.

    Two are prepared at a time; each time the one that is wanted is not ready, one more, up to
    ``most_threads`` or as many as half a gigabyte holds. So slow decoding gets many threads, and
    quick decoding takes no memory. Nothing of this changes a result.

    Args:
        jobs: What to compute; drawn in the caller's thread, as far ahead as results are prepared.
        threads: A fixed number instead, none of it grown; each prepares one result at a time.
        ahead: Results prepared ahead where ``threads`` is given; None = one per thread, at least
            two. 0 computes each when it is asked for.
        processes: Processes of this run, which share the cores.
        size: Bytes of a result.

    An error in a job is raised by ``next``. Use as a context manager or call ``close``.
    """

    def __init__(
        self,
        jobs: Iterable[Callable[[], Result]],
        threads: int | None = None,
        ahead: int | None = None,
        processes: int = 1,
        size: int = 0,
    ) -> None:
        self._jobs = iter(jobs)
        fitting = max(_ROOM // size, _FIRST) if size else _MOST_THREADS
        self.limit = min(most_threads(processes), fitting) if threads is None else threads
        self.ahead = (
            ahead if ahead is not None else _FIRST if threads is None else max(threads, _FIRST)
        )
        self._grows = threads is None
        self._pool = ThreadPoolExecutor(self.limit, thread_name_prefix="gghead-data")
        self._pending: collections.deque[Future[Result]] = collections.deque()
        self._closed = False
        self._fill()

    def __next__(self) -> Result:
        """Return the next result; raises ``StopIteration`` after the last job."""
        if self._closed:
            raise RuntimeError("this reader is closed")
        if not self._pending:
            return next(self._jobs)()
        wanted = self._pending.popleft()
        if self._grows and not wanted.done():
            self.ahead = min(self.ahead + 1, max(self.limit, _FIRST))
        self._fill(1)  # while it is waited for
        result = wanted.result()
        self._fill()
        return result

    def _fill(self, spare: int = 0) -> None:
        while len(self._pending) + spare < self.ahead:
            job = next(self._jobs, None)
            if job is None:
                return
            self._pending.append(self._pool.submit(job))

    def close(self) -> None:
        """Stop the threads and drop what they prepared."""
        self._closed = True
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._pending.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class StepReader(Generic[Result]):
    """``read(step)`` for one step after another.

    It reads in the background while the step before is computed.

    ``steps`` returns the steps that follow a first one, with it. A step that is not the next one
    begins anew, so any step may be asked for at any time; what is returned depends on the step
    alone.
    """

    def __init__(
        self,
        read: Callable[[int], Result],
        steps: Callable[[int], Iterable[int]],
        processes: int = 1,
        size: int = 0,
    ) -> None:
        self._read, self._steps, self._processes, self._size = read, steps, processes, size
        self._ahead: ReadAhead[tuple[int, Result]] | None = None

    def __call__(self, step: int) -> Result:
        """Return ``read(step)``; its errors are raised here."""
        found = None if self._ahead is None else next(self._ahead, None)
        if found is None or found[0] != step:
            self.close()
            jobs = (partial(self._read_with_step, later) for later in self._steps(step))
            self._ahead = ReadAhead(jobs, processes=self._processes, size=self._size)
            found = next(self._ahead)
        return found[1]

    def _read_with_step(self, step: int) -> tuple[int, Result]:
        return step, self._read(step)

    def close(self) -> None:
        """Stop the threads; a later call starts them again."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None


Batch = dict[str, Tensor]


class BatchLoader(Iterator[Batch]):
    """Endless iterator over dictionaries of ``image``, ``alpha`` and ``label``.

    image is uint8 [B, 3, H, W], alpha uint8 [B, 1, H, W], label float32 [B, 25].

    Args:
        dataset: Where the items come from.
        batch: Images per batch of this process; all processes together consume ``batch * world``
            per step.
        seed: Seed of the default order; the same on every process.
        rank, world: This process and their number.
        start: Images consumed so far by all processes together (``position`` of the loader that is
            continued).
        workers: Threads, each preparing a whole batch; None: as many as it takes that nobody waits
            (``ReadAhead``).
        prefetch: Batches prepared ahead by a fixed number of workers; None = one per worker, at
            least two.
        sampler: The order, such as ``dataset.sampler(seed)``; None: any image at any time.

    An error in a worker (a broken file) is raised by ``next``. Use as a context manager or call
    ``close``.
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
            raise ValueError(
                f"Impossible loader: batch {batch}, rank {rank} of {world}, start {start},"
                f" {workers=}."
            )
        self.dataset, self.batch, self.rank, self.world = dataset, batch, rank, world
        self.position = start  # images handed out so far, over all processes
        self._sampler = sampler if sampler is not None else EpochSampler(len(dataset), seed)
        self._reader = ReadAhead(
            self._jobs(start), workers, prefetch, world, 4 * batch * dataset.resolution**2
        )

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

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _jobs(self, position: int) -> Iterator[Callable[[], Batch]]:
        while True:
            indices = self._sampler.indices(position, self.batch, self.rank, self.world)
            yield functools.partial(self._make, indices)
            position += self.batch * self.world

    def _make(self, indices: list[int]) -> Batch:
        images, alphas, labels = zip(*(self.dataset.get(index) for index in indices), strict=True)
        return {
            "image": torch.stack(images),
            "alpha": torch.stack(alphas),
            "label": torch.stack(labels),
        }
