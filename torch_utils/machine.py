"""The machine that this process runs on.

Its processor, the cores it may use, and the memory that glibc keeps.
"""

import ctypes
import os
import platform
import sys
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
_LARGEST = 2**31 - 1


def processor_name() -> str:
    """The processor's name, as the system tells it."""
    for line in _processor_lines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def processor_features() -> str:
    """The processor's name and the instructions that it has, one line for each kind of core."""
    lines = (
        line for line in _processor_lines() if line.startswith(("model name", "flags", "Features"))
    )
    return "\n".join(dict.fromkeys(lines)) or f"{platform.processor()} {platform.machine()}"


def _processor_lines() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # only Linux has it
        return []


def processors() -> tuple[int, ...]:
    """The numbers of the cores that the system lets this process run on, at least one."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def cores() -> int:
    """The number of cores that the system lets this process run on."""
    return len(processors())


def keep_freed_memory() -> bool:
    """Tell glibc to keep what is freed, and return whether it was told.

    Otherwise it is handed back to the system. By default every tensor above some megabytes is fresh
    memory whose pages the kernel has to map and clear anew, in each step: about a fifth of a
    training step on CPUs. The price is that the process never shrinks below its peak.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None:
        return False
    return all(mallopt(option, _LARGEST) == 1 for option in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD))
