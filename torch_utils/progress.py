"""What a command shows while it works.

A line in place on a terminal, a plain line every few seconds elsewhere.

>>> with progress("Rendering", total=60, unit="frames") as bar:
...     for frame in frames:
...         draw(frame)
...         bar.advance()

Work may lie within work: the innermost is shown, and a command as a whole is the outermost
(``cli.command``). A thread keeps the line moving, so that one long call into C++ or a library is no
silence either. Everything goes to standard error, and never into a log file that stands behind it:
standard output holds results only. ``GGHEAD_PROGRESS=off`` turns it off, ``GGHEAD_PROGRESS=30``
writes plain lines every 30 seconds instead of about every 5. Of several processes of torchrun the
first one speaks.
"""

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import IO, TypeVar

from gghead.torch_utils import threads
from gghead.torch_utils.errors import UserError

Item = TypeVar("Item")
_FIRST = 1.0  # seconds after which a plain line says what is being done; shorter work says nothing
_PERIOD = 4.5  # seconds between plain lines; with the thread's own period at most 5
_IN_PLACE = 0.2  # seconds between changes of the line on a terminal
_stack: list["Progress"] = []  # the innermost one is shown
_lock = threading.RLock()  # of the stack and of what stands on the screen


def format_time(seconds: float) -> str:
    """Format a duration as ``12s``, ``3m 10s``, ``2h 05m 09s`` or ``1d 02h 03m``."""
    total = max(int(round(seconds)), 0)
    if total < 60:
        return f"{total}s"
    if total < 3600:
        return f"{total // 60}m {total % 60:02d}s"
    if total < 86400:
        return f"{total // 3600}h {total // 60 % 60:02d}m {total % 60:02d}s"
    return f"{total // 86400}d {total // 3600 % 24:02d}h {total // 60 % 60:02d}m"


def progress(
    text: str, total: float | None = None, unit: str = "", done: float = 0.0
) -> "Progress":
    """Return a context manager that shows ``text`` and how far it is until it is left.

    ``total`` is the number of ``unit``; without it only the time is shown. ``done`` of them were
    there already.
    """
    return Progress(text, total, unit, done)


def track(
    items: Iterable[Item], text: str, total: int | None = None, unit: str = ""
) -> Iterator[Item]:
    """Yield ``items`` under ``progress``."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with progress(text, total, unit) as bar:
        for item in items:
            yield item
            bar.advance()


class Progress:
    """One piece of work that is being done; see ``progress``."""

    def __init__(
        self,
        text: str,
        total: float | None = None,
        unit: str = "",
        done: float = 0.0,
        *,
        at_once: bool = False,
        stream: IO[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``at_once``: the first plain line comes at the beginning, and none at the end.

        Whole commands have it so. ``stream`` and ``clock`` are for tests; by default standard error
        and the system's clock.
        """
        self.text, self.total, self.unit, self.done = text, total, unit, done
        self.note = ""
        """Shown behind the line, such as the present loss."""
        self._at_once, self._stream, self._clock = at_once, stream, clock
        self._start, self._lines = done, 0
        self._began = clock()
        # Of the outermost work, on behalf of all that lies in it:
        self._line_at = self._began
        self._texts: set[str] = set()  # what was said already: repeated short work need not be
        # standard output and error, where they clear the line in place
        self._streams: tuple | None = None
        self._thread: threading.Thread | None = None
        self._left = threading.Event()

    # ----------------------------------------------------------------------------- what callers use
    def __enter__(self) -> "Progress":
        every = period()
        with _lock:
            self._began = self._line_at = self._clock()
            _stack.append(self)
            outermost = len(_stack) == 1 and self._stream is None and every is not None
            if outermost and _is_terminal(sys.stderr):
                self._streams = sys.stdout, sys.stderr
                sys.stdout, sys.stderr = _Clearing(sys.stdout), _Clearing(sys.stderr)
        if self._at_once and every is not None:
            self.show()
        if outermost:
            self._thread = threading.Thread(
                target=self._keep_moving, name="gghead-progress", daemon=True
            )
            self._thread.start()
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        self._left.set()
        with _lock:
            if self._lines and kind is None and not self._at_once:
                clear()
                self._write(f"{self.text}: done in {format_time(self._clock() - self._began)}\n")
            _stack.remove(self)
            clear()
            if self._streams is not None:
                for name, stream in zip(("stdout", "stderr"), self._streams, strict=True):
                    if isinstance(getattr(sys, name), _Clearing):
                        setattr(sys, name, stream)
        if self._thread is not None:
            self._thread.join()

    def advance(self, count: float = 1.0, note: str | None = None) -> None:
        """Say that ``count`` more are done.

        By how long they take the number of threads is chosen.
        """
        threads.tick(self.text, count)
        self.update(self.done + count, note)

    def update(self, done: float, note: str | None = None) -> None:
        """Say that ``done`` of ``total`` are done."""
        self.done = done
        if note is not None:
            self.note = note

    def line(self) -> str:
        """Return the line as it stands now: ``Rendering 12/60 frames (20%)  14s  eta 56s``."""
        seconds = self._clock() - self._began
        unit = f" {self.unit}" if self.unit else ""
        parts = [self.text]
        if self.total:
            share = min(self.done / self.total, 1.0)
            parts[0] += f" {_number(self.done)}/{_number(self.total)}{unit} ({share:.0%})"
        elif self.done:
            parts[0] += f" {_number(self.done)}{unit}"
        parts.append(format_time(seconds))
        if self.total and self.done > self._start:
            parts.append(
                f"eta {format_time((self.total - self.done) * seconds / (self.done - self._start))}"
            )
        return "  ".join([*parts, *([self.note] if self.note else [])])

    # ------------------------------------------------------------------------------ how it is shown
    def _keep_moving(self) -> None:
        wait = _IN_PLACE if _is_terminal(sys.stderr) else min(period() or _PERIOD, _PERIOD) / 10
        while not self._left.wait(wait):
            with _lock:
                if _stack:
                    _stack[-1].show()

    def show(self) -> None:
        """Draw the line, if this is the innermost work and it is time to."""
        with _lock:
            every = period()
            if every is None or not _stack or _stack[-1] is not self:
                return
            stream = _bare(self._stream or sys.stderr)
            if _is_terminal(stream):
                _draw(stream, self.line())
                return
            now, whole = self._clock(), _stack[0]
            new = self.text not in whole._texts and (
                self._at_once or now - self._began >= min(_FIRST, every)
            )
            if new or now - whole._line_at >= every:
                whole._texts.add(self.text)
                self._write(
                    f"{self.text} …\n" if self._at_once and not self._lines else self.line() + "\n"
                )

    def _write(self, text: str) -> None:
        """Write a plain line."""
        if _screen(_bare(self._stream or sys.stderr), text):
            self._lines += 1
        _stack[0]._line_at = self._clock()


def period() -> float | None:
    """Return the seconds between plain lines, or None for no lines.

    None is where ``GGHEAD_PROGRESS`` turns progress off or another process of torchrun speaks.

    Raises ``UserError`` where the variable is neither off nor a number.
    """
    text = os.environ.get("GGHEAD_PROGRESS", "")
    if text == "off" or os.environ.get("RANK", "0") != "0":
        return None
    if text in ("", "on"):
        return _PERIOD
    try:
        return max(float(text), 0.1)
    except ValueError:
        raise UserError(
            f"GGHEAD_PROGRESS={text} is neither off nor a number of seconds; unset it."
        ) from None


# -------------------------------------------------------------------------------- the line in place
_drawn: tuple[IO[str], int] | None = None  # where a line stands in place, and how wide it is


class _Clearing:
    """A stream of the terminal that erases the line in place before it writes."""

    def __init__(self, stream: IO[str]) -> None:
        self.behind = stream

    def write(self, text: str) -> int:
        clear()
        return self.behind.write(text)

    def __getattr__(self, name: str):
        return getattr(self.behind, name)


def _bare(stream: IO[str]) -> IO[str]:
    """The stream itself, behind what clears lines and what copies into log files."""
    while (behind := getattr(stream, "behind", None)) is not None:
        stream = behind
    return stream


def _draw(stream: IO[str], text: str) -> None:
    global _drawn
    with _lock:
        text = text[: max(shutil.get_terminal_size().columns - 1, 1)]
        width = _drawn[1] if _drawn else 0
        _screen(stream, "\r" + text.ljust(width))
        _drawn = stream, len(text)


def clear() -> None:
    """Erase the line in place, before something else is written to the terminal."""
    global _drawn
    with _lock:
        if _drawn is not None:
            stream, width = _drawn
            _drawn = None
            _screen(stream, "\r" + " " * width + "\r")


threads.before_lines.append(clear)


def _screen(stream: IO[str], text: str) -> bool:
    """Write to the screen; False where its reader has gone away, as the work goes on without."""
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError):
        return False
    return True


def _is_terminal(stream: IO[str]) -> bool:
    try:
        return stream.isatty()
    except (AttributeError, ValueError):  # a closed stream
        return False


def _number(value: float) -> str:
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.1f}"
