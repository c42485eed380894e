"""What moves an avatar or a head.

The coefficients of a tracked sequence or of a CSV table, brought to its own.
"""

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gghead.animation.frames import Frames, read_sequence, select_coefficients, split_or_all
from gghead.data.captures import TrackedSequence
from gghead.models.avatar_config import AvatarConfig
from gghead.template.sliders import Sliders, is_known
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
    at_rest: tuple[str, ...] = ()
    """Coefficients of an avatar that the drive says nothing about: they stay at 0, the neutral
    value."""


def read_drive(
    path: str,
    config: AvatarConfig | Sliders,
    *,
    split: str | None = None,
    mapping: str | None = None,
    size: tuple[int, int] | None = None,
) -> Drive:
    """Read a sequence (folder, zip) or a .csv for an avatar of ``config`` or for these sliders.

    Avatars take of a sequence what they took in training: its first coefficients, or also jaw,
    eyes, eyelids. Coefficients whose names are ARKit's, ICT-FaceKit's or Live Link Face's on both
    sides are taken by name, and those that do not exist here are left out; ``mapping`` "names"
    insists on that. Otherwise ``mapping`` names a matrix [B, drive's B].

    Raises ``UserError`` for another expression model without a mapping, and for broken files.
    """
    if Path(path).suffix.lower() == ".csv":
        if split is not None:
            raise UserError(f"`split='{split}'` has no meaning for the table {path}; leave it out.")
        table = read_table(path)
        named = bool(table.names and config.coefficient_names)
        if mapping == BY_NAME or (mapping is None and named):
            taken, left_out = _match_columns(config, table.names, table.values, f"The table {path}")
            return Drive(
                taken,
                None,
                table.fps,
                (*left_out, *table.left_out),
                _at_rest(config, table.names or ()),
            )
        matched = _match(table.values, table.names, f"the table {path}", config, mapping)
        return Drive(matched, None, table.fps, table.left_out)
    whole = sequence = read_sequence(path, size)
    if isinstance(config, AvatarConfig) and mapping is None:
        sequence = as_trained(sequence, config)
    known = any(
        is_known(name) and _sliders(config).reaches(name) for name in whole.coefficient_names or ()
    )
    same = set(sequence.coefficient_names or ()) == set(config.coefficient_names)
    by_name = mapping == BY_NAME or (mapping is None and known and not same)
    sequence = whole if by_name else sequence
    sequence = sequence if split is None else split_or_all(sequence, split)
    assert sequence.coefficients is not None  # read_sequence sees to it
    what, values = f"{path} ({sequence.format})", sequence.coefficients.float()
    names = sequence.coefficient_names
    if by_name:
        expression, left_out = _match_columns(config, names, values, what)
    else:
        expression, left_out = _match(values, names, what, config, mapping), ()
    return Drive(
        expression,
        Frames(sequence),
        sequence.fps,
        left_out,
        _at_rest(config, names or ()) if by_name else (),
    )


def as_trained(sequence: TrackedSequence, config: AvatarConfig) -> TrackedSequence:
    """With the coefficients that the avatar took of its training sequence.

    All, where there are no more than these.
    """
    return select_coefficients(
        sequence, config.first if config.first < sequence.width else 0, config.extras
    )


@dataclass(frozen=True, eq=False)
class Table:
    """A CSV file of weights, one row per frame."""

    names: tuple[str, ...] | None
    """Of the columns; None without a header."""
    values: Tensor  # [T, columns]
    fps: float | None = None
    """Where the rows carry the time, as Live Link Face writes it."""
    left_out: tuple[str, ...] = ()
    """Columns that are no weights of expressions: how head and eyes are turned."""


def read_table(path: str) -> Table:
    """Read a CSV file of numbers, or a recording of Live Link Face.

    The names stand above the columns or are missing.

    Live Link Face (Epic Games) writes Timecode (HH:MM:SS:FF.fff), BlendShapeCount, ARKit's 52 names
    beginning with a capital, and nine angles of head and eyes. The gaze is in eyeLook… already, and
    the head's turning is the camera's business here, so the angles are left out.

    Raises ``UserError`` naming the line of what is no finite number, or of a row that is too long
    or too short.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = enumerate(csv.reader(file), 1)
            rows = [(number, row) for number, row in lines if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{path} cannot be read as a table of weights ({error}); write one row of numbers per"
            " frame, separated by commas."
        ) from error
    names = None
    if rows and any(_number(cell) is None for cell in rows[0][1]):
        names = tuple(cell.strip() for cell in rows.pop(0)[1])
        if len(set(names)) != len(names):
            raise UserError(f"{path} names a column twice; give every coefficient one column.")
    if not rows:
        raise UserError(f"{path} holds no row of weights.")
    width = len(names) if names is not None else len(rows[0][1])
    for number, row in rows:
        if len(row) != width:
            raise UserError(
                f"Line {number} of {path} has {len(row)} values, but {width} are expected."
            )
    lower = [name.lower() for name in names or ()]
    times = lower.index(_TIMECODE) if _TIMECODE in lower else None
    skipped = {index for index, name in enumerate(lower) if name in (_TIMECODE, _COUNT)}
    turned = [index for index, name in enumerate(lower) if name in _ANGLES] if skipped else []
    kept = [index for index in range(width) if index not in skipped and index not in turned]
    if not kept:
        raise UserError(f"{path} holds no weights beside {', '.join(names or ())}.")
    values = []
    for number, row in rows:
        values.append([_number(row[index]) for index in kept])
        bad = next(
            (
                row[index]
                for index, value in zip(kept, values[-1], strict=True)
                if value is None or not math.isfinite(value)
            ),
            None,
        )
        if bad is not None:
            raise UserError(
                f"Line {number} of {path} holds '{bad.strip()}', which is no finite number."
            )
    return Table(
        None if names is None else tuple(names[index] for index in kept),
        torch.tensor(values, dtype=torch.float32),
        None if times is None else _rate([row[times] for _, row in rows]),
        tuple((names or ())[index] for index in turned),
    )


_TIMECODE, _COUNT = "timecode", "blendshapecount"
_ANGLES = {
    f"{what}{angle}"
    for what in ("head", "lefteye", "righteye")
    for angle in ("yaw", "pitch", "roll")
}


def _rate(timecodes: list[str]) -> float | None:
    """Rows per second between the first and the last change of the second.

    None for less than one second between.
    """
    changes, before = [], None
    for index, code in enumerate(timecodes):
        second = code.split(":")[:3]
        if before is not None and second != before:
            changes.append((index, second))
        before = second
    if len(changes) < 2:
        return None
    try:
        first, last = (
            sum(int(part) * unit for part, unit in zip(second, (3600, 60, 1), strict=True))
            for _, second in (changes[0], changes[-1])
        )
    except ValueError:
        return None
    seconds = (last - first) % 86400  # a recording may go on past midnight
    return round((changes[-1][0] - changes[0][0]) / seconds, 3) if seconds else None


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _sliders(config: AvatarConfig | Sliders) -> Sliders:
    if isinstance(config, Sliders):
        return config
    return Sliders(tuple(config.coefficient_names), config.expression_model, owner="the avatar")


def _at_rest(config: AvatarConfig | Sliders, names: tuple[str, ...]) -> tuple[str, ...]:
    """Own coefficients that none of ``names`` moves.

    Of heads, whose every table leaves some out, none are listed.
    """
    if isinstance(config, Sliders):
        return ()
    reached = _sliders(config).matrix(names).any(0).tolist()
    return tuple(
        name for name, moves in zip(config.coefficient_names, reached, strict=True) if not moves
    )


def _match_columns(
    config: AvatarConfig | Sliders, names: tuple[str, ...] | None, values: Tensor, what: str
) -> tuple[Tensor, tuple[str, ...]]:
    """Columns matched by name, and the names that had to be left out."""
    config = _sliders(config)
    if not names or not config.coefficient_names:
        who = config.owner if names else what
        raise UserError(
            f"`mapping='{BY_NAME}'` needs names on both sides, but {who} has none; give a matrix."
        )
    return config.take(names, values, what)


def _match(
    values: Tensor,
    names: tuple[str, ...] | None,
    what: str,
    config: AvatarConfig | Sliders,
    mapping: str | None,
) -> Tensor:
    own = tuple(config.coefficient_names)
    if mapping is not None:
        return values @ _matrix(mapping, config.width, values.shape[1]).T
    if names and own and set(names) == set(own):
        return values[:, [names.index(name) for name in own]]
    if values.shape[1] != config.width or (names and own):
        taught = (
            f"{config.owner} has" if isinstance(config, Sliders) else "the avatar was trained with"
        )
        raise UserError(
            f"{what} has {values.shape[1]} coefficients{_name_list(names)}, but {taught}"
            f" {config.width}{_name_list(own)} of '{config.expression_model}': another"
            f" expression model. Give `mapping=FILE`, a matrix of {config.width} rows and"
            f" {values.shape[1]} columns, or `mapping='{BY_NAME}'` where both have names of ARKit"
            " or ICT-FaceKit."
        )
    return values


def _name_list(names: tuple[str, ...] | None) -> str:
    return f" ({', '.join(names[:3])} …)" if names else ""


def _matrix(path: str, rows: int, columns: int) -> Tensor:
    """A mapping from .npy or .csv."""
    if Path(path).suffix.lower() == ".csv":
        matrix = read_table(path).values
    else:
        try:
            matrix = torch.from_numpy(np.asarray(np.load(path, allow_pickle=False), np.float32))
        except (OSError, ValueError) as error:
            raise UserError(f"`mapping='{path}'` is neither .npy nor .csv ({error}).") from error
    if tuple(matrix.shape) != (rows, columns) or not bool(matrix.isfinite().all()):
        raise UserError(
            f"`mapping='{path}'` must be a matrix of {rows} rows (the coefficients that are driven)"
            f" and {columns} columns (the drive's) of finite numbers, but its shape is"
            f" {list(matrix.shape)}."
        )
    return matrix
