"""Several processes, started by torchrun: who am I, sums and means over all of them."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor


@dataclass(frozen=True)
class Processes:
    """This process's place among all; the default is a single process."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0


def start(wanted: str | torch.device) -> tuple[Processes, torch.device]:
    """Join the group that torchrun announces in the environment (gloo on CPUs, nccl on GPUs) and pick the device.

    Without torchrun this is a single process, on the GPU that ``wanted`` names; with it every process takes its own.
    A collective that waits longer than an hour (the first process may be measuring metrics meanwhile) fails with
    torch's message that names the rank.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    rank, device = int(os.environ.get("RANK", "0")), torch.device(wanted)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", device.index or 0)))
        torch.cuda.set_device(device)
    if world_size > 1 and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo",
                                             timeout=timedelta(hours=1))
    return Processes(rank, world_size), device


def stop() -> None:
    """Leave the group, if there is one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def average_gradients(parameters: Iterable[torch.nn.Parameter], processes: Processes) -> None:
    """Replace non-finite gradients (nan by 0, infinities by +-1e5) and average over all processes in one flat sum.

    Every process must hold gradients for the same parameters, which one graph on every process ensures.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    if processes.world_size > 1:
        torch.distributed.all_reduce(flat)
        flat /= processes.world_size
    elif bool(torch.isfinite(flat).all()):
        return
    torch.nan_to_num(flat, nan=0.0, posinf=1e5, neginf=-1e5, out=flat)
    parts = flat.split([gradient.numel() for gradient in gradients])
    torch._foreach_copy_(gradients, [part.view_as(g) for part, g in zip(parts, gradients, strict=True)])


def sum_over_processes(values: Tensor, processes: Processes) -> Tensor:
    """The sum of ``values`` over all processes; ``values`` itself for a single one."""
    if processes.world_size > 1:
        values = values.clone()
        torch.distributed.all_reduce(values)
    return values


def barrier(processes: Processes) -> None:
    """Wait for all processes."""
    if processes.world_size > 1:
        torch.distributed.barrier()
