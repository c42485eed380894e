"""Shape checks for public functions."""

from torch import Tensor

from gghead.torch_utils.errors import UserError


def check_shape(name: str, tensor: Tensor, shape: tuple[int | None, ...]) -> None:
    """Raise ``UserError`` unless the last dimensions of ``tensor`` are ``shape`` (``None`` = any size)."""
    tail = tuple(tensor.shape[tensor.ndim - len(shape) :]) if tensor.ndim >= len(shape) else ()
    if len(tail) != len(shape) or any(want is not None and want != got for want, got in zip(shape, tail, strict=True)):
        wanted = ", ".join("*" if size is None else str(size) for size in shape)
        raise UserError(f"{name} must have shape [..., {wanted}], but it has {list(tensor.shape)}.")
