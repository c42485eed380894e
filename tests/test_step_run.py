"""The loop that encoders, avatars, priors and expression transformers share."""

import contextlib
import importlib
import json
import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from click.testing import CliRunner

from gghead.checkpoints import latest_snapshot
from gghead.torch_utils.distributed import Processes
from gghead.torch_utils.errors import UserError
from gghead.training import run_folder
from gghead.training.stats import Stats, StatsWriter
from gghead.training.step_run import StepRun


@dataclass
class Config:
    tick: int = 4
    snapshot_ticks: int = 2


class Counting:
    """A trainer whose loss at step n is 1 / n; ``at`` maps steps to what happens in them."""

    def __init__(self, at: dict | None = None) -> None:
        self.device, self.stats, self.index, self.at = torch.device("cpu"), Stats(), 0, at or {}

    def step(self) -> None:
        self.index += 1
        self.stats.report("Loss/total", self.at.get(self.index, lambda: 1 / self.index)() or 0.0)

    def state_dict(self) -> dict:
        return {"index": self.index, "stats": self.stats.state_dict()}


class Run(StepRun):
    script, looked = "train_prior.py", 0

    @property
    def done(self) -> int:
        return self.trainer.index

    def say_start(self) -> None:
        print("Data: numbers")

    def status(self, summary) -> str:
        return f"loss {summary['Loss/total']['mean']:.4f} twice {summary['Twice']['mean']:g}"

    def write_snapshot(self) -> None:
        (self.folder / f"numbers-{self.done:06d}.txt").write_text(str(self.done))

    def look(self) -> None:
        self.looked += 1

    def farewell(self) -> str:
        return "Bye."

    def measures(self) -> dict[str, float]:
        return {"Twice": 2 * self.done}


def run(folder, trainer: Counting, total: int = 10, seconds: float = 0.0, kind: type[Run] = Run) -> Run:
    with StatsWriter(folder, tensorboard=False) as writer:
        made = kind(Config(), folder, trainer, writer, seconds, total)
        made.train()
    return made


def files(folder, pattern: str) -> list[str]:
    return sorted(path.name for path in folder.glob(pattern))


def test_ticks_snapshots_and_what_is_said(tmp_path, capsys):
    made = run(tmp_path, Counting())
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == [f"Run folder: {tmp_path}", "Data: numbers"] and said[-1] == "Done: 10 steps. Bye."
    assert [re.match(r"step (\d+)", line)[1] for line in said[2:-1]] == ["4", "8", "10"]
    assert "loss 0.5208 twice 8 " in said[2]  # the mean of 1, 1/2, 1/3, 1/4
    assert files(tmp_path, "numbers-*") == ["numbers-000008.txt", "numbers-000010.txt"] and made.looked == 2
    lines = [json.loads(line) for line in (tmp_path / "stats.jsonl").read_text().splitlines()]
    assert [line["Progress/step"]["mean"] for line in lines] == [4, 8, 10]
    assert all(line["Timing/sec_per_step"]["mean"] >= 0 and "Resources/cpumem_gb" in line for line in lines)


def test_interrupt_saves_a_state_that_continues_where_it_stopped(tmp_path, capsys):
    trainer = Counting({6: lambda: os.kill(os.getpid(), signal.SIGINT)})
    with pytest.raises(SystemExit) as stop:
        run(tmp_path, trainer, seconds=1000.0)
    assert stop.value.code == 130
    assert capsys.readouterr().out.splitlines()[-1] == \
        f"Stopped at step 6. Continue with: python scripts/train_prior.py --resume={tmp_path}"
    state = run_folder.load_state(tmp_path)
    assert set(state) == {"trainer", "seconds"} and state["trainer"]["index"] == 6 and state["seconds"] >= 1000
    again = Counting()
    again.index = 6
    again.stats.load_state_dict(state["trainer"]["stats"])
    run(tmp_path, again, seconds=state["seconds"])
    said = capsys.readouterr().out
    assert [int(step) for step in re.findall(r"^step (\d+)", said, re.M)] == [8, 10]
    assert "time 16m 40s" in said  # the seconds before the interruption count


def test_a_loss_that_is_no_number_ends_the_run(tmp_path):
    with pytest.raises(UserError, match="The loss became nan before step 4; resume from the last state\\."):
        run(tmp_path, Counting({3: lambda: float("nan")}))
    assert not files(tmp_path, "training-state-*")


def test_full_disk_at_a_snapshot_does_not_end_the_run(tmp_path, capsys):
    class Full(Run):
        def write_snapshot(self) -> None:
            if self.done == 8:
                raise UserError("numbers could not be written (No space left on device).")
            super().write_snapshot()

        def look(self) -> None:
            if self.done == 8:
                raise UserError("preview.png could not be written (No space left on device).")

    run(tmp_path, Counting(), kind=Full)
    assert capsys.readouterr().out.count("No space left on device") == 2
    assert files(tmp_path, "training-state-*") == ["training-state-000010.pt"]


def test_other_processes_train_without_a_word(capsys):
    trainer = Counting()
    Run(Config(), None, trainer, None, 0.0, 10).train()
    assert trainer.index == 10 and not capsys.readouterr().out


def test_the_newest_state_and_snapshot_are_found_beyond_a_million_steps(tmp_path):
    """The preset headsup makes 1,100,000 steps; by name its later states came first and were removed as old ones."""
    for step in (950_000, 975_000, 1_000_000, 1_025_000):
        run_folder.save_state(tmp_path, step, {"trainer": step})
        (tmp_path / f"reconstructor-{step:06d}.safetensors").touch()
    assert files(tmp_path, "training-state-*") == ["training-state-1000000.pt", "training-state-1025000.pt"]
    assert run_folder.load_state(tmp_path)["trainer"] == 1_025_000
    assert latest_snapshot(tmp_path).name == "reconstructor-1025000.safetensors"


class Slow(Run):
    def write_snapshot(self) -> None:
        time.sleep(1)
        super().write_snapshot()


def _stopped_rank(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    trainer = Counting({3: lambda: os.kill(os.getpid(), signal.SIGTERM) if rank else None})
    run = Path(folder) / "run"
    with StatsWriter(run, tensorboard=False) if rank == 0 else contextlib.nullcontext() as writer:
        with pytest.raises(SystemExit):
            Slow(Config(), run, trainer, writer, 0.0, 10, Processes(rank, 2)).train()
    assert files(run, "training-state-*") == ["training-state-000003.pt"], rank
    torch.distributed.destroy_process_group()


def test_no_process_leaves_before_the_state_is_saved(tmp_path):
    """Else torchrun, which sees one of its processes fail, ends the first one while it writes."""
    torch.multiprocessing.spawn(_stopped_rank, (str(tmp_path),), nprocs=2)


@pytest.mark.parametrize(("kind", "needed"), [
    ("avatar", ["--data=x"]), ("encoder", ["--data=x"]), ("expression", ["--data=x", "--network=y"]), ("prior", []),
])
def test_every_command_takes_tick_snap_and_seed(kind, needed):
    command = importlib.import_module(f"gghead.training.{kind}.cli").main
    result = CliRunner().invoke(command, [*needed, "--tick=7", "--snap=3", "--seed=5", "--device=cpu", "--dry-run=1"])
    assert result.exit_code == 0, result.output
    config = json.loads(result.output[result.output.index("{"):])
    assert (config["tick"], config["snapshot_ticks"], config["seed"]) == (7, 3, 5)


@pytest.mark.parametrize(("kind", "option", "rate"), [
    ("encoder", "--lr", lambda config: (config["rates"]["encoder"], config["rates"]["decoder"])),
    ("expression", "--rate", lambda config: (config["rate"],)), ("prior", "--lr", lambda config: (config["lr"],)),
])
def test_a_run_that_diverged_can_be_resumed_with_the_lower_rate_that_the_message_asks_for(kind, option, rate, tmp_path):
    needed = {"encoder": ["--data=x"], "expression": ["--data=x", "--network=y"], "prior": []}[kind]
    command = importlib.import_module(f"gghead.training.{kind}.cli").main

    def dry(*options):
        result = CliRunner().invoke(command, [*options, "--device=cpu", "--dry-run=1"])
        assert result.exit_code == 0, result.output
        return json.loads(result.output[result.output.index("{"):])

    before = dry(*needed)
    (tmp_path / run_folder.OPTIONS).write_text(json.dumps(before))
    after = dry(f"--resume={tmp_path}", f"{option}={rate(before)[0] / 2}")
    assert rate(after) == pytest.approx([value / 2 for value in rate(before)])
    assert option in importlib.import_module(f"gghead.training.{kind}.run")._Run.remedy


def test_run_folders_of_runs_started_together_differ(tmp_path, monkeypatch):
    make, made = Path.mkdir, []

    def mkdir(self, *arguments, **options):
        if self.name == "00000-tiny" and not made:
            made.append(make(self))  # somebody else was faster
        make(self, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    assert run_folder.numbered_folder(tmp_path, ["tiny"]).name == "00001-tiny"
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="No run folder can be made in .*file.*; choose another --outdir"):
        run_folder.numbered_folder(tmp_path / "file", ["tiny"])
