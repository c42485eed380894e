"""Stopping between two steps instead of in the middle of one."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch

from gghead.torch_utils.distributed import Processes, any_process


class StopRequest:
    """Within it, the first Ctrl-C or SIGTERM is a request that ``is_requested`` reports.

    A second one interrupts at once.

    A state saved in the middle of a step would hold an updated generator and an old discriminator,
    and a run resumed from it would not be the run it continues.
    """

    def __init__(self, processes: Processes, device: torch.device) -> None:
        self.processes, self.device, self.asked = processes, device, False
        self._previous: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}

    def __enter__(self) -> "StopRequest":
        # elsewhere Python allows no handlers
        if threading.current_thread() is threading.main_thread():
            self._previous = {
                number: signal.signal(number, self._ask)
                for number in (signal.SIGINT, signal.SIGTERM)
            }
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def is_requested(self) -> bool:
        """Whether any process has been asked.

        All processes get the same answer at the same step.
        """
        return any_process(self.asked, self.processes, self.device)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
