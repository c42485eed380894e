"""What other programs cost: the same work on a quiet machine and beside busy processes, with
several thread counts."""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
import torch

from gghead.torch_utils.cores import processors
from gghead.torch_utils.governor import Governor, Load

_SETTLE = 4.0  # seconds that the chooser has to see a change of the load
_GOALS = "goals: 1.05 on a quiet machine, 1.10 beside others"


def _spin() -> None:
    while True:
        for _ in range(10**6):
            pass


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """``count`` processes that compute all the time, without threads of torch."""
    context = multiprocessing.get_context("spawn")
    running = [context.Process(target=_spin, daemon=True) for _ in range(count)]
    for process in running:
        process.start()
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.join()


def compare_threads(
    work: Callable[[], object], beside: int, repeats: int
) -> dict[str, dict[str, float]]:
    """Median milliseconds of ``work`` as {"quiet", "beside"} -> {"one", "all", "chosen"}, which
    take turns; printed with the ratios of "chosen" to the better of the others.

    Of every turn's runs the first is not counted: it makes or ends threads.
    """
    everything = torch.get_num_threads()
    said: list[str] = []
    governor = Governor(everything, len(processors()), Load(), torch.set_num_threads, said.append)
    results = {}
    try:
        for state, count in (("quiet", 0), ("beside", beside)):
            with busy_processes(count):
                results[state] = _measure(work, governor, everything, repeats)
    finally:
        torch.set_num_threads(everything)
    click.echo(
        f"ms with    one thread   {everything} threads   chosen   chosen / better of the two"
        f" ({_GOALS})"
    )
    for state, times in results.items():
        times["ratio"] = times["chosen"] / min(times["one"], times["all"])
        times["ratio_to_one"] = times["chosen"] / times["one"]
        name = "quiet" if state == "quiet" else f"beside {beside}"
        click.echo(
            f"{name:9s} {times['one']:11.1f} {times['all']:11.1f} {times['chosen']:8.1f}  "
            f" {times['ratio']:.3f}"
        )
    for sentence in said:
        click.echo(sentence)
    return results


def _measure(
    work: Callable[[], object], governor: Governor, everything: int, repeats: int
) -> dict[str, float]:
    times: dict[str, list[float]] = {"one": [], "all": [], "chosen": []}
    torch.set_num_threads(governor.count)
    begin, pieces = time.monotonic(), 0
    while time.monotonic() - begin < _SETTLE:
        with governor.step("work"):
            work()
        pieces += 1
    runs = 3 if pieces * 0.05 < _SETTLE else 12  # in a turn; more of short ones
    for _ in range(repeats):
        for name, count in (("one", 1), ("all", everything), ("chosen", 0)):
            torch.set_num_threads(count or governor.count)
            for turn in range(runs):
                start = time.perf_counter()
                if count:
                    work()
                else:
                    with governor.step("work"):
                        work()
                if turn:
                    times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}
