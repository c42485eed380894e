"""Which device a process takes, what it says while it waits, and gradients that are no numbers."""

import io
import math
import os
import sys
import time

import pytest
import torch
import torch.multiprocessing

from gghead.torch_utils import distributed
from gghead.torch_utils.distributed import Processes, any_process, average_gradients, barrier
from gghead.torch_utils.errors import UserError


@pytest.mark.parametrize(
    ("wanted", "local", "device"),
    [
        ("cuda", None, "cuda:0"),
        ("cuda:1", None, "cuda:1"),
        ("cuda:1", "3", "cuda:3"),
        ("cpu", "3", "cpu"),
    ],
)
def test_a_named_gpu_is_taken_but_under_torchrun(wanted, local, device, monkeypatch):
    taken = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    if local is not None:
        monkeypatch.setenv("LOCAL_RANK", local)
    assert distributed.start(torch.device(wanted)) == (Processes(), torch.device(device))
    assert taken == ([torch.device(device)] if "cuda" in wanted else [])


def gradients(*values):
    parameters = [
        torch.nn.Parameter(torch.zeros(2)),
        torch.nn.Parameter(torch.zeros(1)),
        torch.nn.Parameter(torch.zeros(1)),
    ]
    parameters[0].grad, parameters[1].grad = torch.tensor(values[:2]), torch.tensor(values[2:])
    return parameters


@pytest.mark.parametrize(
    ("values", "loss", "bad"),
    [
        ((1.0, 2.0, 3.0), 0.5, False),
        ((1.0, math.nan, 3.0), 0.5, True),
        ((1.0, 2.0, -math.inf), 0.5, True),
        ((math.inf, -math.inf, 1.0), 0.5, True),
        ((1.0, 2.0, 3.0), math.nan, True),
        ((1.0, 2.0, 3.0), math.inf, True),
    ],
)
def test_bad_updates_are_told(values, loss, bad):
    parameters = gradients(*values)
    assert bool(average_gradients(parameters, Processes(), torch.tensor(loss))) == bad
    wanted = torch.nan_to_num(torch.tensor(values), nan=0.0, posinf=1e5, neginf=-1e5)
    assert (
        torch.equal(torch.cat([p.grad for p in parameters[:2]]), wanted)
        and parameters[2].grad is None
    )


def _join(rank: int, folder: str) -> Processes:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
    )
    return Processes(rank, 2)


def _one_is_bad(rank: int, folder: str) -> None:
    processes = _join(rank, folder)
    for values, loss, bad in (
        ((1.0, 2.0, 3.0), 1.0, False),
        ((1.0, math.nan if rank else 2.0, 3.0), 1.0, True),
        ((1.0, 2.0, 3.0), math.nan if rank else 1.0, True),
    ):
        parameters = gradients(*values)
        assert bool(average_gradients(parameters, processes, torch.tensor(loss))) == bad, rank
        assert torch.isfinite(parameters[0].grad).all() and parameters[1].grad == 3.0
    assert any_process(rank == 1, processes) and not any_process(False, processes)
    torch.distributed.destroy_process_group()


def test_an_update_that_is_bad_in_one_process_is_bad_in_all(tmp_path):
    torch.multiprocessing.spawn(_one_is_bad, (str(tmp_path),), nprocs=2)


def _late(rank: int, folder: str) -> None:
    processes, distributed.SAY_EVERY = _join(rank, folder), 0.2
    sys.stderr = said = io.StringIO()
    barrier(processes, "the start")
    said.truncate(said.seek(0))
    if rank == 1:
        time.sleep(1.5)
    barrier(processes, "the metrics")
    lines = said.getvalue().splitlines()
    if rank == 0:
        assert len(lines) >= 2 and all(
            line.startswith("Process 0 of 2 has waited ") for line in lines
        ), lines
        assert all(line.endswith(" s for the metrics.") for line in lines)
    torch.distributed.destroy_process_group()


def test_a_process_that_waits_says_for_what(tmp_path):
    torch.multiprocessing.spawn(_late, (str(tmp_path),), nprocs=2)


def _one_dies(rank: int, folder: str) -> None:
    processes = _join(rank, folder)
    barrier(processes)
    if rank == 1:
        os._exit(0)
    with pytest.raises(
        UserError, match="waited for the gradients of a step, but another process is gone"
    ):
        average_gradients(gradients(1.0, 2.0, 3.0), processes)
    os._exit(0)  # a group without its other half cannot be left


def test_a_process_that_dies_is_noticed(tmp_path):
    torch.multiprocessing.spawn(_one_dies, (str(tmp_path),), nprocs=2)
