"""How many threads are fastest now: by what other programs use, and by timing steps.

Fewer are tried when other programs need the processors, more when these are free again. See
``threads`` for why, and for what commands call.
"""

import contextlib
import math
import os
import statistics
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from pathlib import Path

from gghead.torch_utils.machine import processors

_SAMPLE = 0.1  # seconds; shorter steps are timed together
_SLOWER = 1.5  # a step this many times as long as before is looked into
_CLEAR = 1.5  # one comparison with such a ratio is enough
_GAIN = 0.95  # a change must make steps at least so much shorter
_PAIRS = 3  # comparisons otherwise
_HOLD, _LONGEST_HOLD = 2.0, 300.0  # seconds between trials; doubled when they were in vain
_SHARE = 0.03  # of the time may be lost with trials in vain


def busy_seconds(text: str, which: tuple[int, ...], with_nice: bool = False) -> float:
    """Seconds that the processors ``which`` have worked, by the text of ``/proc/stat``.

    See man 5 proc_stat. Programs of low priority (nice) give way, and count only ``with_nice``.
    Time taken by other virtual machines counts. Raises ``ValueError`` for a text without these
    processors.
    """
    found, wanted = {}, {f"cpu{number}" for number in which}
    for line in text.splitlines():
        name, *numbers = line.split()[:9] if line else [""]
        if name in wanted:
            user, nice, system, _, _, irq, softirq, *stolen = map(int, numbers)
            found[name] = user + system + irq + softirq + sum(stolen) + (nice if with_nice else 0)
    if found.keys() != wanted:
        raise ValueError("no such processors")
    return sum(found.values()) / os.sysconf("SC_CLK_TCK")


class Load:
    """How many processors other programs use, as a mean over the last second or two."""

    def __init__(
        self,
        busy: Callable[[], float] | None = None,
        own: Callable[[], float] = time.process_time,
        clock: Callable[[], float] = time.monotonic,
        span: float = 1.0,
    ) -> None:
        """``busy``: seconds that all processors have worked; ``own``: those of this process."""
        self._busy, self._own, self._clock, self._span = busy or _machine_busy, own, clock, span
        self._marks: deque[tuple[float, float, float]] = deque()
        self._last: float | None = None
        self.known = True
        """Whether this system tells."""
        self._mark()

    def _mark(self) -> None:
        try:
            self._marks.append((self._clock(), self._busy(), self._own()))
        except (OSError, ValueError, AttributeError):
            self.known = False

    def others(self) -> float | None:
        """Processors in use by others; None where that is not known, or not yet."""
        if self.known and self._clock() - self._marks[-1][0] >= self._span / 2:
            self._mark()
            while len(self._marks) > 2 and self._marks[-1][0] - self._marks[1][0] >= self._span:
                self._marks.popleft()
            seconds, busy, own = (
                after - before
                for after, before in zip(self._marks[-1], self._marks[0], strict=True)
            )
            if own > 0.5 * seconds and busy < 0.5 * own:  # a sandbox that invents the file
                self.known = False
            self._last = max(busy - own, 0.0) / seconds
        return self._last if self.known else None

    def forget(self) -> None:
        """Start a new span: what was measured before says nothing of now."""
        if self.known:
            self._marks.clear()
            self._mark()


def _machine_busy() -> float:
    with_nice = os.nice(0) > 0  # who has low priority too competes with its like
    return busy_seconds(Path("/proc/stat").read_text(), processors(), with_nice)


class _Trial:
    """Steps with another number of threads, in turns with the present one."""

    def __init__(self, work: str, old: int, new: int, before: float) -> None:
        self.work, self.old, self.new = work, old, new
        self.times: dict[int, list[float]] = {old: [before], new: []}
        self.lost, self.strangers = 0.0, 0

    def add(self, count: int, each: float, seconds: float) -> None:
        self.times[count].append(each)
        if count == self.new:
            self.lost += max(seconds * (1 - self.median(self.old) / each), 0.0)

    def median(self, count: int) -> float:
        return statistics.median(self.times[count])

    def verdict(self) -> bool | None:
        """Whether the new number is better; None: not clear yet."""
        ratio = self.median(self.new) / self.median(self.old)
        if ratio < 1 / _CLEAR:
            return True
        if ratio > _CLEAR:
            return False
        return ratio < _GAIN if len(self.times[self.new]) >= _PAIRS else None


class Governor:
    """Times steps and changes the number of threads when another is faster now.

    Fewer are tried when other programs use the processors that the threads need, more when these
    are free again. Where the system does not tell, fewer are tried when steps become half as long
    again, and more from time to time. A trial takes a few real steps, so only the difference of
    their times is lost. After trials in vain it waits, the longer the more they cost, so that they
    take about 3 % of the time at most.
    """

    def __init__(
        self,
        most: int,
        cpus: float,
        load: Load,
        apply: Callable[[int], None],
        say: Callable[[str], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """``most`` threads at most on ``cpus`` processors; ``apply`` sets their number."""
        self.most, self.count, self.cpus = most, most, cpus
        self._load, self._apply, self._say, self._clock = load, apply, say, clock
        self._changes = 0
        # work -> when, and how many changes there had been
        self._ticks: dict[str, tuple[float, int]] = {}
        # work -> seconds and steps of a sample to be
        self._pending: dict[str, tuple[float, int]] = {}
        self._seen: dict[tuple[str, int], deque[float]] = defaultdict(lambda: deque(maxlen=12))
        self._trial: _Trial | None = None
        self._down_after = self._up_after = self._went_up = -math.inf
        self._down_hold = self._up_hold = _HOLD
        self._explained = False
        self._doubtful = False  # nothing tells whether others are at work but a trial
        others = load.others()
        if others is not None and (wanted := self._fewer(others)) < most:
            self._take(wanted)
            self._tell(
                f"threads {wanted} of {most}: other programs use {others:.1f} of {cpus:.2g}"
                " processors"
            )
        elif not load.known and hasattr(os, "getloadavg") and os.getloadavg()[0] > 0.4 * cpus:
            self._doubtful = True

    @contextlib.contextmanager
    def step(self, work: str) -> Iterator[None]:
        """Time one step of ``work``."""
        begin, changes = self._clock(), self._changes
        yield
        if changes == self._changes:  # otherwise steps inside this one ran with several numbers
            self._record(work, self._clock() - begin)

    def tick(self, work: str, count: float = 1.0) -> None:
        """Say that ``count`` more pieces of ``work`` are done, one after the other."""
        now, before = self._clock(), self._ticks.get(work)
        self._ticks[work] = now, self._changes
        if before is not None and before[1] == self._changes and count > 0:
            self._record(work, (now - before[0]) / count)
            self._ticks[work] = self._clock(), self._changes

    def _record(self, work: str, seconds: float) -> None:
        total, steps = self._pending.pop(work, (0.0, 0))
        total, steps = total + seconds, steps + 1
        if total < _SAMPLE:
            self._pending[work] = total, steps
        else:
            self._consider(work, total / steps, total)

    def _consider(self, work: str, each: float, seconds: float) -> None:
        trial = self._trial
        if trial is None:
            self._watch(work, each)
        elif trial.work != work:
            trial.strangers += 1
            if trial.strangers >= 2 * _PAIRS:  # that work is over
                self._trial = None
                self._take(trial.old)
        else:
            trial.add(self.count, each, seconds)
            verdict = trial.verdict()
            if verdict is None:
                self._take(trial.old if self.count == trial.new else trial.new)
            else:
                self._end(trial, verdict)

    def _watch(self, work: str, each: float) -> None:
        """Start a trial if there is a reason for one."""
        seen, now, others = self._seen[work, self.count], self._clock(), self._load.others()
        usual = statistics.median(list(seen)[:-1]) if len(seen) >= 4 else math.inf
        slow = bool(seen) and min(seen[-1], each) > _SLOWER * usual
        seen.append(each)
        wanted = self.count
        if self.count > 1 and now >= self._down_after:
            if others is not None and self._fewer(others) < self.count:
                wanted = self._fewer(others)
            elif (slow and not self._load.known) or self._doubtful:
                wanted, self._doubtful = self.count // 2, False
        if wanted == self.count < self.most and now >= self._up_after:
            if others is not None:
                wanted = max(min(math.floor(self.cpus - others + 0.3), self.most), self.count)
            elif not self._load.known:
                wanted = min(2 * self.count, self.most)
        if wanted != self.count:
            self._trial = _Trial(work, self.count, wanted, each)
            self._take(wanted)

    def _fewer(self, others: float) -> int:
        """The threads that find a processor each beside what others use.

        The present number if that nearly fits. A program that has to share its processor with one
        of our threads gets half of it and could use twice as much.
        """
        free = self.cpus - others
        if self.count <= free + 0.4:
            return self.count
        return max(min(math.floor(max(free - others, free / 2) + 0.25), self.count - 1), 1)

    def _end(self, trial: _Trial, better: bool) -> None:
        self._trial, now, up = None, self._clock(), trial.new > trial.old
        if not better:
            self._take(trial.old)
            pause = trial.lost / _SHARE
            if up:
                self._up_hold = min(2 * self._up_hold, _LONGEST_HOLD)
                self._up_after = now + max(self._up_hold, pause)
            else:
                self._down_hold = min(2 * self._down_hold, _LONGEST_HOLD)
                self._down_after = now + max(self._down_hold, pause)
            return
        self._take(trial.new)
        self._seen.pop((trial.work, trial.new), None)  # what was usual before is not any more
        others = self._load.others()
        beside = (
            f" beside other programs, which use {others:.1f} of {self.cpus:.2g} processors"
            if others
            else ""
        )
        if up:
            self._went_up = now
            self._down_after, self._down_hold = -math.inf, _HOLD
        else:
            # Who comes and goes gets its processor for longer each time.
            again = now - self._went_up < 10 * self._up_hold
            self._up_hold = min(2 * self._up_hold, _LONGEST_HOLD) if again else _HOLD
            self._up_after = now + self._up_hold
        self._tell(
            f"threads {trial.new} instead of {trial.old}: a step takes"
            f" {1000 * trial.median(trial.new):.0f} ms and not"
            f" {1000 * trial.median(trial.old):.0f}{'' if up else beside}"
        )

    def _take(self, count: int) -> None:
        if count != self.count:
            self.count, self._changes = count, self._changes + 1
            self._pending.clear()
            self._apply(count)

    def _tell(self, sentence: str) -> None:
        hint = (
            ""
            if self._explained
            else " (`threads=N` fixes it; results repeat bit for bit for one number only)"
        )
        self._explained = True
        from gghead.torch_utils.cli_words import in_flags

        self._say(in_flags(f"  {sentence}{hint}"))
