"""Two processes that compute together, as under torchrun."""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.multiprocessing

Scenario = Callable[[int, Path], None]


def two_ranks(folder: Path, *scenarios: Scenario) -> None:
    """Call every ``scenario(rank, folder / its name)`` in the same two processes, each time in a
    new gloo group. One start serves several tests, since it takes seconds. What a process raises
    is raised here and ends the other one."""
    for scenario in scenarios:
        (folder / scenario.__name__).mkdir()
    torch.multiprocessing.spawn(_run, (folder, scenarios), nprocs=2)


def _run(rank: int, folder: Path, scenarios: tuple[Scenario, ...]) -> None:
    torch.set_num_threads(1)
    for scenario in scenarios:
        place = folder / scenario.__name__
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{place}/meet", rank=rank, world_size=2
        )
        scenario(rank, place)
        torch.distributed.destroy_process_group()
