"""The number of threads: chosen by the load and by real steps, on machines that are simulated with
their clocks."""

import os
import subprocess
import sys

import click
import pytest
import torch
from click.testing import CliRunner
from helpers.places import ROOT

from gghead.torch_utils import cli, governor, threads
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.governor import Governor, Load, busy_seconds

STAT = """cpu  99 99 99 99 99 99 99 99 0 0
cpu0 100 20 30 1000 500 4 6 10 0 0
cpu1 200 0 100 1000 0 0 0 0 0 0
intr 5
"""


class Machine:
    """Processors, busy programs beside us, and steps that are slow where threads wait for one that
    does not run."""

    def __init__(self, cpus=2, others=0.0, tells=True, spin=8.0, work=0.4, sleep=1.0):
        self.cpus, self.others, self.tells, self.spin, self.work = cpus, others, tells, spin, work
        self.now = self.busy = self.own = 0.0
        self.count, self.said, self.taken = cpus, [], []
        load = Load(self._busy, lambda: self.own, lambda: self.now)
        self._pass(sleep, 0.0)
        self.governor = Governor(cpus, cpus, load, self._apply, self.said.append, lambda: self.now)

    def _busy(self):
        if not self.tells:
            raise OSError("no /proc")
        return self.busy

    def _pass(self, seconds, own):
        self.now += seconds
        self.own += own * seconds
        self.busy += min(own + self.others, self.cpus) * seconds

    def _apply(self, count):
        self.count = count
        self.taken.append(count)

    def cost(self, count):
        crowded = count > self.cpus - self.others
        return self.work / count * (self.spin if crowded and count > 1 else 1.0)

    def run(self, seconds, work="train", scale=1.0):
        """Steps for so long; the mean time of one."""
        begin, steps = self.now, 0
        while self.now - begin < seconds:
            with self.governor.step(work):
                self._pass(
                    scale * self.cost(self.count),
                    min(self.count, max(self.cpus - 0.5 * self.others, 1.0)),
                )
            steps += 1
        return (self.now - begin) / steps


def test_a_quiet_machine_keeps_its_number_whatever_the_steps_do():
    """Results repeat bit for bit where nothing else runs, so nothing may be tried there."""
    machine = Machine(cpus=8)
    machine.run(20)
    machine.run(20, scale=3.0)  # a later stage has larger images
    machine.run(20, "metrics")
    assert machine.taken == [] and machine.said == [] and machine.count == 8


def test_a_busy_program_costs_one_processor_and_gets_it_within_seconds():
    machine = Machine(cpus=2)
    machine.run(10)
    machine.others = 1.0
    machine.run(6)
    assert machine.count == 1 and machine.run(60) <= 1.1 * machine.work
    assert (
        len(machine.said) == 1
        and "threads 1 instead of 2" in machine.said[0]
        and "`threads=N`" in machine.said[0]
    )
    machine.others = 0.0
    machine.run(6)
    assert (
        machine.count == 2
        and "threads 2 instead of 1: a step takes 200 ms and not 400" in machine.said[1]
    )
    assert machine.run(60) == pytest.approx(machine.work / 2) and len(machine.said) == 2


def test_sixteen_processors_lose_only_what_others_use():
    machine = Machine(cpus=16, others=0.0, spin=2.0)
    machine.run(5)
    machine.others = 2.0
    machine.run(60)
    assert machine.count == 14
    machine.others = 0.0
    machine.run(60)
    assert machine.count == 16


def test_a_start_beside_a_busy_program_needs_no_slow_step():
    machine = Machine(cpus=2, others=1.0, spin=20.0)
    assert (
        machine.count == 1
        and "threads 1 of 2: other programs use 1.0 of 2 processors" in machine.said[0]
    )
    assert machine.run(30) == pytest.approx(machine.work)


def test_a_change_that_does_not_help_is_taken_back_and_tried_ever_less():
    machine = Machine(cpus=2, spin=1.0)  # threads that do not wait for each other
    machine.run(3)
    machine.others = 1.0
    assert machine.run(1000) <= 1.05 * machine.work / 2
    assert machine.count == 2 and machine.said == []


def test_who_comes_and_goes_does_not_make_it_flap():
    machine = Machine(cpus=2)
    for _ in range(100):
        machine.others = 1.0 - machine.others
        machine.run(4)
    assert len(machine.said) < 25  # of 100 changes


def test_a_silent_system_is_judged_by_its_steps():
    machine = Machine(cpus=2, tells=False)
    machine.run(5)
    machine.others = 1.0
    machine.run(10)
    assert machine.count == 1
    assert machine.run(600) <= 1.1 * machine.work  # going up is tried in vain now and then
    machine.others = 0.0
    machine.run(400)
    assert machine.count == 2 and machine.run(300) <= 1.05 * machine.work / 2


def test_short_steps_are_timed_together():
    machine = Machine(cpus=2, work=0.01)
    machine.run(3)
    machine.others = 1.0
    machine.run(6)
    assert machine.count == 1 and machine.run(20) <= 1.1 * machine.work


def test_loops_that_only_show_their_progress_are_timed_between_their_ticks():
    machine = Machine(cpus=2)

    def work(seconds):
        begin = machine.now
        while machine.now - begin < seconds:
            machine._pass(machine.cost(machine.count), 1.0)
            machine.governor.tick("frames")

    work(3)
    machine.others = 1.0
    work(12)
    assert machine.count == 1
    machine.others = 0.0
    work(12)
    assert machine.count == 2


def test_a_trial_ends_when_its_work_does():
    machine = Machine(cpus=2, spin=1.2)  # not clear at once
    machine.run(3)
    machine.others = 1.0
    while not machine.taken:
        machine.run(0.01)
    machine.run(3, "other")
    assert machine.governor._trial is None or machine.governor._trial.work == "other"


def test_an_error_inside_a_step_passes_and_leaves_the_governor_usable():
    machine = Machine()
    with pytest.raises(KeyError), machine.governor.step("train"):
        raise KeyError("x")
    machine.run(1)
    assert machine.count == 2


def test_busy_time_is_that_of_our_processors_without_what_gives_way():
    hertz = os.sysconf("SC_CLK_TCK")
    assert (
        busy_seconds(STAT, (0,)) == 150 / hertz
        and busy_seconds(STAT, (0,), with_nice=True) == 170 / hertz
    )
    assert busy_seconds(STAT, (0, 1)) == 450 / hertz
    with pytest.raises(ValueError, match="processors"):
        busy_seconds(STAT, (0, 2))


def test_load_is_what_others_use_and_a_file_that_is_invented_counts_as_none():
    now, busy, own = [0.0], [0.0], [0.0]
    load = Load(lambda: busy[0], lambda: own[0], lambda: now[0])
    assert load.others() is None and load.known  # not yet
    now[0], busy[0], own[0] = 2.0, 5.0, 4.0
    assert load.others() == pytest.approx(0.5)
    now[0], busy[0], own[0] = 4.0, 5.0, 8.0
    load.others()
    now[0], own[0] = 6.0, 12.0
    assert load.others() is None and not load.known


def test_this_machine_tells_its_load():
    if sys.platform != "linux":
        pytest.skip("only Linux has /proc/stat")
    before = governor._machine_busy()
    assert before > 0 and threads.allowed_processors() >= 1 and len(threads.processors()) >= 1


@pytest.fixture
def clean(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    yield monkeypatch
    threads.configure("fixed")
    torch.set_num_threads(before)


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5"])
def test_a_wrong_number_is_a_sentence(text, clean):
    with pytest.raises(UserError, match="neither a number of at least 1, nor auto, nor fixed"):
        threads.configure(text)


def test_the_option_sets_the_number_and_the_environment_stands_in(clean):
    @click.command()
    @cli.threads_option()
    def show():
        with threads.step("anything"):
            click.echo(torch.get_num_threads())

    assert CliRunner().invoke(show, ["--threads=3"]).output == "3\n"
    assert CliRunner().invoke(show, [], env={threads.ENVIRONMENT_VARIABLE: "2"}).output == "2\n"
    wrong = CliRunner().invoke(show, ["--threads=many"])
    assert wrong.exit_code == 2 and "--threads=many is neither" in wrong.output


def test_processes_of_torchrun_share_the_machine(clean):
    clean.setenv("LOCAL_WORLD_SIZE", "2")
    clean.setattr(threads, "allowed_processors", lambda: 8.0)
    for bound, wanted in (("1", 4), ("3", 3)):  # torchrun itself sets 1
        clean.setenv("OMP_NUM_THREADS", bound)
        threads.configure("auto")
        threads.share_machine()
        assert torch.get_num_threads() == wanted
    threads.configure(5)
    threads.share_machine()
    assert torch.get_num_threads() == 5


def test_steps_without_a_command_change_nothing(clean):
    before = torch.get_num_threads()
    assert list(threads.steps(range(3), "frames")) == [0, 1, 2]
    assert threads._governor is None and torch.get_num_threads() == before


def test_omp_num_threads_is_an_upper_bound():
    code = (
        "import torch; from gghead.torch_utils import threads; threads.configure('auto')\n"
        "with threads.step('work'): pass\n"
        "print(threads._governor.most, torch.get_num_threads())"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment.pop("LOCAL_WORLD_SIZE", None)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1", "1"]
