"""The loop around the steps of a run that counts steps.

Ticks, status lines, snapshots, states, Ctrl-C.

Encoders, priors, expression transformers and avatars fill in what differs. (GANs count images:
training/gan/run.py.)
"""

import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import torch

from gghead.torch_utils import threads
from gghead.torch_utils.cli import hint
from gghead.torch_utils.distributed import Processes, barrier
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.progress import progress
from gghead.training.run.console import format_time, memory_use
from gghead.training.run.health import Health, describe_bad_updates, judge_losses
from gghead.training.run.interrupt import StopRequest
from gghead.training.run.saving import Saver
from gghead.training.run.stats import Stats, StatsWriter, Summary


class StepOptions(Protocol):
    """What a run's config says of its loop."""

    @property
    def tick(self) -> int:
        """Steps from one status line to the next."""
        ...

    @property
    def snapshot_ticks(self) -> int:
        """Ticks from one snapshot to the next."""
        ...


class StepTrainer(Protocol):
    """What the loop asks of a trainer."""

    device: torch.device
    stats: Stats
    health: Health

    def step(self) -> None:
        """Do one step."""
        ...

    def state_dict(self) -> dict:
        """Everything that a resumed run continues from."""
        ...


Options = TypeVar("Options", bound=StepOptions)
Trainer = TypeVar("Trainer", bound=StepTrainer)


class StepRun(ABC, Generic[Options, Trainer]):
    """One process's part of a run; only the first process has a folder and a writer."""

    unit = "step"
    """What is counted."""
    script = ""
    """Command that continues the run, below scripts/."""
    remedy = "The same options end the same way."
    """What to try after a run that diverged, in a sentence."""

    def __init__(
        self,
        config: Options,
        folder: Path | None,
        trainer: Trainer,
        writer: StatsWriter | None,
        seconds: float,
        total: int,
        processes: Processes | None = None,
    ) -> None:
        """``seconds`` were spent before a resume, ``total`` is the count at which the run ends."""
        self.config, self.folder, self.trainer, self.writer, self.total = (
            config,
            folder,
            trainer,
            writer,
            total,
        )
        self.processes = processes or Processes()
        self.started = time.time() - seconds
        self.saver = Saver(
            folder, self.processes, trainer.device, f"scripts/{self.script}", self.remedy
        )

    # ------------------------------------------------------------------ filled in
    @property
    @abstractmethod
    def done(self) -> int:
        """Steps so far."""

    @abstractmethod
    def print_start(self) -> None:
        """Print what is trained on what."""

    @abstractmethod
    def describe_losses(self, summary: Summary) -> str:
        """Return the losses of a status line."""

    @abstractmethod
    def write_snapshot(self, folder: Path) -> None:
        """Write the model; ``UserError`` if the disk refuses."""

    @abstractmethod
    def save_preview(self, folder: Path, writer: StatsWriter) -> None:
        """Draw or measure what goes with every snapshot."""

    @abstractmethod
    def describe_result(self) -> str:
        """Return what a finished run says."""

    def describe_progress(self) -> str:
        """Return what the moving line says besides how far the run is."""
        return ""

    def step(self) -> None:
        """Do one step and what has to be prepared for it."""
        self.trainer.step()

    def measure(self) -> dict[str, float]:
        """Return further numbers of a tick, by name."""
        return {}

    # -------------------------------------------------------------------- the loop
    def train(self) -> None:
        """Steps until the end; a tick's work in between.

        Returning means that the last state is on the disk.

        Raises ``UserError`` for a run that diverges or whose last state cannot be written.
        """
        tick = self.config.tick
        if self.writer is not None:
            print(f"Run folder: {self.folder}")
            self.print_start()
        with (
            StopRequest(self.processes, self.trainer.device) as stop,
            progress("Training", self.total, f"{self.unit}s", self.done) as bar,
        ):
            while self.done < self.total:
                first, begin = self.done, time.time()
                until = min((first // tick + 1) * tick, self.total)
                while self.done < until and not stop.is_requested():
                    with threads.step(self.unit, self.trainer.device):
                        self.step()
                    if (reason := self.trainer.health.after_step()) is not None:
                        self.saver.fail(reason, self._counted)
                    bar.update(self.done, self.describe_progress())
                if stop.is_requested():
                    self._save_and_exit()
                self._end_tick(time.time() - begin, self.done - first)
                if self.done >= self.total or self.done // tick % self.config.snapshot_ticks == 0:
                    with progress("Saving the state"):
                        self._save()
                    self._try_preview()
                    barrier(self.processes)
                elif self.saver.unsaved:
                    self._save()
                else:
                    self.saver.check(self.trainer.state_dict(), self._counted)
        self.saver.finish(self._counted)
        if self.writer is not None:
            print(f"Done: {self.done} {self.unit}s. {self.describe_result()}")

    def _try_preview(self) -> None:
        if self.folder is None or self.writer is None:
            return
        with progress("Images and scores of the snapshot"):
            try:
                self.save_preview(self.folder, self.writer)
            # as a rule the disk is full, which is no reason to lose the run
            except UserError as error:
                print(f"  {error}")

    def _save_and_exit(self) -> None:
        self._save()
        # a process that left earlier would have torchrun end the one that saves
        barrier(self.processes)
        self.saver.finish(self._counted)
        if self.writer is not None:
            print(
                f"Stopped at {self.unit} {self.done}. "
                f"Continue with: {hint(f'scripts/{self.script}', f'--resume={self.folder}')}"
            )
        raise SystemExit(130)

    def _end_tick(self, seconds: float, count: int) -> None:
        stats, each, memory = (
            self.trainer.stats,
            seconds / max(count, 1),
            memory_use(self.trainer.device),
        )
        numbers = {
            f"Progress/{self.unit}": self.done,
            f"Timing/sec_per_{self.unit}": each,
            **self.measure(),
            **{f"Resources/{name}_gb": value for name, value in memory.items()},
        }
        for name, value in numbers.items():
            stats.report(name, float(value))
        summary = stats.collect()
        if self.writer is not None:
            print(
                f"{self.unit} {self.done:<7d} {self.describe_losses(summary)}"
                f"  sec/{self.unit} {each:<7.4f} time"
                f" {format_time(time.time() - self.started):<10s} cpumem"
                f" {memory['cpumem']:.2f}  eta {format_time((self.total - self.done) * each)}"
            )
            if (line := describe_bad_updates(summary)) is not None:
                print(f"  {line}")
            self.writer.write(summary, self.done)
        if (reason := judge_losses(summary)) is not None:
            self.saver.fail(reason, self._counted)

    def _save(self) -> None:
        """Write model and state, if they are sound; all processes call it."""
        state = {"trainer": self.trainer.state_dict(), "seconds": time.time() - self.started}
        self.saver.save(self.done, state, self.write_snapshot, self._counted)

    @property
    def _counted(self) -> str:
        return f"{self.unit} {self.done}"
