"""The line that a command shows while it works."""

import io
import re
import subprocess
import sys
import time

import click
import pytest
from click.testing import CliRunner

from gghead.torch_utils import cli
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.progress import Progress, format_time, progress, track


@pytest.fixture(autouse=True)
def progress_is_on(monkeypatch):
    monkeypatch.delenv("GGHEAD_PROGRESS", raising=False)
    monkeypatch.delenv("RANK", raising=False)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(stream, steps, total=10, **settings):
    clock = Clock()
    with Progress("Drawing", total, "heads", stream=stream, clock=clock, **settings) as bar:
        for seconds, count in steps:
            clock.now += seconds
            bar.advance(count)
            bar.show()
    return stream.getvalue()


def test_a_pipe_gets_a_line_after_a_second_and_then_one_every_five_seconds():
    text = shown(io.StringIO(), [(0.5, 1), (0.6, 1), (3.0, 1), (2.1, 1), (1.0, 1)])
    assert text.splitlines() == [
        "Drawing 2/10 heads (20%)  1s  eta 4s",
        "Drawing 4/10 heads (40%)  6s  eta 9s",
        "Drawing: done in 7s",
    ]


def test_short_work_says_nothing_in_a_pipe():
    assert shown(io.StringIO(), [(0.2, 5), (0.2, 5)]) == ""


def test_a_terminal_gets_one_line_in_place_that_is_gone_at_the_end():
    text = shown(Terminal(), [(1.0, 5), (1.0, 5)])
    assert "\n" not in text and text.endswith("\r")
    assert text.split("\r")[1] == "Drawing 5/10 heads (50%)  1s  eta 1s"


def test_short_work_that_repeats_is_said_once_and_then_every_five_seconds():
    stream, clock = io.StringIO(), Clock()
    with Progress("Whole", stream=stream, clock=clock, at_once=True):
        for number in range(9):
            with Progress("Part", stream=stream, clock=clock) as part:
                clock.now += 1.1
                part.update(number)
                part.show()
    assert [line.split()[0] for line in stream.getvalue().splitlines() if "done" not in line] == [
        "Whole",
        "Part",
        "Part",
    ]


def test_a_whole_command_speaks_at_once_and_while_nothing_in_it_does():
    stream, clock = io.StringIO(), Clock()
    with Progress("Training", stream=stream, clock=clock, at_once=True) as whole:
        assert stream.getvalue() == "Training …\n"
        clock.now += 4.4
        whole.show()
        clock.now += 0.6
        whole.show()
    assert stream.getvalue().splitlines() == ["Training …", "Training  5s"]


def test_what_is_inside_is_shown_instead_of_what_is_around_it():
    stream, clock = io.StringIO(), Clock()
    settings = {"stream": stream, "clock": clock}
    with Progress("Outside", **settings) as outer, Progress("Inside", **settings) as one:
        clock.now += 9
        outer.show()
        one.show()
    assert stream.getvalue().splitlines() == ["Inside  9s", "Inside: done in 9s"]


def test_only_the_first_process_of_torchrun_speaks(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert shown(io.StringIO(), [(9.0, 5)]) == ""


def test_work_that_fails_is_not_called_done():
    stream, clock = io.StringIO(), Clock()
    with pytest.raises(KeyError), Progress("Failing", stream=stream, clock=clock) as bar:
        clock.now += 9
        bar.show()
        raise KeyError
    assert stream.getvalue() == "Failing  9s\n"


def test_a_reader_who_goes_away_does_not_end_the_work():
    stream = io.StringIO()
    stream.close()
    assert list(track(range(3), "Counting")) == [0, 1, 2]
    with Progress("Writing", stream=stream, at_once=True) as bar:
        bar.show()


def test_printed_lines_do_not_mix_with_the_line_in_place(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", screen)
    with Progress("Whole", at_once=True):
        print("result")
        print("error", file=sys.stderr)
        lines = re.sub(r"\rWhole +\d+s *|\r +\r", "", screen.getvalue())
        assert lines == "result\nerror\n" and screen.getvalue() != lines
    assert sys.stdout is screen and sys.stderr is screen


def test_a_wrong_value_of_the_variable_is_one_sentence(monkeypatch):
    monkeypatch.setenv("GGHEAD_PROGRESS", "often")
    with pytest.raises(UserError, match="GGHEAD_PROGRESS=often is neither"):
        progress("Work").__enter__()


def test_what_was_done_before_does_not_shorten_the_estimate():
    assert "eta 5s" in shown(io.StringIO(), [(5.0, 1)], total=10, done=8)


def test_work_without_a_known_end_shows_its_time():
    assert shown(io.StringIO(), [(61.0, 0)], total=None).splitlines()[0] == "Drawing  1m 01s"


def test_the_line_moves_while_one_call_lasts():
    code = (
        "import time\nfrom gghead.torch_utils.progress import progress\n"
        "with progress('One long call'):\n    time.sleep(0.9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"GGHEAD_PROGRESS": "0.2", "PYTHONPATH": ":".join(sys.path)},
    )
    assert done.stderr.count("One long call") >= 2 and not done.stdout


def test_it_can_be_turned_off(monkeypatch, capsys):
    monkeypatch.setenv("GGHEAD_PROGRESS", "off")
    with progress("Quiet"):
        time.sleep(0.01)
    assert capsys.readouterr().err == ""


def test_tracking_yields_every_item():
    assert list(track(range(5), "Counting")) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "seconds, text", [(12, "12s"), (190, "3m 10s"), (7509, "2h 05m 09s"), (93780, "1d 02h 03m")]
)
def test_durations(seconds, text):
    assert format_time(seconds) == text


@click.command()
@cli.switch("--shapes", default=False)
@click.option("--yaw", type=cli.Degrees(many=True), default="0")
def example(shapes, yaw):
    click.echo(f"{shapes} {[round(angle, 4) for angle in yaw]}")


@pytest.mark.parametrize(
    "given, wanted",
    [
        ([], "False [0.0]"),
        (["--shapes"], "True [0.0]"),
        (["--shapes=1"], "True [0.0]"),
        (["--shapes=0"], "False [0.0]"),
        (["--shapes", "--yaw=-90,30"], "True [-1.5708, 0.5236]"),
    ],
)
def test_switches_work_bare_and_with_a_value_and_angles_are_degrees(given, wanted):
    assert CliRunner().invoke(example, given).output.strip() == wanted


@pytest.mark.parametrize("bad", ["--yaw=left", "--yaw=500", "--yaw=nan"])
def test_an_angle_that_is_none_is_one_sentence(bad):
    result = CliRunner().invoke(example, [bad])
    assert result.exit_code == 2 and "Traceback" not in result.output
