"""Several processes, started by torchrun.

Who am I, sums and means over all of them, and who is waiting.
"""

import contextlib
import functools
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor

from gghead.torch_utils import threads
from gghead.torch_utils.errors import UserError

TIMEOUT = timedelta(minutes=10)
"""How long a process waits within a step for the others, before torch ends it with a message."""
PATIENCE = timedelta(hours=24)
"""The same at a ``barrier``, where the first process may be measuring metrics or reading a large
data set."""
SAY_EVERY = 60.0
"""Seconds after which a waiting process says what it waits for, and again after as many."""


@dataclass(frozen=True)
class Processes:
    """This process's place among all; the default is a single process."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0


def start(wanted: str | torch.device) -> tuple[Processes, torch.device]:
    """Join the group that torchrun announces in the environment, and pick the device.

    The group uses gloo on CPUs, nccl on GPUs.

    Without torchrun this is a single process, on the GPU that ``wanted`` names; with it every
    process takes its own. A collective within a step fails after ``TIMEOUT``, a ``barrier`` after
    ``PATIENCE``; a process that waits longer than ``SAY_EVERY`` says so.
    """
    threads.share_machine()
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    rank, device = int(os.environ.get("RANK", "0")), torch.device(wanted)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", device.index or 0)))
        torch.cuda.set_device(device)
    if world_size > 1 and not torch.distributed.is_initialized():
        torch.distributed.init_process_group(
            "nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT
        )
        _patient_group()
    return Processes(rank, world_size), device


def stop() -> None:
    """Leave the group, if there is one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        _patient_group.cache_clear()
        torch.distributed.destroy_process_group()


def average_gradients(
    parameters: Iterable[torch.nn.Parameter], processes: Processes, loss: Tensor | None = None
) -> Tensor:  # bool, no dimension
    """Average over all processes in one flat sum and replace gradients that are not finite.

    NaN becomes 0 and infinities +-1e5, as in StyleGAN. Returns, on the gradients' device and the
    same on all processes, whether the update is bad: the ``loss`` of a process, a gradient or the
    sum of one parameter's gradients is not finite. Every process must hold gradients for the same
    parameters, which one graph on every process ensures.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return torch.tensor(False) if loss is None else ~torch.isfinite(loss.detach())
    loss = gradients[0].new_zeros(()) if loss is None else loss.detach().to(gradients[0])
    # on a GPU the question would wait for it
    if processes.world_size == 1 and loss.device.type == "cpu":
        bad = ~torch.isfinite(
            torch.stack([*(gradient.sum() for gradient in gradients), loss]).sum()
        )
        if not bad:
            return bad
    flat = torch.cat([*(gradient.flatten() for gradient in gradients), loss[None]])
    if processes.world_size > 1:
        with waiting("the gradients of a step", processes):
            torch.distributed.all_reduce(flat)
        flat /= processes.world_size
    # a sum reads each number once, and is not finite if one of them is not
    bad = ~torch.isfinite(flat.sum())
    torch.nan_to_num(flat, nan=0.0, posinf=1e5, neginf=-1e5, out=flat)
    parts = flat[:-1].split([gradient.numel() for gradient in gradients])
    torch._foreach_copy_(  # pyright: ignore[reportPrivateImportUsage]: it has no other name
        gradients, [part.view_as(g) for part, g in zip(parts, gradients, strict=True)]
    )
    return bad


def sum_over_processes(values: Tensor, processes: Processes) -> Tensor:
    """The sum of ``values`` over all processes, when it is there.

    ``values`` itself for a single one.
    """
    if processes.world_size > 1:
        values = values.clone()
        with waiting("a sum over all processes", processes):
            torch.distributed.all_reduce(values)
            if values.is_cuda:  # else the wait would come later, when nobody says what for
                torch.cuda.current_stream(values.device).synchronize()
    return values


def any_process(flag: bool, processes: Processes, device: torch.device | str = "cpu") -> bool:
    """Whether ``flag`` is set in any process.

    All get the same answer. nccl needs the process's own ``device``.
    """
    if processes.world_size == 1:
        return flag
    return bool(sum_over_processes(torch.tensor(float(flag), device=device), processes) > 0)


def barrier(processes: Processes, what: str = "the first process's work between two steps") -> None:
    """Wait for all processes, for hours if need be; ``what`` is said to be waited for."""
    if processes.world_size > 1:
        with waiting(what, processes):
            torch.distributed.barrier(group=_patient_group())


def fail_together(sentence: str, processes: Processes) -> None:
    """End all processes with status 1 once each of them is here.

    The first raises ``UserError``, the others exit.
    """
    barrier(processes, "the end of the run")
    if processes.is_first:
        raise UserError(sentence)
    raise SystemExit(1)


@functools.cache
def _patient_group() -> torch.distributed.ProcessGroup:
    """A group of all processes for long waits.

    It is gloo's, so that a GPU does not wait. All must make it at once.
    """
    group = torch.distributed.new_group(backend="gloo", timeout=PATIENCE)
    assert isinstance(group, torch.distributed.ProcessGroup)  # all processes are members
    return group


@contextlib.contextmanager
def waiting(what: str, processes: Processes) -> Iterator[None]:
    """Within it this process waits for others; a thread says so every ``SAY_EVERY`` seconds.

    Raises ``UserError`` where torch finds that another process has gone.
    """
    watch = _watch()
    watch.begin(what, processes)
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        said = str(error).splitlines()[0]
        raise UserError(
            f"Process {processes.rank} of {processes.world_size} waited for {what}, but another"
            f" process is gone or does not answer ({said}); its own message says why. Continue with"
            " `resume`."
        ) from error
    finally:
        watch.end()


class _Watch:
    """Knows what this process waits for, and says it from a thread of its own."""

    def __init__(self) -> None:
        self.current: tuple[str, Processes, float] | None = None
        threading.Thread(target=self._run, name="gghead-waiting", daemon=True).start()

    def begin(self, what: str, processes: Processes) -> None:
        self.current = what, processes, time.monotonic()

    def end(self) -> None:
        self.current = None

    def _run(self) -> None:
        said = None  # the wait that was spoken of, and how often
        count = 0
        while True:
            time.sleep(min(1.0, SAY_EVERY / 4))
            current = self.current
            if current is None:
                continue
            count = count if said is current else 0
            what, processes, since = current
            waited = time.monotonic() - since
            if waited >= SAY_EVERY * (count + 1):
                said, count = current, count + 1
                print(
                    f"Process {processes.rank} of {processes.world_size} has waited {waited:.0f} s"
                    f" for {what}.",
                    file=sys.stderr,
                    flush=True,
                )


@functools.cache
def _watch() -> _Watch:
    return _Watch()
