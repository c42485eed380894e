"""What the readers of formats share: options, and files whose every fault is one sentence."""

import io
import json
import posixpath
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from gghead.data.files import FolderSource, Source, ZipSource
from gghead.torch_utils.errors import UserError


@dataclass(frozen=True)
class ReadOptions:
    """Options of the readers; ``formats.read`` refuses those that a format has no use for."""

    subjects: tuple[str, ...] | None = None
    """Names of the people to read."""
    moments: tuple[str, ...] | None = None
    """Names of the expressions, sequences or clips to read."""
    cameras: tuple[str, ...] | None = None
    """Names of the cameras to read."""
    scale: float | None = None
    """World units per unit of the data; 2.681 (one unit is 0.373 m) for metres."""
    offset: tuple[float, float, float] | None = None
    """Where the data's origin lies in our world."""
    world: tuple[tuple[float, ...], ...] | None = None
    """4x4 similarity from the data's frame to our world; replaces scale and offset."""
    test_frames: int | None = None
    """Last so many time steps are for testing; None = what the format's authors do."""
    test_clips: tuple[str, ...] | None = None
    """Clips for testing, where a format has clips."""
    skip_missing: bool = False
    """Go on without frames whose pictures are absent or whose numbers leave gaps; otherwise they
    are an error."""
    flame: Path | None = None
    """The user's FLAME model file, from which the joints of the neck are taken."""
    lens: Literal["undistort", "refuse", "ignore"] | None = None
    """What to do with pictures of a lens with distortion; None = undistort, but refuse where its
    convention is unknown."""
    fps: float | None = None
    """Frames per second, where the data do not say."""


# a frame's parameters are kilobytes; a file that unpacks to more is a trap
_NPZ_BYTES = 256 * 2**20


def read_json(source: Source, name: str) -> Any:
    """Return the content of a JSON file; raises ``UserError`` if it is absent or broken."""
    data = read_bytes(source, name)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{name} in {source.path} is not valid JSON ({error}); copy it again."
        ) from error


def read_bytes(source: Source, name: str) -> bytes:
    try:
        return source.read(name)
    except (KeyError, OSError) as error:
        raise UserError(
            f"{source.path} has no {name}; copy it again, or read it as another format."
        ) from error


def read_npz(source: Source, name: str) -> dict[str, np.ndarray]:
    """Return the arrays of an npz file; pickled objects inside are refused."""
    data = read_bytes(source, name)
    where = f"{name} in {source.path}"
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(info.file_size for info in archive.infolist()) > _NPZ_BYTES:
                raise UserError(
                    f"{where} would unpack to more than {_NPZ_BYTES >> 20} MiB, as zip bombs do."
                )
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays}
    except (zipfile.BadZipFile, ValueError, OSError, EOFError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{where} is no readable npz of plain arrays ({error}); copy it again."
        ) from error


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
    """Return ``content["frames"]``; raises ``UserError`` unless it is a list of mappings with
    something in it."""
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
    wanted = "x".join("N" if side is None else str(side) for side in shape)
    try:
        result = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{what} must be {wanted} numbers, but it is ragged or holds something else."
        ) from error
    if result.ndim != len(shape) or any(
        w is not None and w != g for w, g in zip(shape, result.shape, strict=True)
    ):
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
            f"{where} has pictures of {width:g}x{height:g} pixels; its '{keys[0]}' or '{keys[1]}'"
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


# -> float32 [N, K]
def coefficients(vectors: Sequence[Any], names: Sequence[str], where: str) -> np.ndarray:
    """Stack expression vectors; raises ``UserError`` naming the first whose length differs from the
    first one's."""
    rows = [
        array(vector, (None,), f"The expression of {name} in {where}")
        for vector, name in zip(vectors, names, strict=True)
    ]
    for row, name in zip(rows, names, strict=True):
        if len(row) != len(rows[0]):
            raise UserError(
                f"The expression of {name} in {where} has {len(row)} numbers, but that of"
                f" {names[0]} has {len(rows[0])}; track all frames with one model."
            )
    return np.stack(rows).astype(np.float32)


def member(name: str, base: str = "") -> str:
    """A path of a JSON file as a name in the source; ``base`` is the JSON file's folder."""
    return posixpath.normpath(posixpath.join(base, str(name).replace("\\", "/")))


class ZipFolderSource:
    """Named files below a folder; members of its zips carry the zip's name as that of a folder."""

    def __init__(self, path: Path):
        self.path = path
        self._folder = FolderSource(path)
        self._zips = {
            name: ZipSource(path / name) for name in self._folder.names() if name.endswith(".zip")
        }
        plain = [name for name in self._folder.names() if name not in self._zips]
        packed = [
            f"{name}/{member}" for name, archive in self._zips.items() for member in archive.names()
        ]
        self._names = sorted(plain + packed)

    def names(self) -> list[str]:
        return self._names

    def read(self, name: str) -> bytes:
        source, inner = self._find(name)
        return source.read(inner)

    def open(self, name: str) -> BinaryIO:
        source, inner = self._find(name)
        return source.open(inner)

    def head(self, name: str, count: int) -> bytes:
        source, inner = self._find(name)
        return source.head(inner, count)

    def close(self) -> None:
        self._folder.close()
        for archive in self._zips.values():
            archive.close()

    def _find(self, name: str) -> tuple[FolderSource | ZipSource, str]:
        archive, found, inner = name.partition(".zip/")
        return (self._zips[f"{archive}.zip"], inner) if found else (self._folder, name)
