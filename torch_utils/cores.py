"""Which processor cores this process may use."""

import os


def processors() -> tuple[int, ...]:
    """The numbers of the cores that the system lets this process run on, at least one."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def cores() -> int:
    """Their number."""
    return len(processors())
