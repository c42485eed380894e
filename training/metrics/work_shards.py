"""Work on many images, shared by processes.

Results do not depend on how many processes there are.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from gghead.torch_utils.distributed import Processes, waiting
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.progress import progress

SHARD = 64
"""Images that a process works on before results are exchanged: seconds to two minutes of work, so
that the others never wait as long as a collective may take."""
_DTYPES = (torch.float32, torch.float64, torch.int64)
_DIMS = 5
_MOST = 32  # tensors of one shard
_FAILED = -1

Work = Callable[[range, Callable[[int], None]], list[Tensor]]
"""``work(part, tell)`` returns tensors about the images ``part``, and tells how many of them are
done."""


def in_shards(
    count: int, work: Work, processes: Processes, device: torch.device, text: str
) -> Iterator[list[Tensor]]:
    """Yield what ``work`` returns for every shard of ``count`` images.

    It does so in order and on every process.

    Shards do not depend on the number of processes, so sums over them are the same bit for bit, if
    the processes run the same arithmetic. Results are exchanged after every round of shards: no
    process waits for another one longer than a shard takes. The first process shows progress under
    ``text``. A ``UserError`` of one process ends the work of all.
    """
    shards = [range(start, min(start + SHARD, count)) for start in range(0, count, SHARD)]
    show = progress(text, count, "images") if processes.is_first else contextlib.nullcontext()
    with show as bar:
        for first in range(0, len(shards), processes.world_size):
            now = shards[first : first + processes.world_size]
            done = 0

            def tell(number: int, before: int = now[0].start) -> None:
                nonlocal done
                done += number
                if bar is not None:
                    bar.update(min(before + done * processes.world_size, count))

            result, error = None, None
            if processes.rank < len(now):
                try:
                    result = work(now[processes.rank], tell)
                except UserError as wrong:
                    error = wrong
            for owner in range(len(now)):
                yield exchange(
                    result if owner == processes.rank else None, owner, processes, device, error
                )
            if bar is not None:
                bar.update(now[-1].stop)


def exchange(
    tensors: Sequence[Tensor] | None,
    owner: int,
    processes: Processes,
    device: torch.device,
    error: UserError | None = None,
) -> list[Tensor]:
    """Return the ``tensors`` of the process ``owner`` on all of them.

    The others need not know their shapes.

    Where the owner has an ``error`` instead it raises that, and the others a ``UserError``.
    """
    mine = owner == processes.rank
    if processes.world_size == 1:
        if error is not None:
            raise error
        assert tensors is not None  # a single process owns all
        return list(tensors)
    header = torch.zeros(1 + _MOST * (_DIMS + 2), dtype=torch.int64)
    if mine:
        numbers = [_FAILED] if tensors is None else [len(tensors)]
        for tensor in tensors or ():
            shape = [*tensor.shape, *[0] * (_DIMS - tensor.ndim)]
            numbers += [_DTYPES.index(tensor.dtype), tensor.ndim, *shape]
        header[: len(numbers)] = torch.tensor(numbers)
    header = _broadcast(header.to(device), owner, processes)
    count, *numbers = header.tolist()
    if count == _FAILED:
        if mine and error is not None:
            raise error
        raise UserError(
            "Another process could not measure its share of the images; its message says why."
        )
    received = []
    for index in range(count):
        dtype, ndim, *shape = numbers[index * (_DIMS + 2) : (index + 1) * (_DIMS + 2)]
        value = (
            tensors[index].to(device).contiguous()
            if mine and tensors is not None
            else torch.empty(shape[:ndim], dtype=_DTYPES[dtype], device=device)
        )
        received.append(_broadcast(value, owner, processes))
    return received


def _broadcast(value: Tensor, owner: int, processes: Processes) -> Tensor:
    with waiting("what another process measures", processes):
        torch.distributed.broadcast(value, owner)
    return value
