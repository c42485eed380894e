"""Frames from what a reader has found.

Order, cameras, splits, and the checks that all formats share.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch

from gghead.data.captures import Captures, TrackedSequence, last_frames
from gghead.data.files import Files, image_header
from gghead.data.formats.geometry import make_cameras
from gghead.data.formats.parsing import ReadOptions, coefficients
from gghead.data.frame_images import Images, Lens, MaskKind, pack_names, probe_sizes
from gghead.data.video_frames import VideoFrames, is_video_frame
from gghead.torch_utils.errors import UserError

_SPLITS = ("train", "val", "test")  # in this order, then any others
_LENS_PIXELS = 0.5  # a distortion that shifts nothing by more is none


Kind = TypeVar("Kind", bound=Captures | TrackedSequence)


@dataclass
class Row:
    """One image as a reader found it; cameras are already in our world and axes."""

    image: str
    cam2world: np.ndarray  # [4, 4]
    matrix: np.ndarray  # [3, 3] divided by the image size
    size: tuple[int, int] | None = None
    """Width and height that the camera was calibrated for; the image may be a scaled copy."""
    mask: str | None = None
    subject: str = "0"
    moment: str = "0"
    camera: str = "0"
    clip: str = ""
    number: int | None = None
    """Number of the frame in its clip, for the order of time and for finding gaps."""
    coefficients: Any = None
    split: str | None = None
    extras: Mapping[str, Sequence[float] | np.ndarray] = field(default_factory=dict)
    lens: Lens | None = None


def natural(text: str) -> list:
    """Sorting key by which 10 comes after 9."""
    return [
        (0, int(part), "") if part.isdecimal() else (1, 0, part)
        for part in re.split(r"(\d+)", text)
        if part
    ]


def frame_number(image: str, index: int) -> int:
    """The number in an image's name, or ``index`` where it has none.

    ``images/00012.png`` -> 12.
    """
    stem = image.rpartition("/")[2].partition(".")[0]
    return int(stem) if stem.isdecimal() else index


def codes(
    values: Iterable[str], order: Sequence[str] | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Numbers for names, in natural order unless ``order`` is given: (codes [N] int32, names)."""
    values = list(values)
    names = list(order) if order is not None else sorted(set(values), key=natural)
    at = {name: index for index, name in enumerate(names)}
    return np.array([at[value] for value in values], np.int32), tuple(names)


def assemble(
    kind: type[Kind],
    source: Files,
    rows: list[Row],
    options: ReadOptions,
    *,
    format: str,
    mask_kind: MaskKind = "none",
    mask_color: tuple[int, int, int] = (255, 255, 255),
    mask_source: Files | None = None,
    coefficient_names: Sequence[str] | None = None,
    fps: float | None = None,
    notes: Sequence[str] = (),
) -> Kind:
    """Put the rows of a reader together.

    Raises ``UserError``: images or masks that are missing, gaps or repeated frames in a sequence
    (both unless ``options.skip_missing``), coefficients of changing length, images of another
    aspect than their camera, names in ``options`` that do not exist, impossible cameras.
    """
    where = str(source.path)
    notes = list(notes)
    rows = _select(rows, options, where)
    rows, mask_kind = _present(rows, source, mask_source or source, mask_kind, options, notes)
    if mask_kind == "embedded" and not _has_alpha(source, rows):
        notes.append("The images have no alpha channel: alpha is 255 everywhere.")
        mask_kind = "none"
    is_sequence = kind is TrackedSequence
    if is_sequence:
        _check_numbers(rows, where, options, notes)
    rows = _sort(rows, by_time=is_sequence)
    names = [row.image for row in rows]
    videos = VideoFrames(source) if any(map(is_video_frame, names)) else None
    groups = [(row.subject, row.camera, row.size) for row in rows]
    sizes = probe_sizes(source, names, groups, videos, [row.size for row in rows])
    _check_aspect(rows, sizes, where)
    lens_codes, lenses = _lenses(rows, sizes, options, where, notes)
    images = Images(
        source,
        pack_names(names),
        sizes,
        mask_kind,
        pack_names([row.mask or "" for row in rows]) if mask_kind in ("file", "color") else None,
        mask_color,
        mask_source,
        lenses,
        lens_codes,
        videos=videos,
    )
    subject, subjects = codes(row.subject for row in rows)
    in_time = list(dict.fromkeys(row.moment for row in rows)) if is_sequence else None
    moment, moments = codes((row.moment for row in rows), in_time)
    camera, camera_names = codes(row.camera for row in rows)
    used = {row.split for row in rows if row.split is not None}
    known = [name for name in _SPLITS if name in used] + sorted(used - set(_SPLITS))
    vectors = [row.coefficients for row in rows]
    have = [vector is not None for vector in vectors]
    if any(have) and not all(have):
        raise UserError(
            f"{names[have.index(False)]} of {where} has no expression, but other frames have one."
        )
    return kind(
        images,
        make_cameras(
            np.stack([row.cam2world for row in rows]), np.stack([row.matrix for row in rows])
        ),
        subject,
        moment,
        camera,
        subjects,
        moments,
        camera_names,
        torch.from_numpy(coefficients(vectors, names, where)) if all(have) else None,
        None if coefficient_names is None else tuple(coefficient_names),
        (
            np.array(
                [known.index(row.split) if row.split in known else -1 for row in rows], np.int8
            )
            if known
            else None
        ),
        tuple(known),
        _extras(rows, names, where),
        fps=options.fps or fps,
        format=format,
        notes=tuple(notes),
    )


def _select(rows: list[Row], options: ReadOptions, where: str) -> list[Row]:
    for wanted, of, what in (
        (options.subjects, lambda row: {row.subject}, "subject"),
        (options.moments, lambda row: {row.moment, row.clip}, "expression or clip"),
        (options.cameras, lambda row: {row.camera}, "camera"),
    ):
        if wanted is None:
            continue
        have = set().union(*(of(row) for row in rows)) - {""}
        for name in wanted:
            if name not in have:
                shown = ", ".join(sorted(have, key=natural)[:8]) + (" …" if len(have) > 8 else "")
                raise UserError(f"{where} has no {what} '{name}'; it has {shown}.")
        rows = [row for row in rows if of(row) & set(wanted)]
    if not rows:
        raise UserError(f"{where} holds no image that was asked for.")
    return rows


def _sort(rows: list[Row], by_time: bool) -> list[Row]:
    """By subject, moment and camera, or by clip, number and camera.

    Numbers in names count as numbers.
    """
    camera = codes(row.camera for row in rows)[0]
    if by_time:
        keys = (camera, np.array([row.number for row in rows]), codes(row.clip for row in rows)[0])
    else:
        keys = (camera, codes(row.moment for row in rows)[0], codes(row.subject for row in rows)[0])
    return [rows[index] for index in np.lexsort(keys)]


def _present(
    rows: list[Row],
    source: Files,
    mask_source: Files,
    mask_kind: MaskKind,
    options: ReadOptions,
    notes: list[str],
) -> tuple[list[Row], MaskKind]:
    """The rows whose files are there."""
    have, have_masks = set(source.names()), set(mask_source.names())

    def there(row: Row) -> bool:
        return row.image in have or row.image.partition("#")[0] in have

    def mask_there(row: Row) -> bool:
        return row.mask is not None and (
            row.mask in have_masks or row.mask.partition("#")[0] in have_masks
        )

    by_file = mask_kind in ("file", "color")
    if by_file and not any(map(mask_there, rows)):
        notes.append("There are no masks: alpha is 255 everywhere.")
        mask_kind, by_file = "none", False
    missing = [row.image for row in rows if not there(row)]
    missing += [
        row.mask or f"the mask of {row.image}"
        for row in rows
        if by_file and there(row) and not mask_there(row)
    ]
    if missing:
        count = f"{len(missing)} file{'s' * (len(missing) > 1)}"
        sentence = (
            f"{count} of the {len(rows)} frames of {source.path} missing, the first is {missing[0]}"
        )
        rows = [row for row in rows if there(row) and (not by_file or mask_there(row))]
        if not options.skip_missing or not rows:
            raise UserError(
                f"{sentence}; copy them again, or leave such frames out with `skip_missing=True`."
            )
        notes.append(f"{sentence}; their frames are left out.")
    return rows, mask_kind


def _has_alpha(source: Files, rows: list[Row]) -> bool:
    """Whether the first image that can be read has an alpha channel."""
    for row in rows:
        try:
            return image_header(source, row.image)[1] in ("RGBA", "LA")
        except UserError:
            continue  # a broken image is reported when it is read
    return False


def _check_numbers(rows: list[Row], where: str, options: ReadOptions, notes: list[str]) -> None:
    """A sequence's frames come once each and leave no gap."""
    for clip in dict.fromkeys(row.clip for row in rows):
        here = [row for row in rows if row.clip == clip]
        name = f"{where} ({clip})" if clip else where
        seen: set = set()
        for row in here:
            if (row.camera, row.number) in seen:
                raise UserError(
                    f"Frame {row.number} of {name} comes more than once; leave one of them out."
                )
            seen.add((row.camera, row.number))
        steps = np.unique([row.number for row in here if row.number is not None])
        gaps = np.flatnonzero(np.diff(steps) > 1)
        if len(gaps):
            count = int((np.diff(steps) - 1).sum())
            sentence = (
                f"The sequence {name} lacks {count} frame{'s' * (count > 1)}, the first after"
                f" {steps[gaps[0]]}"
            )
            if not options.skip_missing:
                raise UserError(
                    f"{sentence}; copy them again, or accept the gaps with `skip_missing=True`."
                )
            notes.append(f"{sentence}.")


def _check_aspect(rows: list[Row], sizes: np.ndarray, where: str) -> None:
    """Refuse images that are crops of the calibrated ones.

    Intrinsics divided by the image size hold for scaled copies only.
    """
    for row, (width, height) in zip(rows, sizes.tolist(), strict=True):
        if row.size is not None and abs(width * row.size[1] - height * row.size[0]) > max(
            *row.size, width, height
        ):
            raise UserError(
                f"{row.image} in {where} is {width}x{height}, but its camera was calibrated for"
                f" images of {row.size[0]}x{row.size[1]}; use those, or scale without cropping."
            )


def _lenses(
    rows: list[Row], sizes: np.ndarray, options: ReadOptions, where: str, notes: list[str]
) -> tuple[np.ndarray | None, tuple[Lens, ...]]:
    """The distortions that matter, as (index per row or None, lenses)."""
    found: dict[Lens, int] = {}
    index = np.full(len(rows), -1, np.int32)
    shifts: dict[Lens, float] = {}
    for at, row in enumerate(rows):
        if row.lens is None:
            continue
        if row.lens not in shifts:
            shifts[row.lens] = row.lens.check(f"camera {row.camera} in {where}").largest_shift()
        pixels = shifts[row.lens] * max(sizes[at])
        if pixels <= _LENS_PIXELS or options.lens == "ignore":
            continue
        if options.lens == "refuse":
            raise UserError(
                f"The lens of camera {row.camera} in {where} shifts the border by {pixels:.1f}"
                " pixels; undistort the images, or choose `lens='undistort'`."
            )
        index[at] = found.setdefault(row.lens, len(found))
    if not found:
        return None, ()
    notes.append(
        f"Images of {len(found)} lens{'es' * (len(found) > 1)} are undistorted when they are read."
    )
    return index, tuple(found)


def _extras(rows: list[Row], names: list[str], where: str) -> dict[str, torch.Tensor]:
    keys = [key for key in rows[0].extras if all(key in row.extras for row in rows)]
    return {
        key: torch.from_numpy(coefficients([row.extras[key] for row in rows], names, where))
        for key in keys
    }


def by_time(rows: list[Row], test_frames: int, options: ReadOptions) -> None:
    """Mark the last frames as "test", the others as "train".

    ``options.test_frames`` replaces the format's number.
    """
    wanted = test_frames if options.test_frames is None else options.test_frames
    split, names = last_frames(np.array([row.number for row in rows]), wanted)
    for row, code in zip(rows, split, strict=True):
        row.split = names[code]


def by_clip(rows: list[Row], known_test: tuple[str, ...], options: ReadOptions) -> str | None:
    """Mark whole clips as "test".

    They are those that the user names, else those that the authors use, else the last of several.

    Returns a note where the choice is a guess.
    """
    clips = sorted({row.clip for row in rows}, key=natural)
    test = set(options.test_clips or ()) or {clip for clip in clips if clip in known_test}
    if unknown := test - set(clips):
        raise UserError(
            f"There is no clip '{min(unknown)}' to test on; the clips are {', '.join(clips)}."
        )
    note = None
    if not test and len(clips) > 1:
        test = {clips[-1]}
        note = f"The clip {clips[-1]} is taken for testing; name another with `test_clips`."
    for row in rows:
        row.split = "test" if row.clip in test else "train"
    return note
