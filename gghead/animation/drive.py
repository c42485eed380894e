"""What moves an avatar or a head: the coefficients of a tracked sequence or of a CSV table, brought to its own."""

import csv
import difflib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gghead.animation.frames import Frames, read_sequence, split_or_all, taken
from gghead.animation.sliders import Sliders
from gghead.data.sequences import TrackedSequence
from gghead.models.avatar_config import AvatarConfig
from gghead.torch_utils.errors import UserError

BY_NAME = "names"


@dataclass(frozen=True, eq=False)
class Drive:
    """T frames of coefficients, and what was filmed where they come from a sequence."""

    expression: Tensor  # [T, B]
    frames: Frames | None
    fps: float | None
    left_out: tuple[str, ...] = ()
    """Coefficients of the drive that a head has no shape for."""


def read_drive(path: str, config: AvatarConfig | Sliders, *, split: str | None = None, mapping: str | None = None,
               size: tuple[int, int] | None = None) -> Drive:
    """Read a sequence (folder, zip) or a .csv for an avatar of ``config``, or for a head with these sliders.

    Avatars take of a sequence what they took in training: its first coefficients, or also jaw, eyes, eyelids.
    ``mapping`` names a matrix [B, drive's B], or is "names": coefficients are taken by their names in ARKit or
    ICT-FaceKit, as heads take them in any case, and those that do not exist here are left out.

    Raises ``UserError`` for another expression model without a mapping, and for broken files.
    """
    if Path(path).suffix.lower() == ".csv":
        if split is not None:
            raise UserError(f"--split has no meaning for the table {path}; leave it out.")
        names, values = read_table(path)
        if mapping == BY_NAME or (names is not None and mapping is None and isinstance(config, Sliders)):
            return Drive(*_taken(config, names, values, f"The table {path}"))
        if names is not None and mapping is None and config.coefficient_names:
            return Drive(_by_name(names, values, config, path), None, None)
        return Drive(_matched(values, names, f"the table {path}", config, mapping), None, None)
    sequence = read_sequence(path, size)
    if isinstance(config, AvatarConfig) and mapping is None:
        sequence = as_trained(sequence, config)
    sequence = sequence if split is None else split_or_all(sequence, split)
    what = f"{path} ({sequence.format})"
    named = sequence.coefficient_names or ()
    known = isinstance(config, Sliders) and mapping is None and any(config.knows(name) for name in named)
    if known or mapping == BY_NAME:
        return Drive(*_taken(config, named, sequence.coefficients.float(), what, Frames(sequence), sequence.fps))
    expression = _matched(sequence.coefficients.float(), sequence.coefficient_names, what, config, mapping)
    return Drive(expression, Frames(sequence), sequence.fps)


def as_trained(sequence: TrackedSequence, config: AvatarConfig) -> TrackedSequence:
    """With the coefficients that the avatar took of its training sequence; all, where there are no more than these."""
    return taken(sequence, config.first if config.first < sequence.width else 0, config.extras)


def read_table(path: str) -> tuple[tuple[str, ...] | None, Tensor]:
    """Names (None without a header) and values [T, columns] of a CSV file; one row per frame.

    Raises ``UserError`` naming the line of what is no finite number, or of a row that is too long or too short.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = enumerate(csv.reader(file), 1)
            rows = [(number, row) for number, row in lines if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a table of weights ({error}); write one row of numbers per frame, "
                        "separated by commas.") from error
    names = None
    if rows and any(_number(cell) is None for cell in rows[0][1]):
        names = tuple(cell.strip() for cell in rows.pop(0)[1])
        if len(set(names)) != len(names):
            raise UserError(f"{path} names a column twice; give every coefficient one column.")
    if not rows:
        raise UserError(f"{path} holds no row of weights.")
    width = len(names) if names is not None else len(rows[0][1])
    values = []
    for number, row in rows:
        if len(row) != width:
            raise UserError(f"Line {number} of {path} has {len(row)} values, but {width} are expected.")
        values.append([_number(cell) for cell in row])
        bad = next((cell for cell, value in zip(row, values[-1], strict=True)
                    if value is None or not math.isfinite(value)), None)
        if bad is not None:
            raise UserError(f"Line {number} of {path} holds '{bad.strip()}', which is no finite number.")
    return names, torch.tensor(values, dtype=torch.float32)


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _taken(config: AvatarConfig | Sliders, names: tuple[str, ...] | None, values: Tensor, what: str,
           frames: Frames | None = None, fps: float | None = None) -> tuple:
    """The parts of a ``Drive`` whose columns are matched by name."""
    if not isinstance(config, Sliders):
        config = Sliders(config.coefficient_names, config.expression_model, owner="the avatar")
    for who, known in ((what, names), (config.owner, config.coefficient_names)):
        if not known:
            raise UserError(f"--mapping={BY_NAME} needs names on both sides, but {who} has none; give a matrix.")
    taken, left_out = config.take(names, values, what)
    return taken, frames, fps, left_out


def _by_name(names: tuple[str, ...], values: Tensor, config: AvatarConfig, path: str) -> Tensor:
    """The avatar's coefficients in its order; columns that the table lacks stay at 0, the neutral value."""
    own = config.coefficient_names
    for name in names:
        if name not in own:
            near = difflib.get_close_matches(name, own, n=1)
            hint = f"did it mean '{near[0]}'?" if near else f"it has {', '.join(own[:6])} …"
            raise UserError(f"{path} has a column '{name}', which this avatar has no coefficient for; {hint}")
    expression = torch.zeros(len(values), config.width)
    expression[:, [own.index(name) for name in names]] = values
    return expression


def _matched(values: Tensor, names: tuple[str, ...] | None, what: str, config: AvatarConfig | Sliders,
             mapping: str | None) -> Tensor:
    own = tuple(config.coefficient_names)
    if mapping is not None:
        return values @ _matrix(mapping, config.width, values.shape[1]).T
    if names and own and set(names) == set(own):
        return values[:, [names.index(name) for name in own]]
    if values.shape[1] != config.width or (names and own):
        taught = f"{config.owner} has" if isinstance(config, Sliders) else "the avatar was trained with"
        raise UserError(f"{what} has {values.shape[1]} coefficients{_said(names)}, but {taught} "
                        f"{config.width}{_said(own)} of '{config.expression_model}': another expression model. Give "
                        f"--mapping=FILE, a matrix of {config.width} rows and {values.shape[1]} columns, or "
                        f"--mapping={BY_NAME} where both have ARKit's or ICT-FaceKit's names.")
    return values


def _said(names: tuple[str, ...] | None) -> str:
    return f" ({', '.join(names[:3])} …)" if names else ""


def _matrix(path: str, rows: int, columns: int) -> Tensor:
    """A mapping from .npy or .csv."""
    if Path(path).suffix.lower() == ".csv":
        matrix = read_table(path)[1]
    else:
        try:
            matrix = torch.from_numpy(np.asarray(np.load(path, allow_pickle=False), np.float32))
        except (OSError, ValueError) as error:
            raise UserError(f"--mapping={path} is neither .npy nor .csv ({error}).") from error
    if tuple(matrix.shape) != (rows, columns) or not bool(matrix.isfinite().all()):
        raise UserError(f"--mapping={path} must be a matrix of {rows} rows (the coefficients that are driven) and "
                        f"{columns} columns (the drive's) of finite numbers, but its shape is {list(matrix.shape)}.")
    return matrix
