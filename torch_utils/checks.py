"""Checks of shapes and kinds of numbers."""

import torch
from torch import Tensor


def check_shape(name: str, tensor: Tensor, shape: tuple[int | None, ...]) -> None:
    """Raise ``ValueError`` unless the last dimensions of ``tensor`` are ``shape``.

    ``None`` stands for any size. For what a file holds see ``shape_fault``.
    """
    fault = shape_fault(name, tensor, shape)
    if fault is not None:
        raise ValueError(fault)


def shape_fault(name: str, tensor: Tensor, shape: tuple[int | None, ...]) -> str | None:
    """Return a sentence if the last dimensions of ``tensor`` are not ``shape``, else ``None``."""
    tail = tuple(tensor.shape[tensor.ndim - len(shape) :]) if tensor.ndim >= len(shape) else ()
    if len(tail) == len(shape) and all(
        want is None or want == got for want, got in zip(shape, tail, strict=True)
    ):
        return None
    wanted = ", ".join("*" if size is None else str(size) for size in shape)
    return f"{name} must have shape [..., {wanted}], but it has {list(tensor.shape)}."


def at_least_float32(x: Tensor) -> Tensor:
    """``x`` in float32, or in float64 if it is in float64.

    Half precisions lose small terms of long sums.
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))
