"""Writing a run's model and state so that what is on the disk is sound, whole and read back.

* Nothing is written that is not sound (``training/run/health.py``): the run ends, and the last good
  state stays.
* A file that cannot be written while a run goes on is spoken of and tried again at the next tick.
* A run that ends or is stopped without its state on the disk ends with an error.
"""

from collections.abc import Callable
from pathlib import Path

import torch

from gghead.torch_utils.cli import hint
from gghead.torch_utils.distributed import Processes, any_process, barrier, fail_together
from gghead.torch_utils.errors import UserError
from gghead.training.run import run_folder
from gghead.training.run.health import broken_tensors

_NAMED = 3  # broken tensors that are spoken of


class Saver:
    """One process's part in saving.

    Only the first process writes; all come to the same decisions.
    """

    def __init__(
        self,
        folder: Path | None,
        processes: Processes,
        device: torch.device | str,
        script: str,
        remedy: str,
    ) -> None:
        """``folder`` is ``None`` but in the first process.

        ``script`` continues the run (``cli.hint``), ``remedy`` what to change before a run that
        went wrong is continued.
        """
        self.folder, self.processes, self.device = folder, processes, device
        self.script, self.remedy = script, remedy
        self.unsaved = False
        """Whether the last attempt to write failed; the same in all processes."""
        self._refusal = ""

    def fail(self, reason: str, counted: str) -> None:
        """End all processes with ``reason``, up to ``counted``, and name the last good state.

        ``counted`` is such as "step 40".
        """
        fail_together(
            f"{reason[:1].upper()}{reason[1:]} at {counted}. {self.remedy} {self._last_good()}",
            self.processes,
        )

    def check(self, state: dict, counted: str) -> None:
        """End all processes if a tensor of ``state`` is not finite in one of them.

        ``state`` is the trainer's ``state_dict``.
        """
        broken = broken_tensors(state)
        if any_process(bool(broken), self.processes, self.device):
            more = f" and {len(broken) - _NAMED} more" if len(broken) > _NAMED else ""
            names = ", ".join(broken[:_NAMED]) or "a tensor of another process"
            self.fail(
                f"the run has diverged: {names}{more} held numbers that are not finite", counted
            )

    def save(
        self, count: float, state: dict, write_snapshot: Callable[[Path], object], counted: str
    ) -> None:
        """Check ``state["trainer"]``, then write the snapshot into the folder, and ``state``.

        All processes call it with theirs.
        """
        self.check(state["trainer"], counted)
        self._refusal = ""
        if self.folder is not None:
            try:
                write_snapshot(self.folder)
                run_folder.save_state(self.folder, count, state)
            except UserError as error:
                self._refusal = str(error)
                print(f"  {error}")
        barrier(self.processes, "the first process, which writes model and state")
        self.unsaved = any_process(bool(self._refusal), self.processes, self.device)

    def finish(self, counted: str) -> None:
        """End all processes with an error if the last state or snapshot was not written.

        It is called at the end of a run.
        """
        if self.unsaved:
            fail_together(
                f"The run ended at {counted}, but what it had learned could not be saved:"
                f" {self._refusal} {self._last_good()}",
                self.processes,
            )

    def _last_good(self) -> str:
        path = run_folder.newest_state(self.folder) if self.folder is not None else None
        if path is None:
            return "No state had been written before."
        again = hint(self.script, f"--resume={self.folder}")
        return f"The last good state is {path}; continue from it with: {again}"
