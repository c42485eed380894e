"""Reading in the background: the order stays, waiting brings more threads, errors and ends arrive
where they belong."""

import os
import threading
from functools import partial

import pytest

from gghead.data import loader as read_ahead
from gghead.data.loader import ReadAhead, StepReader, most_threads
from gghead.torch_utils.machine import cores


@pytest.fixture
def eight_cores(monkeypatch):
    monkeypatch.setattr(read_ahead, "cores", lambda: 8)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)


def test_results_come_in_the_order_of_the_jobs(eight_cores):
    release = threading.Event()

    def job(number):
        if number == 0:
            assert release.wait(20)
        elif number == 1:
            release.set()  # the second is done before the first
        return number

    with ReadAhead(partial(job, number) for number in range(20)) as reader:
        assert list(reader) == list(range(20))
        with pytest.raises(StopIteration):
            next(reader)


def test_whoever_waits_gets_more_threads_up_to_the_limit(eight_cores, monkeypatch):
    release, started = ([threading.Event() for _ in range(40)] for _ in range(2))
    running, most, lock = set(), [0], threading.Lock()

    def job(number):
        with lock:
            running.add(number)
            most[0] = max(most[0], len(running))
        started[number].set()
        assert release[number].wait(20)
        with lock:
            running.discard(number)
        return number

    with ReadAhead(partial(job, number) for number in range(40)) as reader:
        assert (reader.limit, reader.ahead) == (7, 2)
        filled = reader._fill
        for number in range(12):
            # The job is released once it is known that it was not ready.
            monkeypatch.setattr(
                reader,
                "_fill",
                lambda spare=0, number=number: (filled(spare), release[number].set()),
            )
            assert next(reader) == number
            assert reader.ahead == min(3 + number, 7)
        assert started[12 + 6].wait(20) and not started[12 + 7].is_set()
        for event in release:
            event.set()
    assert most[0] == 7


def test_without_waiting_two_are_enough(eight_cores):
    with ReadAhead(partial(pow, number, 2) for number in range(40)) as reader:
        for number in range(40):
            reader._pending[0].result(20)
            assert next(reader) == number**2
        assert reader.ahead == 2


def test_memory_and_fixed_numbers_limit_the_threads(eight_cores):
    with ReadAhead(iter(()), size=2**28) as large, ReadAhead(iter(()), size=2**27) as medium:
        assert large.limit == 2 and medium.limit == 4
    with ReadAhead(iter(()), threads=3) as fixed, ReadAhead(iter(()), threads=1) as one:
        assert (fixed.limit, fixed.ahead, one.limit, one.ahead) == (3, 3, 1, 2)
    with ReadAhead((partial(pow, number, 2) for number in range(30)), threads=1) as reader:
        assert list(reader) == [number**2 for number in range(30)] and reader.ahead == 2


def test_processes_share_the_cores(monkeypatch):
    monkeypatch.setattr(read_ahead, "cores", lambda: 64)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert [most_threads(count) for count in (1, 4, 8, 64)] == [16, 15, 7, 2]
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")  # of 16 on two machines
    assert most_threads(16) == 7
    assert 1 <= cores() <= os.cpu_count()


def test_an_error_is_raised_in_its_place_and_threads_end(eight_cores):
    def job(number):
        if number == 3:
            raise ValueError("the fourth")
        return number

    before = threading.active_count()
    with ReadAhead(partial(job, number) for number in range(9)) as reader:
        assert [next(reader) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="the fourth"):
            next(reader)
        assert next(reader) == 4
    assert threading.active_count() == before
    with pytest.raises(RuntimeError, match="closed"):
        next(reader)


def test_steps_are_read_ahead_and_may_be_asked_for_anew(eight_cores):
    read, seen = [], threading.Lock()

    def square(step):
        with seen:
            read.append(step)
        return step * step

    reader = StepReader(square, lambda first: range(first, 30, 3))
    assert [reader(step) for step in (0, 3, 6, 9)] == [0, 9, 36, 81]
    assert len(read) == len(set(read))  # none twice
    assert [reader(step) for step in (3, 6, 27)] == [9, 36, 729]
    assert [reader(step) for step in (27, 0)] == [729, 0]  # after the last one too
    before = threading.active_count()
    reader.close()
    assert threading.active_count() < before
    assert reader(12) == 144
    reader.close()
