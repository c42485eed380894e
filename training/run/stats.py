"""Numbers of a training run.

Collected between ticks, summed over ranks, written as stats.jsonl and tensorboard.

``Stats`` keeps count, sum and sum of squares per name, so a tick's mean and standard deviation are
exact however often and in whatever batches a number was reported. ``StatsWriter`` is for the first
rank only.
"""

import contextlib
import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from gghead.torch_utils.distributed import Processes, sum_over_processes, waiting
from gghead.torch_utils.files import remove_leftovers, write_atomically
from gghead.training.run.console import Tee

Summary = dict[str, dict[str, float]]
"""{name: {"num": …, "mean": …, "std": …}}"""


class Stats:
    """Moments of named numbers since the last ``collect``."""

    def __init__(self) -> None:
        self._moments: dict[str, Tensor] = {}  # name -> [3] float64: count, sum, sum of squares

    def report(self, name: str, values: Tensor | numpy.ndarray | float | int | list[float]) -> None:
        """Add every element of ``values``.

        Values on a GPU stay there: reporting does not wait for it.
        """
        if isinstance(values, (int, float)):
            moments = torch.tensor([1.0, values, values * values], dtype=torch.float64)
        else:
            values = torch.as_tensor(values).detach().flatten()
            if values.numel() == 0:
                return
            # Apple's devices have no float64.
            values = values.to(torch.float32 if values.device.type == "mps" else torch.float64)
            moments = torch.stack(
                [torch.full_like(values[0], values.numel()), values.sum(), values.square().sum()]
            )
        old = self._moments.get(name)
        self._moments[name] = moments if old is None else old.to(moments.device) + moments

    def collect(self) -> Summary:
        """Return the summary over all ranks and start anew.

        Every rank must call it; names may differ between ranks.
        """
        moments, self._moments = self._moments, {}
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            moments = _all_reduce(moments)
        return summarize(moments)

    def as_dict(self) -> Summary:
        """Return the summary of this rank alone and keep collecting."""
        return summarize(self._moments)

    def mean(self, name: str, default: float = math.nan) -> float:
        """Return this rank's mean of one name so far, ``default`` where nothing was reported."""
        return (
            summarize({name: self._moments[name]})[name]["mean"]
            if name in self._moments
            else default
        )

    def state_dict(self) -> dict[str, list[float]]:
        """What has been collected over all ranks, as plain numbers.

        It serves to resume in the middle of a tick.

        Every rank must call it; after a resume only the first one loads it.
        """
        moments = self._moments
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            moments = _all_reduce(moments)
        return {name: values.tolist() for name, values in moments.items()}

    def load_state_dict(self, state: dict[str, list[float]]) -> None:
        """Continue from ``state_dict()``."""
        self._moments = {
            name: torch.tensor(moments, dtype=torch.float64) for name, moments in state.items()
        }


def summarize(moments: Mapping[str, Tensor]) -> Summary:
    """Turn [count, sum, sum of squares] into num, mean and (population) standard deviation."""
    summary = {}
    for name in sorted(moments):
        count, total, squares = moments[name].tolist()
        mean = total / count
        variance = squares / count - mean * mean
        std = math.sqrt(max(variance, 0.0)) if math.isfinite(variance) else math.nan
        summary[name] = {"num": int(count), "mean": mean, "std": std}
    return summary


def _all_reduce(moments: dict[str, Tensor]) -> dict[str, Tensor]:
    """Sum moments over ranks as one flat tensor; ranks that lack a name contribute zeros."""
    processes = Processes(torch.distributed.get_rank(), torch.distributed.get_world_size())
    names: list[list[str]] = [[] for _ in range(processes.world_size)]
    with waiting("the statistics of all processes", processes):
        torch.distributed.all_gather_object(names, sorted(moments))
    union = sorted(set().union(*names))
    if not union:
        return {}
    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    zero = torch.zeros(3, dtype=torch.float64)
    flat = torch.cat([moments.get(name, zero).to("cpu", torch.float64) for name in union]).to(
        device
    )
    return dict(zip(union, sum_over_processes(flat, processes).cpu().split(3), strict=True))


_COUNTERS = {"Progress/kimg": 1000, "Progress/step": 1, "Progress/iteration": 1}
"""What says how far a run was when a line was written -> images or steps per unit."""


class StatsWriter:
    """Writes a run's ``stats.jsonl``, ``log.txt`` and tensorboard events; a resumed run appends.

    A run that was killed may have written ticks beyond the last state it saved. They are done
    again, so that ``done``, the images or steps of the state that is resumed, says what of
    ``stats.jsonl`` and of the events is dropped. Files that it had half written are removed as
    well.

    Use it as a context manager: inside, standard output and error also go to ``log.txt``.
    Tensorboard is optional and its absence is said once. So is a full disk: nothing here raises
    then.
    """

    def __init__(
        self, run_dir: str | Path, tensorboard: bool = True, done: int | None = None
    ) -> None:
        self.run_dir = Path(run_dir)
        self.run_dir.mkdir(parents=True, exist_ok=True)
        if done is not None:
            drop_beyond(self.run_dir / "stats.jsonl", done)
            remove_leftovers(self.run_dir)
        self._log = (self.run_dir / "log.txt").open("a", encoding="utf-8")
        self._jsonl = (self.run_dir / "stats.jsonl").open("a", encoding="utf-8")
        self._events: Any = None
        self._told: set[str] = set()  # files that could not be written
        self._streams: tuple[Any, Any] | None = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                print(
                    f"No tensorboard events will be written ({error}); `pip install tensorboard`"
                    " brings them."
                )
            else:
                self._events = SummaryWriter(
                    str(self.run_dir), purge_step=None if done is None else done + 1
                )

    def __enter__(self) -> "StatsWriter":
        self._streams = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = Tee(sys.stdout, self._log), Tee(sys.stderr, self._log)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the streams back and close the files; calling it again does nothing."""
        if self._streams is not None:
            sys.stdout.flush()
            sys.stdout, sys.stderr = self._streams
            self._streams = None
        with contextlib.suppress(OSError):  # Tee has said so
            self._log.close()
        for name, file in (("stats.jsonl", self._jsonl), ("tensorboard's", self._events)):
            if file is not None:
                self._try_write(name, file.close)

    def _try_write(self, name: str, write: Callable[[], object]) -> None:
        """Write, or say once that it cannot be done: a full disk is no reason to lose the run."""
        try:
            write()
        except OSError as error:
            if name not in self._told:
                print(
                    f"  {name} file could not be written ({error.strerror or error}); free space."
                )
            self._told.add(name)

    def write(self, summary: Summary, images: int) -> None:
        """Append a tick's summary.

        ``images`` (seen since the run began) is tensorboard's step, as kimg·1000.
        """
        now = time.time()
        line = {
            name: {key: _plain(value) for key, value in entry.items()}
            for name, entry in summary.items()
        }
        text = json.dumps({**line, "timestamp": now}) + "\n"
        self._try_write("stats.jsonl", lambda: (self._jsonl.write(text), self._jsonl.flush()))
        self.write_values({name: entry["mean"] for name, entry in summary.items()}, images, now)

    def write_values(
        self, values: Mapping[str, float], images: int, now: float | None = None
    ) -> None:
        """Put single numbers, such as ``Metrics/frd2k``, into tensorboard."""

        def write() -> None:
            for name, value in values.items():
                self._events.add_scalar(name, value, global_step=images, walltime=now)
            self._events.flush()

        if self._events is not None:
            self._try_write("tensorboard's", write)

    def write_image(self, name: str, image: numpy.ndarray, images: int) -> None:  # uint8 [H, W, 3]
        """Put an image into tensorboard."""

        def write() -> None:
            self._events.add_image(name, image, global_step=images, dataformats="HWC")
            self._events.flush()

        if self._events is not None:
            self._try_write("tensorboard's", write)


def drop_beyond(path: Path, done: int) -> None:
    """Drop lines of a ``stats.jsonl`` after ``done`` images or steps, and a torn last line."""
    if not path.exists():
        return
    lines = path.read_bytes().splitlines(keepends=True)
    # a mean over ranks may be rounded
    kept = [line for line in lines if _count_of(line) <= done + 0.5]
    if kept != lines:
        write_atomically(path, lambda file: file.writelines(kept))


def _count_of(line: bytes) -> float:
    """Images or steps at a line of ``stats.jsonl``.

    Infinity for half a line, 0 where it does not say.
    """
    try:
        values = json.loads(line)
    except ValueError:
        return math.inf
    return max(
        (unit * values[name]["mean"] for name, unit in _COUNTERS.items() if name in values),
        default=0.0,
    )


def _plain(value: float) -> float | None:
    """JSON has no NaN and no infinity: readers get null."""
    return value if math.isfinite(value) else None
