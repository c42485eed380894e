"""The loop that encoders, avatars, priors and expression transformers share."""

import contextlib
import importlib
import json
import os
import re
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from helpers.ranks import two_ranks

from gghead.checkpoints import latest_snapshot
from gghead.torch_utils.cli import hint
from gghead.torch_utils.distributed import Processes
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.files import write_atomically
from gghead.training.run import run_folder
from gghead.training.run.health import Health
from gghead.training.run.stats import Stats, StatsWriter
from gghead.training.run.step_run import StepRun


@dataclass
class Config:
    tick: int = 4
    snapshot_ticks: int = 2


class Counting:
    """A trainer whose loss at step n is 1 / n; ``at`` maps steps to what happens in them."""

    def __init__(self, at: dict | None = None) -> None:
        self.device, self.stats, self.index, self.at = torch.device("cpu"), Stats(), 0, at or {}
        self.health, self.weights, self.bad_updates = Health(self.stats), torch.zeros(3), range(0)

    def step(self) -> None:
        self.index += 1
        self.health.count("numbers", torch.tensor(self.index in self.bad_updates))
        self.stats.report("Loss/total", self.at.get(self.index, lambda: 1 / self.index)() or 0.0)

    def state_dict(self) -> dict:
        return {"index": self.index, "weights": self.weights, "stats": self.stats.state_dict()}


class Run(StepRun):
    script, looked = "train_prior.py", 0

    @property
    def done(self) -> int:
        return self.trainer.index

    def print_start(self) -> None:
        print("Data: numbers")

    def describe_losses(self, summary) -> str:
        return f"loss {summary['Loss/total']['mean']:.4f} twice {summary['Twice']['mean']:g}"

    def write_snapshot(self, folder: Path) -> None:
        write_atomically(
            folder / f"numbers-{self.done:06d}.txt", lambda file: file.write(b"%d" % self.done)
        )

    def save_preview(self, folder: Path, writer: StatsWriter) -> None:
        self.looked += 1

    def describe_result(self) -> str:
        return "Bye."

    def measure(self) -> dict[str, float]:
        return {"Twice": 2 * self.done}


def run(
    folder, trainer: Counting, total: int = 10, seconds: float = 0.0, kind: type[Run] = Run
) -> Run:
    with StatsWriter(folder, tensorboard=False) as writer:
        made = kind(Config(), folder, trainer, writer, seconds, total)
        made.train()
    return made


def spoil(trainer: Counting) -> None:
    trainer.weights.fill_(float("nan"))


def files(folder, pattern: str) -> list[str]:
    return sorted(path.name for path in folder.glob(pattern))


def test_ticks_snapshots_and_what_is_said(tmp_path, capsys):
    made = run(tmp_path, Counting())
    said = capsys.readouterr().out.splitlines()
    assert (
        said[:2] == [f"Run folder: {tmp_path}", "Data: numbers"]
        and said[-1] == "Done: 10 steps. Bye."
    )
    assert [re.match(r"step (\d+)", line)[1] for line in said[2:-1]] == ["4", "8", "10"]
    assert "loss 0.5208 twice 8 " in said[2]  # the mean of 1, 1/2, 1/3, 1/4
    assert (
        files(tmp_path, "numbers-*") == ["numbers-000008.txt", "numbers-000010.txt"]
        and made.looked == 2
    )
    lines = [json.loads(line) for line in (tmp_path / "stats.jsonl").read_text().splitlines()]
    assert [line["Progress/step"]["mean"] for line in lines] == [4, 8, 10]
    assert all(
        line["Timing/sec_per_step"]["mean"] >= 0 and "Resources/cpumem_gb" in line for line in lines
    )


def test_interrupt_saves_a_state_that_continues_where_it_stopped(tmp_path, capsys):
    trainer = Counting({6: lambda: os.kill(os.getpid(), signal.SIGINT)})
    with pytest.raises(SystemExit) as stop:
        run(tmp_path, trainer, seconds=1000.0)
    assert stop.value.code == 130
    assert (
        capsys.readouterr().out.splitlines()[-1] == "Stopped at step 6. Continue with:"
        f" {hint('scripts/train_prior.py', f'--resume={tmp_path}')}"
    )
    state = run_folder.load_state(tmp_path)
    assert (
        set(state) == {"trainer", "seconds"}
        and state["trainer"]["index"] == 6
        and state["seconds"] >= 1000
    )
    again = Counting()
    again.index = 6
    again.stats.load_state_dict(state["trainer"]["stats"])
    run(tmp_path, again, seconds=state["seconds"])
    said = capsys.readouterr().out
    assert [int(step) for step in re.findall(r"^step (\d+)", said, re.M)] == [8, 10]
    assert "time 16m 40s" in said  # the seconds before the interruption count


def test_a_loss_that_is_no_number_ends_the_run(tmp_path):
    with pytest.raises(
        UserError, match="Loss/total became nan at step 4\\. .* No state had been written before"
    ):
        run(tmp_path, Counting({3: lambda: float("nan")}))
    assert not files(tmp_path, "training-state-*")


def test_ten_bad_updates_in_a_row_end_the_run_with_the_last_good_state(tmp_path, capsys):
    trainer = Counting()
    trainer.bad_updates = range(12, 100)
    with pytest.raises(UserError) as error:
        run(tmp_path, trainer, total=100)
    assert trainer.index == 21
    assert str(error.value).startswith(
        "10 updates of the numbers in a row had losses or gradients that are no finite numbers at"
        " step 21. "
    )
    assert str(error.value).endswith(
        f"The last good state is {tmp_path}/training-state-000016.pt; continue from it with: "
        + hint("scripts/train_prior.py", f"--resume={tmp_path}")
    )
    assert run_folder.load_state(tmp_path)["trainer"]["index"] == 16
    assert "health: 4 of 4 updates" in capsys.readouterr().out


def test_fewer_bad_updates_are_counted_and_the_run_goes_on(tmp_path, capsys):
    trainer = Counting({index: lambda: float("nan") for index in range(2, 11)})
    trainer.bad_updates = range(2, 11)  # nine
    run(tmp_path, trainer, total=12)
    said = capsys.readouterr().out
    assert (
        "Done: 12 steps." in said
        and said.count("health: ") == 3
        and "health: 3 of 4 updates" in said
    )
    lines = [json.loads(line) for line in (tmp_path / "stats.jsonl").read_text().splitlines()]
    assert [line["Progress/bad_updates"]["mean"] for line in lines] == [0.75, 1.0, 0.5]


@pytest.mark.parametrize("step", [9, 14])
def test_a_bad_weight_ends_the_run_though_its_loss_is_finite(tmp_path, step, capsys):
    trainer = Counting()
    trainer.at[step] = lambda: spoil(trainer)
    with pytest.raises(
        UserError,
        match=(
            "The run has diverged: weights held numbers that are not finite at step "
            f"{12 if step == 9 else 16}\\. .*The last good state is .*-000008.pt"
        ),
    ):
        run(tmp_path, trainer, total=100)
    assert files(tmp_path, "training-state-*") == ["training-state-000008.pt"]
    assert (
        files(tmp_path, "numbers-*") == ["numbers-000008.txt"]
        and "Done" not in capsys.readouterr().out
    )


class Full(Run):
    """The disk is full while ``full`` says so."""

    full = range(8, 9)

    def write_snapshot(self, folder: Path) -> None:
        if self.done in self.full:
            raise UserError("numbers could not be written (No space left on device).")
        super().write_snapshot(folder)

    def save_preview(self, folder: Path, writer: StatsWriter) -> None:
        if self.done in self.full:
            raise UserError("preview.png could not be written (No space left on device).")


def test_a_state_that_could_not_be_written_is_tried_again_at_the_next_tick(tmp_path, capsys):
    seen = []
    trainer = Counting(
        {step: lambda: seen.append(files(tmp_path, "training-state-*")) for step in (9, 13)}
    )
    run(tmp_path, trainer, total=16, kind=Full)
    assert capsys.readouterr().out.count("No space left on device") == 2
    assert seen == [[], ["training-state-000012.pt"]]
    assert files(tmp_path, "training-state-*") == [
        "training-state-000012.pt",
        "training-state-000016.pt",
    ]


def test_a_run_that_ends_without_its_state_ends_with_an_error(tmp_path, capsys):
    class Late(Full):
        full = range(9, 99)

    with pytest.raises(
        UserError,
        match=(
            "The run ended at step 10, but what it had learned could not be saved: "
            "numbers could not be written .No space left on device.*-000008.pt"
        ),
    ):
        run(tmp_path, Counting(), kind=Late)
    assert "Done" not in capsys.readouterr().out


def test_a_run_whose_folder_is_gone_ends_with_an_error(tmp_path, capsys):
    folder = tmp_path / "run"
    trainer = Counting({9: lambda: shutil.rmtree(folder)})
    with pytest.raises(UserError, match="could not be saved: .*No such file or directory"):
        run(folder, trainer)
    assert "Done" not in capsys.readouterr().out


def test_a_stop_without_a_state_does_not_offer_to_continue_from_it(tmp_path, capsys):
    class Always(Full):
        full = range(99)

    trainer = Counting({6: lambda: os.kill(os.getpid(), signal.SIGTERM)})
    with pytest.raises(
        UserError, match="The run ended at step 6, but .* No state had been written before"
    ):
        run(tmp_path, trainer, kind=Always)
    assert "Continue with" not in capsys.readouterr().out


def test_other_processes_train_without_a_word(capsys):
    trainer = Counting()
    Run(Config(), None, trainer, None, 0.0, 10).train()
    assert trainer.index == 10 and not capsys.readouterr().out


def test_the_newest_state_and_snapshot_are_found_beyond_a_million_steps(tmp_path):
    """The preset headsup makes 1,100,000 steps; by name its later states came first and were
    removed as old ones."""
    for step in (950_000, 975_000, 1_000_000, 1_025_000):
        run_folder.save_state(tmp_path, step, {"trainer": step})
        (tmp_path / f"reconstructor-{step:06d}.safetensors").touch()
    assert files(tmp_path, "training-state-*") == [
        "training-state-1000000.pt",
        "training-state-1025000.pt",
    ]
    assert run_folder.load_state(tmp_path)["trainer"] == 1_025_000
    assert latest_snapshot(tmp_path).name == "reconstructor-1025000.safetensors"


class Slow(Run):
    def write_snapshot(self, folder: Path) -> None:
        time.sleep(1)
        super().write_snapshot(folder)


def stopped(rank: int, folder: Path) -> None:
    trainer = Counting({3: lambda: os.kill(os.getpid(), signal.SIGTERM) if rank else None})
    with writer_of(rank, folder) as writer, pytest.raises(SystemExit):
        Slow(Config(), folder, trainer, writer, 0.0, 10, Processes(rank, 2)).train()
    assert files(folder, "training-state-*") == ["training-state-000003.pt"], rank


def diverging(rank: int, folder: Path) -> None:
    trainer = Counting()
    if rank:
        trainer.at[9] = lambda: spoil(trainer)
    run = folder if rank == 0 else None
    with writer_of(rank, folder) as writer, pytest.raises((UserError, SystemExit)) as end:
        Run(Config(), run, trainer, writer, 0.0, 20, Processes(rank, 2)).train()
    assert end.value.code == 1 if rank else "a tensor of another process" in str(end.value)


def unsaved(rank: int, folder: Path) -> None:
    run = folder if rank == 0 else None
    with writer_of(rank, folder) as writer, pytest.raises((UserError, SystemExit)) as end:
        Full(Config(), run, Counting(), writer, 0.0, 8, Processes(rank, 2)).train()
    assert end.value.code == 1 if rank else "No space left on device" in str(end.value)


def writer_of(rank: int, folder: Path):
    return StatsWriter(folder, tensorboard=False) if rank == 0 else contextlib.nullcontext()


@pytest.fixture(scope="module")
def of_two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    two_ranks(folder, stopped, diverging, unsaved)
    return folder


def test_no_process_leaves_before_the_state_is_saved(of_two_processes):
    """Else torchrun, which sees one of its processes fail, ends the first one while it writes."""
    assert files(of_two_processes / "stopped", "training-state-*") == ["training-state-000003.pt"]


def test_all_processes_leave_when_one_of_them_has_a_bad_weight(of_two_processes):
    assert files(of_two_processes / "diverging", "training-state-*") == ["training-state-000008.pt"]


def test_all_processes_leave_with_an_error_when_the_first_cannot_save(of_two_processes):
    assert files(of_two_processes / "unsaved", "training-state-*") == []


@pytest.mark.parametrize(
    ("kind", "needed"),
    [
        ("avatar", ["--data=x"]),
        ("encoder", ["--data=x"]),
        ("expression", ["--data=x", "--network=y"]),
        ("prior", []),
    ],
)
def test_every_command_takes_tick_snap_and_seed(kind, needed):
    command = importlib.import_module(f"gghead.training.cli.train_{kind}").main
    result = CliRunner().invoke(
        command, [*needed, "--tick=7", "--snap=3", "--seed=5", "--device=cpu", "--dry-run=1"]
    )
    assert result.exit_code == 0, result.output
    config = json.loads(result.output[result.output.index("{") :])
    assert (config["tick"], config["snapshot_ticks"], config["seed"]) == (7, 3, 5)


@pytest.mark.parametrize(
    ("kind", "option", "rate"),
    [
        (
            "encoder",
            "--lr",
            lambda config: (config["rates"]["encoder"], config["rates"]["decoder"]),
        ),
        ("decoder", "--lr", lambda config: (config["rates"]["generator"],)),
        ("expression", "--lr", lambda config: (config["rate"],)),
        ("prior", "--lr", lambda config: (config["lr"],)),
    ],
)
def test_a_run_that_diverged_can_be_resumed_with_the_lower_rate_that_the_message_asks_for(
    kind, option, rate, tmp_path
):
    needed = {"expression": ["--data=x", "--network=y"], "prior": []}.get(kind, ["--data=x"])
    command = importlib.import_module(f"gghead.training.cli.train_{kind}").main

    def dry(*options):
        result = CliRunner().invoke(command, [*options, "--device=cpu", "--dry-run=1"])
        assert result.exit_code == 0, result.output
        return json.loads(result.output[result.output.index("{") :])

    before = dry(*needed)
    (tmp_path / run_folder.OPTIONS).write_text(json.dumps(before))
    after = dry(f"--resume={tmp_path}", f"{option}={rate(before)[0] / 2}")
    assert rate(after) == pytest.approx([value / 2 for value in rate(before)])
    remedy = importlib.import_module(f"gghead.training.{kind}.run")._Run.remedy
    assert f"`{option.lstrip(chr(45))}`" in remedy


def test_run_folders_of_runs_started_together_differ(tmp_path, monkeypatch):
    make, made = Path.mkdir, []

    def mkdir(self, *arguments, **options):
        if self.name == "00000-tiny" and not made:
            made.append(make(self))  # somebody else was faster
        make(self, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    assert run_folder.numbered_folder(tmp_path, ["tiny"]).name == "00001-tiny"
    (tmp_path / "file").touch()
    with pytest.raises(
        UserError, match="No run folder can be made in .*file.*; choose another `outdir`"
    ):
        run_folder.numbered_folder(tmp_path / "file", ["tiny"])
