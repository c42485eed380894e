"""The data set as EG3D has it: ``dataset.json`` with its camera labels, and zips that hold one."""

import contextlib
import gc
import io
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

from gghead.torch_utils.errors import UserError
from gghead.torch_utils.files import move_into_place

LABEL_SIZE = 25
_REMEDY = (
    "each image needs 25 numbers (cam2world 4x4, intrinsics 3x3) under 'labels' in dataset.json"
)
_ROTATION_TOLERANCE = 1e-3  # labels are often rounded to 4-7 digits


def parse_dataset_json(data: bytes, where: str | os.PathLike) -> dict:
    """Return the content of dataset.json with ``labels`` as a dict name -> list; the other keys as
    they stand.

    Raises ``UserError`` if it is not JSON, has no labels, or ``labels`` is not a list of pairs.
    """
    try:
        with _no_garbage_collection():
            content = json.loads(data)
    except ValueError as error:
        raise UserError(f"dataset.json in {where} is not valid JSON ({error}).") from error
    labels = content.get("labels") if isinstance(content, dict) else None
    if not labels:
        raise UserError(
            f"{where} is unlabelled: {_REMEDY}; scripts/dataset_tool.py photos writes them."
        )
    pairs = labels.items() if isinstance(labels, dict) else labels
    try:
        content["labels"] = {str(name): label for name, label in pairs}
    except (TypeError, ValueError) as error:
        raise UserError(
            f"'labels' in the dataset.json of {where} is no list of [name, numbers] pairs."
        ) from error
    return content


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Python's collector looks at 140,000 new lists again and again while they are made: half of
    the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def label_array(labels: dict[str, list], names: list[str], where: str | os.PathLike) -> np.ndarray:
    """Return the labels of ``names`` as float32 [N, 25], checked; raises ``UserError`` naming the
    first bad file."""
    try:
        rows = np.array([labels[name] for name in names], np.float64)
    except (KeyError, TypeError, ValueError):
        rows = None
    if rows is None or rows.shape != (len(names), LABEL_SIZE):
        for name in names:
            if name not in labels:
                raise UserError(f"{name} in {where} has no camera label; {_REMEDY}.")
            if fault := label_fault(labels[name]):
                raise UserError(f"The label of {name} in {where} {fault}; {_REMEDY}.")
        raise UserError(f"{where} holds no labelled image; {_REMEDY}.")
    check_labels(rows, names, where)
    return rows.astype(np.float32)


def label_fault(label: object) -> str | None:
    """Return what keeps one entry of dataset.json from being 25 numbers, or None."""
    count = len(label) if isinstance(label, (list, tuple)) else 1
    if count != LABEL_SIZE:
        return f"has {count} number{'s' * (count != 1)}"
    try:
        np.array(label, np.float64).reshape(LABEL_SIZE)
    except (TypeError, ValueError):
        return "is not made of numbers"
    return None


# [N, 25] -> name: ([N] bool, sentence)
def rigid_faults(labels: np.ndarray) -> dict[str, tuple[np.ndarray, str]]:
    """Return the faults that make a label no camera at all, and which labels have them; each label
    has one at most."""
    rotation = labels[:, :16].reshape(-1, 4, 4)[:, :3, :3]
    last_rows = np.concatenate(
        [labels[:, 12:16] - [0, 0, 0, 1], labels[:, 22:25] - [0, 0, 1]], axis=1
    )
    with np.errstate(invalid="ignore", over="ignore"):
        skew = np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
        handed = np.linalg.det(np.where(np.isfinite(rotation), rotation, 0))
    # The order matters: a number that is not finite would fail the later tests with a misleading
    # sentence.
    found = {
        "not-finite": (
            ~np.isfinite(labels).all(axis=1),
            "holds NaN or infinite numbers; leave the image out or estimate its camera again",
        ),
        "layout": (
            ~(np.abs(last_rows).max(axis=1) < _ROTATION_TOLERANCE),
            (
                "must be a row-major cam2world 4x4 ending in 0 0 0 1, then a row-major 3x3 ending"
                " in 0 0 1"
            ),
        ),
        "rotation": (
            ~(skew < _ROTATION_TOLERANCE),
            "has a cam2world whose 3x3 part is no rotation (rows are not orthonormal)",
        ),
        "handedness": (
            ~(handed > 0),
            "has a cam2world that mirrors (determinant -1); cameras are right-handed, OpenCV axes",
        ),
        "focal-sign": (
            ~((labels[:, 16] > 0) & (labels[:, 20] > 0)),
            "has a focal length that is not positive",
        ),
        "pixels": (
            (~(np.abs(labels[:, [18, 21]] - 0.5) < 2) | ~(labels[:, [16, 20]] < 50)).any(axis=1),
            "has intrinsics in pixels; divide them by the image size",
        ),
    }
    earlier = np.zeros(len(labels), bool)
    for name, (wrong, sentence) in found.items():
        found[name] = wrong & ~earlier, sentence
        earlier = earlier | wrong
    return found


# labels: [N, 25]
def check_labels(labels: np.ndarray, names: list[str], where: str | os.PathLike) -> None:
    """Raise ``UserError`` naming the first image whose camera is not finite, rigid, right-handed or
    has no focal."""
    for wrong, sentence in rigid_faults(labels).values():
        if wrong.any():
            raise UserError(f"The label of {names[int(np.argmax(wrong))]} in {where} {sentence}.")


# the earliest a zip can hold; the same content gives the same bytes
_TIMESTAMP = (1980, 1, 1, 0, 0, 0)


def encode_png(pixels: np.ndarray, level: int = 1) -> bytes:  # [H, W], [H, W, 3] or [H, W, 4] uint8
    """Return the array as a PNG; level 1 packs four times faster than the default and hardly
    larger."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png", compress_level=level)
    return buffer.getvalue()


def encode_npy(array: np.ndarray) -> bytes:
    """Return the array in NumPy's npy format."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def encode_npz(**arrays: np.ndarray) -> bytes:
    """Return arrays in NumPy's npz format, packed."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def image_name(index: int) -> str:
    """Return StyleGAN's name of the image, a thousand to a folder: ``00001/img00001234.png``."""
    return f"{index // 1000:05d}/img{index:08d}.png"


def mask_name(name: str) -> str:
    """Return the name of an image's mask in the same zip: ``masks/<name>.mask``, a PNG by its
    content.

    Loaders of StyleGAN's kind (EG3D's, GGHead's) take every member with a picture's ending for an
    image, and stop where it has no label; so a mask has none of these endings.
    """
    return f"masks/{name}.mask"


class ZipWriter:
    """Write stored members with fixed timestamps to a zip that appears whole or not at all.

    Use as a context manager: on a clean exit the file moves to ``dest`` in one step; after an error
    nothing stays behind and an older ``dest`` is untouched.

    Raises:
        UserError: if ``dest`` is no .zip, its folder cannot be written, or the disk is full.
    """

    def __init__(self, dest: str | os.PathLike):
        self.dest = Path(dest)
        if self.dest.suffix != ".zip":
            raise UserError(f"{dest} must end in .zip.")
        self._temporary = self.dest.with_name(f".{self.dest.name}.{os.getpid()}.tmp")
        try:
            self.dest.parent.mkdir(parents=True, exist_ok=True)
            self._zip = zipfile.ZipFile(self._temporary, "w", zipfile.ZIP_STORED)
        except OSError as error:
            raise UserError(f"{dest} cannot be written ({error.strerror}).") from error

    def add_file(self, name: str, data: bytes) -> None:
        """Add any file under ``name``."""
        info = zipfile.ZipInfo(name, _TIMESTAMP)
        info.create_system = 3  # Unix, wherever it is written
        info.external_attr = 0o644 << 16
        try:
            self._zip.writestr(info, data)
        except OSError as error:
            raise UserError(
                f"{self.dest} cannot be written ({error.strerror}); nothing was changed."
            ) from error

    def _complete(self) -> None:
        """Add what can be written only when everything else is there."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        try:
            if kind is None:
                self._complete()
                self._close(self.dest)
            else:
                self._close()
        finally:
            self._temporary.unlink(missing_ok=True)

    def _close(self, dest: Path | None = None) -> None:
        try:
            self._zip.close()
            if dest is not None:
                move_into_place(self._temporary, dest)
        except OSError as error:
            raise UserError(
                f"{self.dest} cannot be written ({error.strerror}); nothing was changed."
            ) from error


class DatasetWriter(ZipWriter):
    """Write images, masks and labels to a zip that ``ImageDataset`` and EG3D's readers understand.

    A ``ZipWriter`` that adds ``dataset.json`` on a clean exit; it raises the same errors.
    """

    def __init__(self, dest: str | os.PathLike):
        super().__init__(dest)
        self._labels: list[list] = []
        self._masks: dict[str, str] = {}
        self._extra: dict[str, Any] = {}

    def add(
        self,
        name: str,
        image: np.ndarray | bytes,  # [H, W, 3] uint8 or an encoded file
        label: np.ndarray | list[float],  # [25]
        mask: np.ndarray | bytes | None = None,  # [H, W] uint8 or an encoded file
    ) -> None:
        """Add an image with its camera label and, if given, its mask under ``mask_name(name)``."""
        label = np.asarray(label, np.float64).reshape(1, -1)
        if label.shape[1] != 25:
            raise UserError(
                f"The label of {name} has {label.shape[1]} numbers, but a camera label has 25."
            )
        check_labels(label, [name], self.dest)
        self.add_file(name, image if isinstance(image, bytes) else encode_png(image))
        self._labels.append([name, [round(value, 7) for value in label[0].tolist()]])
        if mask is not None:
            self._masks[name] = mask_name(name)
            self.add_file(self._masks[name], mask if isinstance(mask, bytes) else encode_png(mask))

    def set(self, key: str, value: Any) -> None:
        """Add a further key to dataset.json; old readers ignore those they do not know."""
        self._extra[key] = value

    def _complete(self) -> None:
        content = {
            "labels": self._labels,
            **({"masks": self._masks} if self._masks else {}),
            **self._extra,
        }
        self.add_file("dataset.json", json.dumps(content, separators=(",", ":")).encode())
