"""Which device a process takes, what it says while it waits, and gradients that are no numbers."""

import io
import json
import math
import os
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers.ranks import two_ranks

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


def bad_updates(rank: int, folder: Path) -> None:
    processes, told = Processes(rank, 2), []
    for values, loss in (
        ((1.0, 2.0, 3.0), 1.0),
        ((1.0, math.nan if rank else 2.0, 3.0), 1.0),
        ((1.0, 2.0, 3.0), math.nan if rank else 1.0),
    ):
        parameters = gradients(*values)
        told.append(bool(average_gradients(parameters, processes, torch.tensor(loss))))
        assert torch.isfinite(parameters[0].grad).all() and parameters[1].grad == 3.0
    assert any_process(rank == 1, processes) and not any_process(False, processes)
    (folder / f"{rank}.json").write_text(json.dumps(told))


def late(rank: int, folder: Path) -> None:
    processes, kept, distributed.SAY_EVERY = Processes(rank, 2), sys.stderr, 0.2
    sys.stderr = said = io.StringIO()
    barrier(processes, "the start")
    said.truncate(said.seek(0))
    if rank == 1:
        time.sleep(1.5)
    barrier(processes, "the metrics")
    sys.stderr = kept
    (folder / f"{rank}.txt").write_text(said.getvalue())


def dying(rank: int, folder: Path) -> None:
    processes = Processes(rank, 2)
    barrier(processes)
    if rank == 1:
        os._exit(0)
    with pytest.raises(UserError) as end:
        average_gradients(gradients(1.0, 2.0, 3.0), processes)
    (folder / "0.txt").write_text(str(end.value))
    os._exit(0)  # a group without its other half cannot be left


@pytest.fixture(scope="module")
def of_two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    two_ranks(folder, bad_updates, late, dying)
    return folder


@pytest.mark.parametrize("rank", [0, 1])
def test_an_update_that_is_bad_in_one_process_is_bad_in_all(of_two_processes, rank):
    told = json.loads((of_two_processes / "bad_updates" / f"{rank}.json").read_text())
    assert told == [False, True, True]


def test_a_process_that_waits_says_for_what(of_two_processes):
    lines = (of_two_processes / "late" / "0.txt").read_text().splitlines()
    assert len(lines) >= 2
    for line in lines:
        assert line.startswith("Process 0 of 2 has waited "), lines
        assert line.endswith(" s for the metrics."), lines


def test_a_process_that_dies_is_noticed(of_two_processes):
    said = (of_two_processes / "dying" / "0.txt").read_text()
    assert "waited for the gradients of a step, but another process is gone" in said
