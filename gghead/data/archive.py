"""Captures and sequences as one zip of the project: shared, checked and streamed as any image zip.

The zip is EG3D's form (pictures, ``dataset.json`` with ``labels``), so where pictures are square it opens as an
``ImageDataset`` too; ``gghead.data.formats.archive`` describes what is added and reads it back.
"""

import os
import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from gghead.data.frame_set import FrameSet
from gghead.data.sequences import TrackedSequence
from gghead.data.writer import DatasetWriter, encode_npy, encode_png, mask_name
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

    Encoded pictures and masks are copied where nothing changes; every picture is decoded once, and those that are
    broken are left out and reported.

    Raises ``UserError`` if no picture can be read, or ``dest`` cannot be written.
    """
    report = Report()
    records: list[dict] = []
    kept: list[int] = []
    with DatasetWriter(dest) as writer, ThreadPoolExecutor(max(workers, 1)) as pool:
        for start in range(0, len(frames), _CHUNK):
            chunk = range(start, min(start + _CHUNK, len(frames)))
            for index, done in zip(chunk, pool.map(lambda i: _encode(frames, i, jpeg_quality), chunk), strict=True):
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
            raise UserError(f"No picture of {frames.pictures.source.path} can be read; the first fault: "
                            f"{report.skipped[0]}")  # fmt: skip
        if frames.landmarks is not None:
            writer.add_file("landmarks.npy", encode_npy(frames.landmarks[kept].numpy()))
        head = {"kind": frames.kind, "version": VERSION, "format": frames.format, "splits": list(frames.splits),
                "expression_names": frames.coefficient_names, "fps": frames.fps,
                "notes": list(frames.notes)}  # fmt: skip
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
        rgb, alpha = pictures.read(index)  # also where the file is copied: a broken one must not pass
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
    """``<subject>/<moment>_<camera>`` by number, so that names sort as frames do and clash never."""
    subject, moment, camera = (int(array[index]) for array in (frames.subject, frames.moment, frames.camera))
    return f"{subject:05d}/{moment:05d}_c{camera:03d}"


def _record(frames: FrameSet, index: int, done: _Encoded) -> dict:
    record = {
        "file": done.name, "source": frames.name(index), "subject": frames.subjects[frames.subject[index]],
        "expression_id": frames.moments[frames.moment[index]], "camera": frames.camera_names[frames.camera[index]],
        "frame": int(frames.moment[index]),
    }  # fmt: skip
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
    """``frames`` as "captures" or "sequence"; as they are for None. Raises ``UserError`` where that cannot be."""
    if kind is None or frames.kind == kind:
        return frames
    return frames.as_captures() if kind == "captures" else TrackedSequence.of(frames)


def describe(frames: FrameSet) -> list[str]:
    """What is in the data, a line each."""
    subjects, moments, cameras = (len(np.unique(array)) for array in (frames.subject, frames.moment, frames.camera))
    what = "time steps" if frames.kind == "sequence" else "expressions"
    sizes = Counter(frames.size(index) for index in range(len(frames)))
    shown = ", ".join(f"{width}x{height}" for (width, height), _ in sizes.most_common(3)) + " …" * (len(sizes) > 3)
    lines = [f"{frames.kind} ({frames.format}): {subjects} subjects, {moments} {what}, {cameras} cameras, "
             f"{len(frames)} frames of {shown}, {'with' if frames.has_masks else 'without'} masks"]  # fmt: skip
    if frames.coefficients is not None:
        named = re.sub(r"^(.{60}).*", r"\1 …", ", ".join(frames.coefficient_names or ())) or "without names"
        lines.append(f"coefficients: {frames.width} ({named})")
    if frames.extras:
        lines.append("extras: " + ", ".join(f"{name} ({values.shape[1]})" for name, values in frames.extras.items()))
    if frames.split_codes is not None:
        counts = [f"{name} {int((frames.split_codes == code).sum())}" for code, name in enumerate(frames.splits)]
        lines.append("splits: " + ", ".join(counts))
    yaw, pitch, _ = (np.degrees(angle.numpy()) for angle in frames.cameras.angles())
    radius = frames.cameras.position.norm(dim=-1)
    lines.append(f"cameras: yaw {yaw.min():.0f} to {yaw.max():.0f}, pitch {pitch.min():.0f} to {pitch.max():.0f} "
                 f"degrees, {float(radius.min()):.2f} to {float(radius.max()):.2f} units from the head")  # fmt: skip
    return lines + list(frames.notes)
