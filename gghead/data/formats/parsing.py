"""What the readers of formats share: options, and files whose every fault is one sentence."""

import io
import json
import posixpath
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from gghead.data.files import Files
from gghead.data.json_values import array
from gghead.torch_utils.config import ConfigError, Option, Range
from gghead.torch_utils.errors import UserError

_NAMES = Option(metavar="NAMES", form="names and ranges")


@dataclass(frozen=True)
class ReadOptions:
    """Options of the readers; ``formats.read`` refuses those that a format has no use for."""

    subjects: Annotated[tuple[str, ...] | None, _NAMES] = None
    """Only these people: 3,7-9."""
    moments: Annotated[
        tuple[str, ...] | None,
        Option("--expressions", metavar="NAMES", form="names and ranges"),
    ] = None
    """Only these expressions, sequences or clips."""
    cameras: Annotated[tuple[str, ...] | None, _NAMES] = None
    """Only these cameras."""
    scale: Annotated[float | None, Option(default="the format's")] = None
    """World units per unit of the data; 2.681 (one unit is 0.373 m) for meters."""
    offset: Annotated[tuple[float, ...] | None, Option(metavar="X,Y,Z")] = None
    """Where the data's origin lies in our world, three numbers."""
    world: Annotated[
        tuple[tuple[float, ...], ...] | None, Option(metavar="FILE|16 NUMBERS", form="matrix")
    ] = None
    """4x4 similarity from the data's frame to our world, instead of scale and offset."""
    test_frames: Annotated[int | None, Range(0), Option(default="as the format's authors do")] = (
        None
    )
    """The last so many time steps are for testing."""
    test_clips: Annotated[tuple[str, ...] | None, _NAMES] = None
    """Clips for testing, where a format has clips (IMavatar)."""
    skip_missing: Annotated[bool, Option()] = False
    """Go on without frames whose images are absent or whose numbers leave gaps; otherwise they are
    an error."""
    flame: Annotated[Path | None, Option()] = None
    """Your FLAME model file, for the exact joints of the neck."""
    lens: Annotated[
        Literal["undistort", "refuse", "ignore"] | None,
        Option(default="undistort; refuse for Ava-256"),
    ] = None
    """What to do with images of a lens with distortion.

    None: undistort, but refuse where the format's convention is unknown."""
    fps: Annotated[float | None, Range(0, above=True), Option()] = None
    """Frames per second, where the data do not say."""

    def __post_init__(self) -> None:
        if self.offset is not None and len(self.offset) != 3:
            raise ConfigError(f"{{offset}} must be three numbers, but it has {len(self.offset)}.")


# a frame's parameters are kilobytes; a file that unpacks to more is a trap
_NPZ_BYTES = 256 * 2**20


def read_json(source: Files, name: str) -> Any:
    """Return the content of a JSON file; raises ``UserError`` if it is absent or broken."""
    data = read_bytes(source, name)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{name} in {source.path} is not valid JSON ({error}); copy it again."
        ) from error


def read_bytes(source: Files, name: str) -> bytes:
    try:
        return source.read(name)
    except (KeyError, OSError) as error:
        raise UserError(
            f"{source.path} has no {name}; copy it again, or read it as another format."
        ) from error


def read_npz(source: Files, name: str) -> dict[str, np.ndarray]:
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


def read_numbers(source: Files, name: str) -> np.ndarray:
    """Return the numbers of a text file, separated by any white space, as float64 [N]."""
    data = read_bytes(source, name)
    try:
        return np.array([float(word) for word in data.decode("ascii").split()])
    except (UnicodeDecodeError, ValueError) as error:
        raise UserError(f"{name} in {source.path} is not a list of numbers ({error}).") from error


# -> float32 [N, K]
def coefficients(vectors: Sequence[Any], names: Sequence[str], where: str) -> np.ndarray:
    """Stack expression vectors.

    Raises ``UserError`` naming the first whose length differs from the first one's.
    """
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
