"""What all benchmarks share: the machine, interleaved medians, peak memory."""

import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from gghead.torch_utils.machine import processor_name
from gghead.torch_utils.progress import track


def describe_machine(device: torch.device) -> dict[str, str | int]:
    """What the figures were measured on."""
    about = {
        "processor": processor_name(),
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "simd": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else -1,
    }
    if device.type == "cuda":
        about["gpu"] = torch.cuda.get_device_name(device)
    return about


def interleaved_medians(
    runs: dict[str, Callable[[], object]], repeats: int, device: torch.device
) -> dict[str, float]:
    """Median milliseconds of every run.

    They take turns, so that other work on the machine hits all of them alike.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in track(range(repeats + 1), "Timing", unit="rounds"):
        for name, run in runs.items():
            synchronize(device)
            start = time.perf_counter()
            run()
            synchronize(device)
            if repeat > 0:  # the first round warms up
                times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def peak_memory(device: torch.device) -> float:
    """GiB: the process's largest resident size, or the device's largest allocation."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def resident_growth(run: Callable[[], object]) -> float:
    """MiB by which the process's resident memory rises at most during ``run`` (Linux)."""

    def status(key: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith(key)))

    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = status("VmRSS")
    run()
    return (status("VmHWM") - before) / 1024


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
