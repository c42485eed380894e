"""Writing data sets as EG3D zips: stored members, fixed timestamps, never a half-written file under the final name."""

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

from gghead.data.labels import check_labels
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.files import move_into_place

_TIMESTAMP = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can hold; the same content gives the same bytes


def encode_png(pixels: np.ndarray, level: int = 1) -> bytes:  # [H, W], [H, W, 3] or [H, W, 4] uint8
    """Return the array as a PNG; level 1 packs four times faster than the default and hardly larger."""
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
    """Return the name of an image's mask in the same zip: ``masks/<name>.mask``, a PNG by its content.

    Loaders of StyleGAN's kind (EG3D's, GGHead's) take every member with a picture's ending for an image, and stop
    where it has no label; so a mask has none of these endings.
    """
    return f"masks/{name}.mask"


class ZipWriter:
    """Write stored members with fixed timestamps to a zip that appears whole or not at all.

    Use as a context manager: on a clean exit the file moves to ``dest`` in one step; after an error nothing stays
    behind and an older ``dest`` is untouched.

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
            raise UserError(f"{self.dest} cannot be written ({error.strerror}); nothing was changed.") from error

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
            raise UserError(f"{self.dest} cannot be written ({error.strerror}); nothing was changed.") from error


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
            raise UserError(f"The label of {name} has {label.shape[1]} numbers, but a camera label has 25.")
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
        content = {"labels": self._labels, **({"masks": self._masks} if self._masks else {}), **self._extra}
        self.add_file("dataset.json", json.dumps(content, separators=(",", ":")).encode())
