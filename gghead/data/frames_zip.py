"""Captures and sequences as one zip of the project: written, and read back.

The zip is EG3D's form (pictures, ``dataset.json`` with ``labels``), so where pictures are square it
opens as an ``ImageDataset`` too; ``gghead.data.frames_zip`` describes what is added and reads it
back.

``labels`` (25 numbers per picture, EG3D's) hold the cameras. Without more, every picture is a
capture of its own. A project zip adds ``frames``, one record per picture (``file``, ``mask``,
``subject``, ``expression_id``, ``camera``, ``split``, ``expression``, ``extras``), and on top
``kind`` ("captures" or "sequence"), ``version``, ``expression_names``, ``fps``, ``notes``;
``gghead.data.frames_zip`` writes them. GGHead's masks lie in a zip ``<name>_masks_*.zip`` beside
the data.
"""

import dataclasses
import glob
import io
import os
import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from gghead.data.captures import Captures, TrackedSequence
from gghead.data.dataset_zip import (
    DatasetWriter,
    encode_npy,
    encode_png,
    label_array,
    mask_name,
    parse_dataset_json,
)
from gghead.data.files import FolderSource, Source, is_image, open_source
from gghead.data.formats.assemble import Row, assemble
from gghead.data.formats.avatar import OUR_WORLD
from gghead.data.formats.parsing import ReadOptions, array, entry, number, read_npz, text, texts
from gghead.data.frames import FrameSet
from gghead.torch_utils.errors import UserError

VERSION = 1
_CHUNK = 32  # pictures decoded ahead; bounds the memory


@dataclass
class Report:
    """What was written."""

    written: int = 0
    copied: int = 0
    """Pictures whose files were copied byte for byte."""
    skipped: list[str] = field(default_factory=list)
    """One sentence per picture that could not be read."""


@dataclass
class _Encoded:
    name: str
    image: bytes
    mask: bytes | None
    copied: bool


def write_archive(
    frames: FrameSet,
    dest: str | os.PathLike,
    *,
    jpeg_quality: int | None = None,  # 1-100 for pictures that are re-encoded; None = lossless PNG
    workers: int = 2,
    progress: Callable[[int], None] | None = None,  # called with the number of frames done
) -> Report:
    """Write captures or a sequence to ``dest``, a .zip that appears whole or not at all.

    Encoded pictures and masks are copied where nothing changes; every picture is decoded once, and
    those that are broken are left out and reported.

    Raises ``UserError`` if no picture can be read, or ``dest`` cannot be written.
    """
    report = Report()
    records: list[dict] = []
    kept: list[int] = []
    with DatasetWriter(dest) as writer, ThreadPoolExecutor(max(workers, 1)) as pool:
        for start in range(0, len(frames), _CHUNK):
            chunk = range(start, min(start + _CHUNK, len(frames)))
            for index, done in zip(
                chunk, pool.map(lambda i: _encode(frames, i, jpeg_quality), chunk), strict=True
            ):
                if progress is not None:
                    progress(index + 1)
                if isinstance(done, str):
                    report.skipped.append(done)
                    continue
                label = frames.cameras[index].label().double().numpy()
                writer.add(done.name, done.image, label, done.mask)
                records.append(_record(frames, index, done))
                kept.append(index)
                report.copied += done.copied
        report.written = len(kept)
        if not kept:
            raise UserError(
                f"No picture of {frames.pictures.source.path} can be read; the first fault: "
                f"{report.skipped[0]}"
            )
        if frames.landmarks is not None:
            writer.add_file("landmarks.npy", encode_npy(frames.landmarks[kept].numpy()))
        head = {
            "kind": frames.kind,
            "version": VERSION,
            "format": frames.format,
            "splits": list(frames.splits),
            "expression_names": frames.coefficient_names,
            "fps": frames.fps,
            "notes": list(frames.notes),
        }
        for key, value in head.items():
            if value not in (None, [], ""):
                writer.set(key, value)
        writer.set("frames", records)
    return report


def _encode(frames: FrameSet, index: int, jpeg_quality: int | None) -> _Encoded | str:
    """The files of one frame, or what is wrong with it."""
    pictures = frames.pictures
    stem = _stem(frames, index)
    try:
        # also where the file is copied: a broken one must not pass
        rgb, alpha = pictures.read(index)
        original = pictures.encoded(index)
        if original is not None:
            image, suffix = original
        elif pictures.mask_kind == "embedded":
            image, suffix = encode_png(np.dstack([rgb, alpha])), ".png"
        elif jpeg_quality is not None:
            image, suffix = _encode_jpeg(rgb, jpeg_quality), ".jpg"
        else:
            image, suffix = encode_png(rgb), ".png"
        mask = None
        if pictures.mask_kind in ("file", "colour"):
            mask = pictures.encoded_mask(index) or encode_png(alpha)
    except UserError as error:
        return str(error)
    return _Encoded(f"images/{stem}{suffix}", image, mask, original is not None)


def _encode_jpeg(rgb: np.ndarray, quality: int) -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "jpeg", quality=quality, subsampling=0)
    return buffer.getvalue()


def _stem(frames: FrameSet, index: int) -> str:
    """``<subject>/<moment>_<camera>`` by number, so that names sort as frames do and clash
    never."""
    subject, moment, camera = (
        int(array[index]) for array in (frames.subject, frames.moment, frames.camera)
    )
    return f"{subject:05d}/{moment:05d}_c{camera:03d}"


def _record(frames: FrameSet, index: int, done: _Encoded) -> dict:
    record = {
        "file": done.name,
        "source": frames.name(index),
        "subject": frames.subjects[frames.subject[index]],
        "expression_id": frames.moments[frames.moment[index]],
        "camera": frames.camera_names[frames.camera[index]],
        "frame": int(frames.moment[index]),
    }
    if done.mask is not None:
        record["mask"] = mask_name(done.name)
    if (split := frames.split_of(index)) is not None:
        record["split"] = split
    if frames.coefficients is not None:
        record["expression"] = _short(frames.coefficients[index])
    if frames.extras:
        record["extras"] = {name: _short(values[index]) for name, values in frames.extras.items()}
    return record


def _short(values) -> list[float]:
    """Numbers with the nine digits that bring a float32 back exactly."""
    return [float(f"{value:.9g}") for value in values.tolist()]


def limited(frames: FrameSet, max_images: int | None) -> FrameSet:
    """The first ``max_images`` frames; all for None."""
    return frames if max_images is None else frames.take(np.arange(min(max_images, len(frames))))


def as_kind(frames: FrameSet, kind: str | None) -> FrameSet:
    """``frames`` as "captures" or "sequence"; as they are for None. Raises ``UserError`` where that
    cannot be."""
    if kind is None or frames.kind == kind:
        return frames
    return frames.as_captures() if kind == "captures" else TrackedSequence.of(frames)


def describe(frames: FrameSet) -> list[str]:
    """What is in the data, a line each."""
    subjects, moments, cameras = (
        len(np.unique(array)) for array in (frames.subject, frames.moment, frames.camera)
    )
    what = "time steps" if frames.kind == "sequence" else "expressions"
    sizes = Counter(frames.size(index) for index in range(len(frames)))
    shown = ", ".join(f"{width}x{height}" for (width, height), _ in sizes.most_common(3)) + " …" * (
        len(sizes) > 3
    )
    lines = [
        f"{frames.kind} ({frames.format}): {subjects} subjects, {moments} {what}, {cameras}"
        f" cameras, {len(frames)} frames of {shown}, {'with' if frames.has_masks else 'without'}"
        " masks"
    ]
    if frames.coefficients is not None:
        named = (
            re.sub(r"^(.{60}).*", r"\1 …", ", ".join(frames.coefficient_names or ()))
            or "without names"
        )
        lines.append(f"coefficients: {frames.width} ({named})")
    if frames.extras:
        lines.append(
            "extras: "
            + ", ".join(f"{name} ({values.shape[1]})" for name, values in frames.extras.items())
        )
    if frames.split_codes is not None:
        counts = [
            f"{name} {int((frames.split_codes == code).sum())}"
            for code, name in enumerate(frames.splits)
        ]
        lines.append("splits: " + ", ".join(counts))
    yaw, pitch, _ = (np.degrees(angle.numpy()) for angle in frames.cameras.angles())
    radius = frames.cameras.position.norm(dim=-1)
    lines.append(
        f"cameras: yaw {yaw.min():.0f} to {yaw.max():.0f}, pitch {pitch.min():.0f} to"
        f" {pitch.max():.0f} degrees, {float(radius.min()):.2f} to {float(radius.max()):.2f} units"
        " from the head"
    )
    return lines + list(frames.notes)


def looks_like(names: set[str], content: dict | None) -> bool:
    return "dataset.json" in names


def read(source: Source, options: ReadOptions) -> Captures | TrackedSequence:
    """Read a zip or folder with dataset.json; see ``assemble`` for what is refused."""
    where = f"dataset.json in {source.path}"
    if "dataset.json" not in source.names():
        raise UserError(f"{source.path} holds no dataset.json.")
    content = parse_dataset_json(source.read("dataset.json"), source.path)
    version = content.get("version", VERSION)
    if version != VERSION:
        raise UserError(
            f"{source.path} is of version {version}, but version {VERSION} is read here; update"
            " gghead."
        )
    kind = content.get("kind", "captures")
    if kind not in ("captures", "sequence"):
        raise UserError(f"'kind' of {where} must be captures or sequence, but it is {kind!r}.")
    listed = content.get("frames") or []
    if not isinstance(listed, list):
        raise UserError(f"'frames' of {where} is not a list of frames.")
    records = {
        text(entry(record, "file", f"A frame of {where}"), f"'file' of {where}"): record
        for record in listed
    }
    names = list(content["labels"])
    # checks the numbers that are used in full precision below
    label_array(content["labels"], names, source.path)
    inner = content.get("masks") or {}
    if not isinstance(inner, dict):
        raise UserError(f"'masks' of {where} is not a table of picture and mask.")
    masks, mask_source = (
        {name: text(mask, f"The mask of {name} in {where}") for name, mask in inner.items()},
        None,
    )
    for name, record in records.items():
        if record.get("mask") is not None:
            masks[name] = text(record["mask"], f"'mask' of {name} in {where}")
    if not masks:
        masks, mask_source = _masks_beside(source, names)
    rows = [
        _row(
            name, content["labels"][name], records.get(name, {}), index, kind, bool(records), where
        )
        for index, name in enumerate(names)
    ]
    for row in rows:
        row.mask = masks.get(row.picture)
    poses = OUR_WORLD.overridden(options).cameras(np.stack([row.cam2world for row in rows]))
    for row, pose in zip(rows, poses, strict=True):
        row.cam2world = pose
    gaps_known = dataclasses.replace(options, skip_missing=True) if kind == "sequence" else options
    _need_all(rows, source, options)
    frames = assemble(
        TrackedSequence if kind == "sequence" else Captures,
        source,
        rows,
        gaps_known,
        mask_source=mask_source,
        format="gghead" if records else "eg3d",
        mask_kind="file" if masks else "embedded",
        fps=number(content, "fps", where) if content.get("fps") is not None else None,
        coefficient_names=texts(content.get("expression_names"), f"'expression_names' of {where}")
        or _names_beside(source),
        notes=texts(content.get("notes"), f"'notes' of {where}"),
    )
    return _with_landmarks(frames, source, names, options)


def _row(
    name: str, label: list, record: dict, index: int, kind: str, has_records: bool, where: str
) -> Row:
    """One picture; what its record does not say follows from its name and place."""
    at = f"{name} in {where}"
    numbers = np.asarray(label, np.float64)
    step = int(number(record, "frame", at)) if "frame" in record else index
    stem = name.rpartition(".")[0]
    known = {
        "subject": "0" if kind == "sequence" else stem,
        "expression_id": str(step) if kind == "sequence" else "0",
        "camera": _camera_of(name) if has_records else "0",
    }
    known |= {
        key: text(record[key], f"'{key}' of {at}")
        for key in (*known, "split")
        if record.get(key) is not None
    }
    extras = record.get("extras") or {}
    if not isinstance(extras, dict):
        raise UserError(f"'extras' of {at} is not a table.")
    return Row(
        name,
        numbers[:16].reshape(4, 4),
        numbers[16:].reshape(3, 3),
        subject=known["subject"],
        moment=known["expression_id"],
        camera=known["camera"],
        number=step,
        coefficients=record.get("expression"),
        split=known.get("split"),
        extras=extras,
    )


def _need_all(rows: list[Row], source: Source, options: ReadOptions) -> None:
    """Pictures may not be missing, although gaps in time are what the converted data had."""
    have = set(source.names())
    missing = [row.picture for row in rows if row.picture not in have]
    if missing and not options.skip_missing:
        raise UserError(
            f"dataset.json of {source.path} labels {missing[0]}, but there is no such image; copy"
            " the zip again, or go on by --skip-missing=1."
        )


def _camera_of(name: str) -> str:
    """``images/003/e0_c07.jpg`` -> 07, as mvheads names its pictures; otherwise the picture's own
    name."""
    stem = name.rpartition("/")[2].partition(".")[0]
    return stem.rpartition("_c")[2] if "_c" in stem else stem


def _masks_beside(source: Source, names: list[str]) -> tuple[dict[str, str], Source | None]:
    base = source.path.parent / (
        source.path.name if isinstance(source, FolderSource) else source.path.stem
    )
    beside = sorted(base.parent.glob(f"{glob.escape(base.name)}_masks_*"))
    beside = [file for file in beside if file.is_dir() or file.suffix == ".zip"]
    if not beside:
        return {}, None
    mask_source = open_source(next((file for file in beside if "modnet" in file.name), beside[0]))
    found = [name for name in mask_source.names() if is_image(name)]
    if len(found) != len(names):
        raise UserError(
            f"{mask_source.path} holds {len(found)} masks for the {len(names)} images of"
            f" {source.path}."
        )
    by_stem = {str(Path(name).with_suffix("")): name for name in found}
    stems = [str(Path(name).with_suffix("")) for name in names]
    paired = [by_stem[stem] for stem in stems] if all(stem in by_stem for stem in stems) else found
    ordered = names if paired is not found else sorted(names)
    return dict(zip(ordered, paired, strict=True)), mask_source


def _geometry(source: Source) -> dict[str, np.ndarray]:
    """``geometry.npz`` beside mvheads.zip, if there is one."""
    beside = source.path.parent / "geometry.npz"
    if source.path.is_dir() or not beside.is_file():
        return {}
    return read_npz(FolderSource(beside.parent), beside.name)


def _names_beside(source: Source) -> tuple[str, ...] | None:
    names = _geometry(source).get("expression_names")
    return None if names is None else tuple(map(str, names))


def _with_landmarks(
    frames: Captures | TrackedSequence, source: Source, names: list[str], options: ReadOptions
) -> Captures | TrackedSequence:
    """Add landmarks: ``landmarks.npy`` of the zip (in the order of ``labels``), or mvheads'
    geometry."""
    points = None
    if "landmarks.npy" in source.names():
        try:
            stored = np.load(io.BytesIO(source.read("landmarks.npy")), allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise UserError(
                f"landmarks.npy in {source.path} is damaged ({error}); copy the zip again."
            ) from error
        stored = array(stored, (len(names), None, 3), f"landmarks.npy in {source.path}")
        at = {name: index for index, name in enumerate(names)}
        points = stored[[at[frames.name(index)] for index in range(len(frames))]]
    elif {"landmarks68", "subject"} <= set(geometry := _geometry(source)):
        row = {str(subject): index for index, subject in enumerate(geometry["subject"])}
        if all(subject in row for subject in frames.subjects):
            of_subject = np.array([row[subject] for subject in frames.subjects])[frames.subject]
            points = geometry["landmarks68"][
                of_subject, [int(frames.moments[code]) for code in frames.moment]
            ]
    if points is None:
        return frames
    points = OUR_WORLD.overridden(options).points(points).astype(np.float32)
    return dataclasses.replace(frames, landmarks=torch.from_numpy(points))
