"""What a training run says.

The status line per tick, the line that moves in between, and the copy in log.txt.
"""

import os
import sys
from pathlib import Path
from typing import IO

import torch

from gghead.torch_utils import progress
from gghead.torch_utils.progress import format_time


def status_line(
    *,
    tick: int,
    images: int,  # images the discriminator has seen since the run began
    seconds: float,  # since the run began
    seconds_tick: float,  # of this tick
    images_tick: int,  # in this tick
    maintenance: float,  # seconds between ticks: snapshots, images, metrics
    memory: dict[str, float],  # see memory_use
    augment: float,  # ADA's p
    total_images: int | None = None,  # where the run ends; gives the time left
) -> str:
    """Return the line printed at the end of a tick, in the words that StyleGAN users grep for."""
    per_kimg = seconds_tick / max(images_tick, 1) * 1000
    parts = [
        f"tick {tick:<5d}",
        f"kimg {images / 1000:<8.1f}",
        f"time {format_time(seconds):<12s}",
        f"sec/tick {seconds_tick:<7.1f}",
        f"sec/kimg {per_kimg:<7.2f}",
        f"maintenance {maintenance:<6.1f}",
        f"cpumem {memory['cpumem']:<6.2f}",
        f"gpumem {memory['gpumem']:<6.2f}",
        f"reserved {memory['reserved']:<6.2f}",
        f"augment {augment:.3f}",
    ]
    if total_images is not None:
        parts.append(f" eta {format_time(max(total_images - images, 0) / 1000 * per_kimg)}")
    return " ".join(parts)


def memory_use(device: torch.device | str) -> dict[str, float]:
    """Return GiB in use: ``cpumem``, ``gpumem`` and ``reserved``.

    The first is resident now. The others are peaks of the device, 0 on CPUs.
    """
    device = torch.device(device)
    cuda = device.type == "cuda"
    return {
        "cpumem": _resident_bytes() / 2**30,
        "gpumem": torch.cuda.max_memory_allocated(device) / 2**30 if cuda else 0.0,
        "reserved": torch.cuda.max_memory_reserved(device) / 2**30 if cuda else 0.0,
    }


def _resident_bytes() -> int:
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class Tee:
    """A text stream that also goes to a log file; ``behind`` is the stream without the log."""

    def __init__(self, stream: IO[str], log: IO[str]) -> None:
        self.behind, self.log = stream, log
        self._told = False  # that the log cannot be written

    def write(self, text: str) -> int:
        """Write to both."""
        if text:
            progress.clear()
            self.behind.write(text)
            try:
                self.log.write(text)
                self.log.flush()  # a killed run keeps its log
            except OSError as error:
                self._warn(error, text)
        return len(text)

    def _warn(self, error: OSError, text: str = "\n") -> None:
        """Say once, at the end of a line, that the log lacks something.

        What it buffers it writes when it can.
        """
        if not text.endswith("\n"):
            return
        if not self._told:
            self.behind.write(
                f"  log.txt file could not be written ({error.strerror or error}); free space.\n"
            )
        self._told = True

    def flush(self) -> None:
        """Flush both."""
        self.behind.flush()
        try:
            self.log.flush()
        except OSError as error:
            self._warn(error)

    def isatty(self) -> bool:
        """Whether a person watches."""
        return self.behind.isatty()

    def __getattr__(self, name: str):
        return getattr(self.behind, name)
