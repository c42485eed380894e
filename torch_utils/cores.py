"""The processor, and which of its cores this process may use."""

import contextlib
import os
import platform
from pathlib import Path


def processor_name() -> str:
    """The processor's name, as the system tells it."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        line = next(line for line in lines if line.startswith("model name"))
        return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def processors() -> tuple[int, ...]:
    """The numbers of the cores that the system lets this process run on, at least one."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def cores() -> int:
    """Their number."""
    return len(processors())
