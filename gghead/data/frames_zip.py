"""Captures and sequences as one zip: written, and read back.

The form is that of ``dataset_zip``, so where images are square the zip opens as an ``ImageDataset``
too. EG3D's and GGHead's zips are read as well: without ``frames``, every image is a capture of its
own. Masks are those that dataset.json names, else GGHead's zip of masks beside the data.
"""

import dataclasses
import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gghead.data.camera_labels import label_array
from gghead.data.captures import Captures, TrackedSequence
from gghead.data.dataset_zip import (
    DATASET_JSON,
    DatasetInfo,
    DatasetWriter,
    FrameRecord,
    read_info,
)
from gghead.data.files import FolderSource, Source
from gghead.data.formats.assemble import Row, assemble
from gghead.data.formats.avatar import OUR_WORLD
from gghead.data.formats.parsing import ReadOptions, read_npz
from gghead.data.frames import FrameSet
from gghead.data.image_files import pair_masks, require_masks
from gghead.data.json_values import array
from gghead.data.zip_writer import encode_npy, encode_png
from gghead.torch_utils.errors import UserError

_CHUNK = 32  # images decoded ahead; bounds the memory


@dataclass
class ConversionReport:
    """What was written."""

    written: int = 0
    copied: int = 0
    """Images whose files were copied byte for byte."""
    skipped: list[str] = field(default_factory=list)
    """One sentence per image that could not be read."""


@dataclass
class _EncodedFrame:
    name: str
    image: bytes
    mask: bytes | None
    copied: bool


def write_archive(
    frames: FrameSet,
    dest: str | os.PathLike,
    *,
    jpeg_quality: int | None = None,  # 1-100 for images that are re-encoded; None = lossless PNG
    workers: int = 2,
    progress: Callable[[int], None] | None = None,  # called with the number of frames done
) -> ConversionReport:
    """Write captures or a sequence to ``dest``, a .zip that appears whole or not at all.

    Encoded images and masks are copied where nothing changes; every image is decoded once, and
    those that are broken are left out and reported.

    Raises ``UserError`` if no image can be read, or ``dest`` cannot be written.
    """
    report = ConversionReport()
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
                writer.add(done.name, done.image, label, done.mask, _record(frames, index, done))
                kept.append(index)
                report.copied += done.copied
        report.written = len(kept)
        if not kept:
            raise UserError(
                f"No image of {frames.images.source.path} can be read; the first fault: "
                f"{report.skipped[0]}"
            )
        if frames.landmarks is not None:
            writer.add_file("landmarks.npy", encode_npy(frames.landmarks[kept].numpy()))
        writer.describe(
            kind=frames.kind,
            format=frames.format,
            splits=frames.splits,
            expression_names=frames.coefficient_names or (),
            fps=frames.fps,
            notes=frames.notes,
        )
    return report


def _encode(frames: FrameSet, index: int, jpeg_quality: int | None) -> _EncodedFrame | str:
    """The files of one frame, or what is wrong with it."""
    images = frames.images
    stem = _stem(frames, index)
    try:
        # also where the file is copied: a broken one must not pass
        rgb, alpha = images.read(index)
        original = images.encoded_image(index)
        if original is not None:
            image, suffix = original
        elif images.mask_kind == "embedded":
            image, suffix = encode_png(np.dstack([rgb, alpha])), ".png"
        elif jpeg_quality is not None:
            image, suffix = _encode_jpeg(rgb, jpeg_quality), ".jpg"
        else:
            image, suffix = encode_png(rgb), ".png"
        mask = None
        if images.mask_kind in ("file", "color"):
            mask = images.encoded_mask(index) or encode_png(alpha)
    except UserError as error:
        return str(error)
    return _EncodedFrame(f"images/{stem}{suffix}", image, mask, original is not None)


def _encode_jpeg(rgb: np.ndarray, quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "jpeg", quality=quality, subsampling=0)
    return buffer.getvalue()


def _stem(frames: FrameSet, index: int) -> str:
    """``<subject>/<moment>_<camera>`` by number.

    So names sort as frames do, and never clash.
    """
    subject, moment, camera = (
        int(array[index]) for array in (frames.subject, frames.moment, frames.camera)
    )
    return f"{subject:05d}/{moment:05d}_c{camera:03d}"


def _record(frames: FrameSet, index: int, done: _EncodedFrame) -> FrameRecord:
    return FrameRecord(
        done.name,
        source=frames.name(index),
        subject=frames.subjects[frames.subject[index]],
        expression_id=frames.moments[frames.moment[index]],
        camera=frames.camera_names[frames.camera[index]],
        frame=int(frames.moment[index]),
        split=frames.split_of(index),
        expression=None if frames.coefficients is None else _short(frames.coefficients[index]),
        extras={name: _short(values[index]) for name, values in frames.extras.items()},
    )


def _short(values: Tensor) -> list[float]:
    """Numbers with the nine digits that bring a float32 back exactly."""
    return [float(f"{value:.9g}") for value in values.tolist()]


def looks_like(names: set[str], content: dict | None) -> bool:
    return DATASET_JSON in names


def read(source: Source, options: ReadOptions) -> Captures | TrackedSequence:
    """Read a zip or folder with dataset.json; see ``assemble`` for what is refused."""
    info = read_info(source)
    names = list(info.labels)
    # checks the numbers that are used in full precision below
    label_array(info.labels, names, source.path)
    masks, mask_source = info.masks, None
    if not masks:
        mask_source, found = pair_masks(source, masks, sorted(names), "auto")
        require_masks(source, mask_source, sorted(names), found)
        masks = dict(zip(sorted(names), found, strict=True)) if mask_source else {}
    is_sequence = info.kind == "sequence"
    rows = [_row(name, index, info) for index, name in enumerate(names)]
    for row in rows:
        row.mask = masks.get(row.image)
    poses = OUR_WORLD.with_options(options).cameras(np.stack([row.cam2world for row in rows]))
    for row, pose in zip(rows, poses, strict=True):
        row.cam2world = pose
    _need_all(rows, source, options)
    frames = assemble(
        TrackedSequence if is_sequence else Captures,
        source,
        rows,
        dataclasses.replace(options, skip_missing=True) if is_sequence else options,
        mask_source=mask_source,
        format="gghead" if info.frames else "eg3d",
        mask_kind="file" if masks else "embedded",
        fps=info.fps,
        coefficient_names=info.expression_names or _names_beside(source),
        notes=info.notes,
    )
    return _with_landmarks(frames, source, names, options)


def _row(name: str, index: int, info: DatasetInfo) -> Row:
    """One image; what its record does not say follows from its name and place."""
    record = info.record(name)
    numbers = np.asarray(info.labels[name], np.float64)
    step = index if record.frame is None else record.frame
    stem = name.rpartition(".")[0]
    if info.kind == "sequence":
        subject, moment = "0", str(step)
    else:
        subject, moment = stem, "0"
    return Row(
        name,
        numbers[:16].reshape(4, 4),
        numbers[16:].reshape(3, 3),
        subject=subject if record.subject is None else str(record.subject),
        moment=moment if record.expression_id is None else str(record.expression_id),
        camera=(_camera_of(name) if info.frames else "0")
        if record.camera is None
        else str(record.camera),
        number=step,
        coefficients=record.expression,
        split=record.split,
        extras=dict(record.extras),
    )


def _need_all(rows: list[Row], source: Source, options: ReadOptions) -> None:
    """Images may not be missing, although gaps in time are what the converted data had."""
    have = set(source.names())
    missing = [row.image for row in rows if row.image not in have]
    if missing and not options.skip_missing:
        raise UserError(
            f"dataset.json of {source.path} labels {missing[0]}, but there is no such image; copy"
            " the zip again, or go on with `skip_missing=True`."
        )


def _camera_of(name: str) -> str:
    """``images/003/e0_c07.jpg`` -> 07, as mvheads names its images.

    Otherwise the image's own name.
    """
    stem = name.rpartition("/")[2].partition(".")[0]
    return stem.rpartition("_c")[2] if "_c" in stem else stem


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
    """Add landmarks: ``landmarks.npy`` of the zip, or mvheads' geometry.

    The file is in the order of ``labels``.
    """
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
    points = OUR_WORLD.with_options(options).points(points).astype(np.float32)
    return dataclasses.replace(frames, landmarks=torch.from_numpy(points))
