"""Values of JSON files, checked: every fault is one sentence that names the value and its file."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from gghead.torch_utils.errors import UserError


def entry(content: Any, key: str, where: str) -> Any:
    """Return ``content[key]``; raises ``UserError`` naming what is missing where."""
    if not isinstance(content, Mapping) or key not in content:
        raise UserError(f"{where} has no '{key}'; it is damaged, or of another format.")
    return content[key]


def frame_list(content: Any, where: str) -> list[dict]:
    """Return ``content["frames"]``.

    Raises ``UserError`` unless it is a list of mappings with something in it.
    """
    frames = entry(content, "frames", where)
    if (
        not isinstance(frames, list)
        or not frames
        or not all(isinstance(frame, dict) for frame in frames)
    ):
        raise UserError(f"'frames' of {where} is not a list of frames.")
    return frames


# -> float64 of that shape
def array(values: Any, shape: tuple[int | None, ...], what: str) -> np.ndarray:
    """Check the shape of numbers from a file; ``None`` in ``shape`` is any size."""
    sides = "x".join("N" if side is None else str(side) for side in shape)
    wanted = f"{sides} numbers" if shape else "one number"
    try:
        result = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{what} must be {wanted}, but it is ragged or holds something else."
        ) from error
    if result.ndim != len(shape) or any(
        w is not None and w != g for w, g in zip(shape, result.shape, strict=True)
    ):
        have = "x".join(map(str, result.shape)) or "one"
        raise UserError(f"{what} must be {wanted}, but it has {have}.")
    if not np.isfinite(result).all():
        raise UserError(f"{what} holds NaN or infinite numbers.")
    return result


def number(content: Any, key: str, where: str) -> float:
    """Return the finite number ``content[key]``."""
    return float(array(entry(content, key, where), (), f"'{key}' of {where}"))


def image_size(content: Any, where: str, keys: tuple[str, str] = ("w", "h")) -> tuple[int, int]:
    """Return the width and height under ``keys``, at least 1."""
    width, height = (number(content, key, where) for key in keys)
    if width < 1 or height < 1:
        raise UserError(
            f"{where} has images of {width:g}x{height:g} pixels; its '{keys[0]}' or '{keys[1]}'"
            " is wrong."
        )
    return int(width), int(height)


def text(value: Any, what: str) -> str:
    """Return a name of a file, which may be a number; raises ``UserError`` for anything else."""
    if not isinstance(value, (str, int)) or isinstance(value, bool):
        raise UserError(f"{what} must be a name or a number, but it is {type(value).__name__}.")
    return str(value)


def texts(value: Any, what: str) -> tuple[str, ...]:
    """Return a list of names of a file; none for None."""
    if value is not None and not isinstance(value, (list, tuple)):
        raise UserError(f"{what} must be a list, but it is {type(value).__name__}.")
    return tuple(text(item, f"An entry of {what}") for item in value or ())


def matrix(values: Any, what: str) -> np.ndarray:  # 3x4 or 4x4 -> 4x4 float64
    """A pose of a file as 4x4; the last row is added where the file leaves it out."""
    rows = len(values) if isinstance(values, (list, tuple, np.ndarray)) else 0
    if rows == 3:
        return np.concatenate([array(values, (3, 4), what), [[0.0, 0.0, 0.0, 1.0]]])
    return array(values, (4, 4), what)
