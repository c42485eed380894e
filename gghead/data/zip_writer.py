"""Zips that appear whole or not at all, and what is put into them: images and arrays, encoded."""

import io
import os
import zipfile
from pathlib import Path
from typing import Self

import numpy as np
from PIL import Image

from gghead.torch_utils.errors import UserError
from gghead.torch_utils.files import move_into_place

# the earliest a zip can hold; the same content gives the same bytes
_TIMESTAMP = (1980, 1, 1, 0, 0, 0)


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


def encode_png(pixels: np.ndarray, level: int = 1) -> bytes:  # [H, W], [H, W, 3] or [H, W, 4] uint8
    """Return the array as a PNG.

    Level 1 packs four times faster than the default and hardly larger.
    """
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
    # numpy's signature names allow_pickle beside the arrays
    np.savez_compressed(buffer, **arrays)  # pyright: ignore[reportArgumentType]
    return buffer.getvalue()
