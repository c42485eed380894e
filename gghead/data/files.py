"""Zips and folders of images as sources: their names, their bytes, and their images decoded."""

import io
import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from PIL import Image

from gghead.data.images import BrokenImage, decode_image, open_image, parse_header
from gghead.data.local_files import open_below, open_descriptor, refuse_address, wrong_file
from gghead.data.zip_index import DEFLATED, STORED, read_index
from gghead.torch_utils.errors import UserError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
# the fixed part before a member's data (PKWARE APPNOTE 4.3.7)
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
# bytes that hold the size of a plain JPEG or WebP; of nearly every other one
_HEADS = 1 << 10, 1 << 16


class ZipSource:
    """Members of a zip, read with ``os.pread`` on one descriptor.

    ``pread`` carries its own position, so threads and forked processes share the descriptor without
    locks or handles of their own, and the index (see ``zip_index``) exists once.
    """

    def __init__(self, path: Path):
        self.path = path
        self._descriptor = open_descriptor(path)
        self._index = read_index(self._descriptor, path)

    def names(self) -> list[str]:
        """Return all names, sorted; the list belongs to the source."""
        return self._index.names

    @property
    def repeated(self) -> list[str]:
        """Names that the zip holds more than once."""
        return self._index.repeated

    def sizes(self, names: list[str]) -> np.ndarray:
        """Return the stored sizes of members in bytes, without reading them."""
        return self._index.rows["packed"][self._index.find(names)]

    def checksum(self, name: str) -> int | None:
        """Return a number that equal files share, without reading the file.

        None where there is none.
        """
        row = self._index.row(name)
        return int(row["crc"]) << 32 | int(row["size"]) & 0xFFFFFFFF

    def read(self, name: str) -> bytes:
        """Return a member's bytes; raises ``UserError`` for a damaged or encrypted member."""
        row = self._index.row(name)
        data = self._raw(name, row, int(row["packed"]))
        try:
            if row["kind"] == DEFLATED:  # never unpacks more than the checked size and a byte
                data = zlib.decompressobj(-15).decompress(data, int(row["size"]) + 1)
        except zlib.error as error:
            raise BrokenImage(
                f"{name} in {self.path} is damaged ({error}); copy or make the zip again."
            ) from error
        if zlib.crc32(data) != row["crc"]:
            raise BrokenImage(
                f"{name} in {self.path} is damaged (its checksum differs); copy or make the zip"
                " again."
            )
        return data

    def open(self, name: str) -> BinaryIO:
        """Return a member as a file that can be sought in, held in memory."""
        return io.BytesIO(self.read(name))

    def head(self, name: str, count: int) -> bytes:
        """Return the first ``count`` bytes of a member, cheaply where it is stored uncompressed."""
        row = self._index.row(name)
        if row["kind"] != STORED:
            return self.read(name)[:count]
        return self._raw(name, row, min(count, int(row["packed"])))

    def _raw(self, name: str, row: np.void, count: int) -> bytes:
        if row["flags"] & 1 or row["kind"] not in (STORED, DEFLATED):
            raise UserError(
                f"{name} in {self.path} is encrypted or packed; use a plain stored zip."
            )
        at = int(row["offset"])
        header = os.pread(self._descriptor, _LOCAL_HEADER.size, at)
        if len(header) < _LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
            raise BrokenImage(f"{name} in {self.path} is damaged; copy or make the zip again.")
        name_size, extra_size = _LOCAL_HEADER.unpack(header)[-2:]
        return os.pread(self._descriptor, count, at + _LOCAL_HEADER.size + name_size + extra_size)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self):
        if getattr(self, "_descriptor", -1) >= 0:
            self.close()

    # descriptors do not travel to spawned processes: open the file again there
    def __getstate__(self) -> dict:
        return {"path": self.path, "_index": self._index}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._descriptor = open_descriptor(self.path)


class FolderSource:
    """Files below a folder, by their path relative to it with forward slashes.

    Regular files only: pipes and devices are no data. Links to files are followed, links to folders
    are not. Reading raises ``FileNotFoundError``, or ``UserError`` for a name that leaves the
    folder or cannot be read.
    """

    repeated: tuple[str, ...] = ()

    def __init__(self, path: Path):
        self.path = path
        self._names = sorted(
            file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()
        )

    def names(self) -> list[str]:
        return self._names

    def sizes(self, names: list[str]) -> np.ndarray:
        return np.array([(self.path / name).stat().st_size for name in names])

    def checksum(self, name: str) -> int | None:
        return None

    def read(self, name: str) -> bytes:
        with self.open(name) as file:
            return file.read()

    def open(self, name: str) -> BinaryIO:
        return open_below(self.path, name)

    def head(self, name: str, count: int) -> bytes:
        with self.open(name) as file:
            return file.read(count)

    def close(self) -> None:
        self._names = []


class ZipFolderSource:
    """Named files below a folder; members of its zips carry the zip's name as that of a folder."""

    def __init__(self, path: Path):
        self.path = path
        self._folder = FolderSource(path)
        self._zips = {
            name: ZipSource(path / name) for name in self._folder.names() if name.endswith(".zip")
        }
        plain = [name for name in self._folder.names() if name not in self._zips]
        packed = [
            f"{name}/{member}" for name, archive in self._zips.items() for member in archive.names()
        ]
        self._names = sorted(plain + packed)

    def names(self) -> list[str]:
        return self._names

    def read(self, name: str) -> bytes:
        source, inner = self._find(name)
        return source.read(inner)

    def open(self, name: str) -> BinaryIO:
        source, inner = self._find(name)
        return source.open(inner)

    def head(self, name: str, count: int) -> bytes:
        source, inner = self._find(name)
        return source.head(inner, count)

    def close(self) -> None:
        self._folder.close()
        for archive in self._zips.values():
            archive.close()

    def _find(self, name: str) -> tuple[FolderSource | ZipSource, str]:
        archive, found, inner = name.partition(".zip/")
        return (self._zips[f"{archive}.zip"], inner) if found else (self._folder, name)


Source = ZipSource | FolderSource


class Files(Protocol):
    """Files by name, as every source of this module has them."""

    path: Path

    def names(self) -> list[str]: ...
    def read(self, name: str) -> bytes: ...
    def open(self, name: str) -> BinaryIO: ...
    def head(self, name: str, count: int) -> bytes: ...
    def close(self) -> None: ...


def open_source(path: str | os.PathLike) -> Source:
    """Open a zip or a folder; raises ``UserError`` if it does not exist or is neither."""
    refuse_address(os.fspath(path))
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path} does not exist; give the path of a data set zip or folder.")
    if path.is_dir():
        return FolderSource(path)
    try:
        sentence = wrong_file(path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror or error}); mend its rights or copy it again."
        ) from error
    if sentence is not None:
        raise UserError(sentence)
    return ZipSource(path)


def is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)


def image_header(source: Files, name: str) -> tuple[tuple[int, int], str]:
    """Return ((width, height), PIL mode) of an image as ``read_image`` would, undecoded.

    A few bytes are read; the whole file only where they do not tell.
    """
    head = source.head(name, 33)
    is_png = head[:4] == b"\x89PNG"
    header = parse_header(head) if is_png else None
    for count in () if is_png else _HEADS:
        header = header or parse_header(source.head(name, count))
    # a PNG's orientation may stand anywhere in it
    if header is None or (is_png and header.width != header.height):
        data = source.read(name)
        header = parse_header(data)
        if header is None:
            with open_image(data, f"{name} in {source.path}") as image:
                return image.size, image.mode
    return header.size, header.mode


def read_image(source: Files, name: str, mode: str) -> Image.Image:
    """Return a decoded image of the source; errors as ``decode_image``."""
    return decode_image(source.read(name), mode, f"{name} in {source.path}")
