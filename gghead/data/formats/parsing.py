"""Reading of other people's JSON, text and npz files: every fault is one sentence that names the file and the entry."""

import io
import json
import posixpath
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gghead.data.sources import Source
from gghead.torch_utils.errors import UserError

_NPZ_BYTES = 256 * 2**20  # a frame's parameters are kilobytes; a file that unpacks to more is a trap


def read_json(source: Source, name: str) -> Any:
    """Return the content of a JSON file; raises ``UserError`` if it is absent or broken."""
    data = read_bytes(source, name)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name} in {source.path} is not valid JSON ({error}); copy it again.") from error


def read_bytes(source: Source, name: str) -> bytes:
    try:
        return source.read(name)
    except (KeyError, OSError) as error:
        raise UserError(f"{source.path} has no {name}; copy it again, or read it as another format.") from error


def read_npz(source: Source, name: str) -> dict[str, np.ndarray]:
    """Return the arrays of an npz file; pickled objects inside are refused."""
    data = read_bytes(source, name)
    where = f"{name} in {source.path}"
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(info.file_size for info in archive.infolist()) > _NPZ_BYTES:
                raise UserError(f"{where} would unpack to more than {_NPZ_BYTES >> 20} MiB, as zip bombs do.")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays}
    except (zipfile.BadZipFile, ValueError, OSError, EOFError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{where} is no readable npz of plain arrays ({error}); copy it again.") from error


def read_numbers(source: Source, name: str) -> np.ndarray:
    """Return the numbers of a text file, separated by any white space, as float64 [N]."""
    data = read_bytes(source, name)
    try:
        return np.array([float(word) for word in data.decode("ascii").split()])
    except (UnicodeDecodeError, ValueError) as error:
        raise UserError(f"{name} in {source.path} is not a list of numbers ({error}).") from error


def entry(content: Any, key: str, where: str) -> Any:
    """Return ``content[key]``; raises ``UserError`` naming what is missing where."""
    if not isinstance(content, Mapping) or key not in content:
        raise UserError(f"{where} has no '{key}'; it is damaged, or of another format.")
    return content[key]


def frame_list(content: Any, where: str) -> list[dict]:
    """Return ``content["frames"]``; raises ``UserError`` unless it is a list of mappings with something in it."""
    frames = entry(content, "frames", where)
    if not isinstance(frames, list) or not frames or not all(isinstance(frame, dict) for frame in frames):
        raise UserError(f"'frames' of {where} is not a list of frames.")
    return frames


def array(values: Any, shape: tuple[int | None, ...], what: str) -> np.ndarray:  # -> float64 of that shape
    """Check the shape of numbers from a file; ``None`` in ``shape`` is any size."""
    wanted = "x".join("N" if side is None else str(side) for side in shape)
    try:
        result = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"{what} must be {wanted} numbers, but it is ragged or holds something else.") from error
    if result.ndim != len(shape) or any(w is not None and w != g for w, g in zip(shape, result.shape, strict=True)):
        have = "x".join(map(str, result.shape)) or "one"
        raise UserError(f"{what} must be {wanted} numbers, but it has {have}.")
    if not np.isfinite(result).all():
        raise UserError(f"{what} holds NaN or infinite numbers.")
    return result


def number(content: Any, key: str, where: str) -> float:
    """Return the finite number ``content[key]``."""
    return float(array(entry(content, key, where), (), f"'{key}' of {where}"))


def picture_size(content: Any, where: str, keys: tuple[str, str] = ("w", "h")) -> tuple[int, int]:
    """Return the width and height under ``keys``, at least 1."""
    width, height = (number(content, key, where) for key in keys)
    if width < 1 or height < 1:
        raise UserError(
            f"{where} has pictures of {width:g}x{height:g} pixels; its '{keys[0]}' or '{keys[1]}' is wrong."
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


def coefficients(vectors: Sequence[Any], names: Sequence[str], where: str) -> np.ndarray:  # -> float32 [N, K]
    """Stack expression vectors; raises ``UserError`` naming the first whose length differs from the first one's."""
    rows = [array(vector, (None,), f"The expression of {name} in {where}")
            for vector, name in zip(vectors, names, strict=True)]  # fmt: skip
    for row, name in zip(rows, names, strict=True):
        if len(row) != len(rows[0]):
            raise UserError(f"The expression of {name} in {where} has {len(row)} numbers, but that of {names[0]} has "
                            f"{len(rows[0])}; track all frames with one model.")  # fmt: skip
    return np.stack(rows).astype(np.float32)


def member(name: str, base: str = "") -> str:
    """A path of a JSON file as a name in the source; ``base`` is the JSON file's folder."""
    return posixpath.normpath(posixpath.join(base, str(name).replace("\\", "/")))
