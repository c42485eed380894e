"""Statistics between ticks, their files, the status line and the copy of the output in log.txt."""

import io
import json
import math
import os
import sys
from pathlib import Path

import numpy
import pytest
import torch
from helpers.ranks import two_ranks

from gghead.torch_utils import progress
from gghead.training.run import console
from gghead.training.run.stats import Stats, StatsWriter


def test_moments_do_not_depend_on_the_batches():
    values = torch.randn(100) * 3 + 1
    whole, parts = Stats(), Stats()
    whole.report("Loss/G/loss", values)
    for part in values.split(7):
        parts.report("Loss/G/loss", part.reshape(-1, 1))
    one, other = whole.collect()["Loss/G/loss"], parts.collect()["Loss/G/loss"]
    assert one["num"] == other["num"] == 100
    assert (
        one["mean"] == pytest.approx(float(values.double().mean())) == pytest.approx(other["mean"])
    )
    assert (
        one["std"]
        == pytest.approx(float(values.double().std(correction=0)))
        == pytest.approx(other["std"])
    )


def test_kinds_of_values():
    stats = Stats()
    for values in (
        1,
        2.0,
        True,
        [3.0, 4.0],
        numpy.array([5]),
        torch.tensor(6, dtype=torch.bfloat16),
        torch.zeros(0),
    ):
        stats.report("x", values)
    assert stats.as_dict()["x"]["num"] == 7
    assert stats.mean("x") == pytest.approx(22 / 7)
    assert math.isnan(stats.mean("absent")) and stats.mean("absent", 0.5) == 0.5


def test_collect_starts_anew():
    stats = Stats()
    stats.report("x", 1)
    assert stats.collect() == {"x": {"num": 1, "mean": 1.0, "std": 0.0}}
    assert stats.collect() == {}


def test_nan_is_not_hidden():
    stats = Stats()
    stats.report("x", torch.tensor([1.0, math.nan]))
    summary = stats.collect()["x"]
    assert summary["num"] == 2 and math.isnan(summary["mean"]) and math.isnan(summary["std"])


def test_reports_hold_no_graph():
    stats = Stats()
    stats.report("x", torch.ones(3, requires_grad=True) * 2)
    assert not any(moments.requires_grad for moments in stats._moments.values())


def test_state_survives():
    stats, other = Stats(), Stats()
    stats.report("x", [1.0, 4.0])
    other.load_state_dict(json.loads(json.dumps(stats.state_dict())))
    assert other.collect() == stats.collect()


def report_both(rank: int, folder: Path) -> None:
    stats = Stats()
    stats.report("both", [1.0, 2.0] if rank else [3.0])
    if rank:
        stats.report("only second", 5.0)
    summary = stats.collect()
    (folder / f"{rank}.json").write_text(json.dumps([summary, stats.collect()]))


def test_ranks_are_summed_even_where_names_differ(tmp_path):
    two_ranks(tmp_path, report_both)
    first, second = (
        json.loads((tmp_path / "report_both" / f"{rank}.json").read_text()) for rank in range(2)
    )
    assert first == second
    assert first[0]["both"]["num"] == 3 and first[0]["both"]["mean"] == 2.0
    assert first[0]["only second"] == {"num": 1, "mean": 5.0, "std": 0.0}
    assert first[1] == {}


def test_writer_appends_to_stats_and_log(tmp_path, capsys):
    for run in range(2):
        with StatsWriter(tmp_path, tensorboard=False) as writer:
            print(f"run {run}")
            print("oops", file=sys.stderr)
            writer.write({"x": {"num": 1, "mean": 2.0 + run, "std": math.nan}}, images=1000)
    lines = [json.loads(line) for line in (tmp_path / "stats.jsonl").read_text().splitlines()]
    assert [line["x"]["mean"] for line in lines] == [2.0, 3.0]
    assert lines[0]["x"]["std"] is None and lines[0]["timestamp"] > 0
    assert (tmp_path / "log.txt").read_text() == "run 0\noops\nrun 1\noops\n"
    seen = capsys.readouterr()
    assert seen.out == "run 0\nrun 1\n" and seen.err == "oops\noops\n"


@pytest.mark.parametrize(("counter", "unit"), [("Progress/kimg", 0.001), ("Progress/step", 1)])
def test_what_was_written_beyond_the_state_is_dropped_when_a_run_is_resumed(
    counter, unit, tmp_path
):
    def tick(writer, count):
        writer.write({counter: {"num": 1, "mean": count * unit, "std": 0.0}}, images=count)

    with StatsWriter(tmp_path, tensorboard=False) as writer:
        for count in (16, 32, 48, 64):
            tick(writer, count)
    with (tmp_path / "stats.jsonl").open("a") as file:
        file.write('{"Progress/st')  # killed while it wrote
    with StatsWriter(tmp_path, tensorboard=False, done=32) as writer:
        tick(writer, 48)
    counted = [
        json.loads(line)[counter]["mean"] / unit
        for line in (tmp_path / "stats.jsonl").read_text().splitlines()
    ]
    assert counted == pytest.approx([16, 32, 48])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # tensorboard's own imports
def test_tensorboard_shows_no_tick_twice_after_a_resume(tmp_path):
    pytest.importorskip("tensorboard")
    for done, steps in ((None, (10, 20, 30)), (10, (20, 30, 40))):
        with StatsWriter(tmp_path, done=done) as writer:
            for step in steps:
                writer.write_values({"Loss/total": float(step + (done or 0))}, images=step)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("Loss/total")] == [
        (10, 10),
        (20, 30),
        (30, 40),
        (40, 50),
    ]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk_is_said_once_and_ends_nothing(tmp_path, capsys):
    for name in ("log.txt", "stats.jsonl"):
        (tmp_path / name).symlink_to("/dev/full")
    with StatsWriter(tmp_path, tensorboard=False) as writer:
        for tick in range(3):
            print(f"tick {tick}")
            writer.write({"x": {"num": 1, "mean": float(tick), "std": 0.0}}, images=tick)
    said = capsys.readouterr().out
    assert [said.count(f"tick {tick}") for tick in range(3)] == [1, 1, 1]
    for name in ("log.txt", "stats.jsonl"):
        assert (
            said.count(f"{name} file could not be written (No space left on device); free space.")
            == 1
        )


def test_streams_come_back_after_a_failure(tmp_path):
    before = sys.stdout, sys.stderr
    with pytest.raises(RuntimeError), StatsWriter(tmp_path, tensorboard=False) as writer:
        raise RuntimeError
    assert (sys.stdout, sys.stderr) == before
    writer.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # tensorboard's own imports
def test_tensorboard_events(tmp_path):
    pytest.importorskip("tensorboard")
    with StatsWriter(tmp_path) as writer:
        writer.write({"Loss/G/loss": {"num": 2, "mean": 1.5, "std": 0.5}}, images=4000)
        writer.write_values({"Metrics/frd2k": 3.0}, images=4000)
        writer.write_image("fakes", numpy.zeros((8, 8, 3), dtype=numpy.uint8), images=4000)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert (
        events.Scalars("Loss/G/loss")[0].value == 1.5
        and events.Scalars("Loss/G/loss")[0].step == 4000
    )
    assert events.Scalars("Metrics/frd2k")[0].value == 3.0
    assert events.Images("fakes")[0].width == 8


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_moving_line_is_erased_and_never_logged(monkeypatch):
    monkeypatch.setenv("GGHEAD_PROGRESS", "on")
    screen, log = Terminal(), io.StringIO()
    tee = console.Tee(screen, log)
    with progress.Progress("step", stream=tee) as bar:
        bar.show()
        tee.write("tick\n")
    assert screen.getvalue() == "\rstep  0s\r        \rtick\n"
    assert log.getvalue() == "tick\n"


def test_plain_moving_lines_are_not_logged_either(monkeypatch):
    monkeypatch.setenv("GGHEAD_PROGRESS", "on")
    screen, log = io.StringIO(), io.StringIO()
    with progress.Progress("step", at_once=True, stream=console.Tee(screen, log)):
        pass
    assert screen.getvalue() == "step …\n" and log.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-3, "0s"),
        (59.6, "1m 00s"),
        (190, "3m 10s"),
        (3600, "1h 00m 00s"),
        (86400 + 7200 + 180, "1d 02h 03m"),
    ],
)
def test_format_time(seconds, text):
    assert console.format_time(seconds) == text


def test_status_line_has_stylegans_words():
    memory = {"cpumem": 4.5, "gpumem": 6.2, "reserved": 7.0}
    line = console.status_line(
        tick=12,
        images=48000,
        seconds=190,
        seconds_tick=15.1,
        images_tick=4000,
        maintenance=0.1,
        memory=memory,
        augment=0.0,
        total_images=100000,
    )
    words = " ".join(line.split())
    assert (
        words
        == "tick 12 kimg 48.0 time 3m 10s sec/tick 15.1 sec/kimg 3.77 maintenance 0.1 cpumem 4.50 "
        "gpumem 6.20 reserved 7.00 augment 0.000 eta 3m 16s"
    )


def test_memory_of_a_cpu():
    memory = console.memory_use("cpu")
    assert memory["cpumem"] > 0.01 and memory["gpumem"] == memory["reserved"] == 0
