"""How many threads a command computes with, chosen again while it runs.

OpenMP's threads wait for one another at the end of every parallel loop and spin meanwhile. Where
another program holds a processor, all of them wait for the one thread that is not running: beside
one busy process on two processors a step can take 2 to 16 times as long as it should, and longer
than with a single thread. ``OMP_WAIT_POLICY=PASSIVE`` would heal that, but costs a quarter of the
speed on a quiet machine. So the waiting stays as it is, and commands change the number of threads.

>>> configure("auto")  # commands do this by ``cli.threads_option``; else nothing changes
>>> for batch in batches:
...     with step("train"):
...         train(batch)

Sums are cut among the threads, so results are equal bit for bit only for one number of threads. On
a machine that does nothing else the number never changes (where ``/proc/stat`` says so); a change
is printed. Who needs exact repetition beside other work fixes it: ``--threads=N`` or
``GGHEAD_THREADS=N``. ``OMP_NUM_THREADS`` is an upper bound.
"""

import contextlib
import math
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from gghead.torch_utils.cores import processors
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.governor import Governor, Load

Item = TypeVar("Item")
ENVIRONMENT_VARIABLE = "GGHEAD_THREADS"


def allowed_processors() -> float:
    """The processors that the system grants this process: a container may get the time of fewer
    than it sees."""
    count = float(len(processors()))
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            count = min(count, int(quota) / int(period))
    return max(count, 1.0)


before_lines: list[Callable[[], None]] = []
"""Called before a line is printed; ``progress`` clears its moving line here."""
_setting: str | int = "fixed"
_load: Load | None = None
_governor: Governor | None = None


def parse(text: str | int) -> str | int:
    """``4`` -> 4, ``auto`` and ``fixed`` as they are. Raises ``UserError`` for anything else."""
    if text in ("auto", "fixed"):
        return text
    if not str(text).isdecimal() or int(text) < 1:
        raise UserError(f"--threads={text} is neither a number of at least 1, nor auto, nor fixed.")
    return int(text)


def configure(setting: str | int | None = None) -> None:
    """Decide how ``step`` behaves from now on; None: as ``GGHEAD_THREADS`` says, or else ``auto``.

    A number is set at once and stays; ``fixed`` leaves torch's own number (that of
    ``OMP_NUM_THREADS``, or of the processors) as it is; ``auto`` changes it while steps run. Raises
    ``UserError`` for anything else.
    """
    global _setting, _load, _governor
    _setting = parse(os.environ.get(ENVIRONMENT_VARIABLE) or "auto" if setting is None else setting)
    _load, _governor = None, None
    if isinstance(_setting, int):
        import torch

        torch.set_num_threads(_setting)
    elif _setting == "auto":
        _load = Load()  # measures from now on, while the command reads its files


def share_machine() -> None:
    """Under torchrun: give every process its share of this machine's processors, unless their
    number is fixed.

    torchrun itself sets ``OMP_NUM_THREADS=1`` where the user sets nothing. Several processes wait
    for each other in every step, so none of them can tell by its own steps what is faster: their
    numbers do not change.
    """
    global _setting
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if local < 2 or _setting != "auto":
        return
    import torch

    bound = int(os.environ.get("OMP_NUM_THREADS") or 1)
    share = max(int(allowed_processors()) // local, 1)
    torch.set_num_threads(min(bound, share) if bound > 1 else share)
    _setting = "fixed"


def settle() -> None:
    """Choose the number of threads to begin with, before something is timed."""
    if threading.current_thread() is threading.main_thread():
        _started()


def step(work: str, device: object = "cpu") -> contextlib.AbstractContextManager:
    """Do one step of ``work`` inside this; between steps the number of threads may change.

    ``work`` names steps that take about equally long. On other devices than CPUs, outside the main
    thread, and where ``configure`` was not called, nothing happens.
    """
    if _setting != "auto" or str(getattr(device, "type", device)) != "cpu":
        return contextlib.nullcontext()
    if threading.current_thread() is not threading.main_thread():
        return contextlib.nullcontext()
    governor = _started()
    return contextlib.nullcontext() if governor is None else governor.step(work)


def steps(items: Iterable[Item], work: str, device: object = "cpu") -> Iterator[Item]:
    """Yield ``items``; what is done with each of them is a step of ``work``."""
    for item in items:
        with step(work, device):
            yield item


def tick(work: str, count: float = 1.0) -> None:
    """Say that ``count`` more pieces of ``work`` are done: for loops whose progress is shown
    anyway."""
    if _setting == "auto" and threading.current_thread() is threading.main_thread():
        governor = _started()
        if governor is not None:
            governor.tick(work, count)


def _started() -> Governor | None:
    global _governor
    share_machine()
    if _governor is None and _setting == "auto":
        import torch

        allowed = allowed_processors()
        most = min(torch.get_num_threads(), math.ceil(allowed))
        torch.set_num_threads(most)
        _governor = Governor(most, len(processors()), _load or Load(), torch.set_num_threads, _say)
    return _governor


def _say(sentence: str) -> None:
    for function in before_lines:
        function()
    print(sentence, file=sys.stderr, flush=True)
