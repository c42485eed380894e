"""Checks of shapes and kinds of numbers."""

import torch
from torch import Tensor

from gghead.torch_utils.errors import UserError


def check_shape(name: str, tensor: Tensor, shape: tuple[int | None, ...]) -> None:
    """Raise ``UserError`` unless ``tensor`` ends in ``shape`` (``None`` = any size)."""
    tail = tuple(tensor.shape[tensor.ndim - len(shape) :]) if tensor.ndim >= len(shape) else ()
    if len(tail) != len(shape) or any(
        want is not None and want != got for want, got in zip(shape, tail, strict=True)
    ):
        wanted = ", ".join("*" if size is None else str(size) for size in shape)
        raise UserError(f"{name} must have shape [..., {wanted}], but it has {list(tensor.shape)}.")


def at_least_float32(x: Tensor) -> Tensor:
    """``x`` in float32, or in float64 if it is in float64.

    Half precisions lose small terms of long sums.
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))
