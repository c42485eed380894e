"""Named files inside a zip or a folder, readable from any thread and from forked processes."""

import os
import re
import struct
import zipfile
import zlib
from pathlib import Path

from PIL import Image

from gghead.data.decode import decode_image, open_image, parse_header
from torch_utils.errors import UserError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")  # the fixed part before a member's data (PKWARE APPNOTE 4.3.7)
_HEAD = 1 << 16  # bytes that hold the size of nearly every JPEG and WebP
_UNSAFE = re.compile(r"(^|[/\\])\.\.([/\\]|$)|^[/\\]|^[A-Za-z]:")  # leaves the folder that a zip is unpacked into
_BOMB_BYTES, _BOMB_RATIO = 64 * 2**20, 200  # both exceeded: nobody's pictures or labels pack like that


class ZipSource:
    """Members of a zip, read with ``os.pread`` on one descriptor.

    ``pread`` carries its own position, so threads and forked processes share the descriptor without locks or handles
    of their own, and the central directory (seconds for a large set) is parsed once.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                self._infos = {info.filename: info for info in archive.infolist() if not info.is_dir()}
        except zipfile.BadZipFile as error:
            raise UserError(f"{path} is not a zip file or is incomplete ({error}); copy or make it again.") from error
        self._descriptor = os.open(path, os.O_RDONLY)
        length = os.fstat(self._descriptor).st_size
        for info in self._infos.values():
            _check_member(path, info.filename, info.compress_size, info.file_size, length)

    def names(self) -> list[str]:
        return sorted(self._infos)

    def size(self, name: str) -> int:
        """Return the stored size of a member in bytes, without reading it."""
        return self._infos[name].compress_size

    def read(self, name: str) -> bytes:
        """Return a member's bytes; raises ``UserError`` for a damaged or encrypted member."""
        info = self._infos[name]
        data = self._raw(info, info.compress_size)
        try:
            if info.compress_type == zipfile.ZIP_DEFLATED:  # never unpacks more than the checked size and a byte
                data = zlib.decompressobj(-15).decompress(data, info.file_size + 1)
        except zlib.error as error:
            raise UserError(f"{name} in {self.path} is damaged ({error}); copy or make the zip again.") from error
        if zlib.crc32(data) != info.CRC:
            raise UserError(f"{name} in {self.path} is damaged (its checksum differs); copy or make the zip again.")
        return data

    def head(self, name: str, count: int) -> bytes:
        """Return the first ``count`` bytes of a member, cheaply where it is stored uncompressed."""
        info = self._infos[name]
        if info.compress_type != zipfile.ZIP_STORED:
            return self.read(name)[:count]
        return self._raw(info, min(count, info.compress_size))

    def _raw(self, info: zipfile.ZipInfo, count: int) -> bytes:
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UserError(f"{info.filename} in {self.path} is encrypted or packed; use a plain stored zip.")
        header = os.pread(self._descriptor, _LOCAL_HEADER.size, info.header_offset)
        if len(header) < _LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
            raise UserError(f"{info.filename} in {self.path} is damaged; copy or make the zip again.")
        name_size, extra_size = _LOCAL_HEADER.unpack(header)[-2:]
        return os.pread(self._descriptor, count, info.header_offset + _LOCAL_HEADER.size + name_size + extra_size)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self):
        if getattr(self, "_descriptor", -1) >= 0:
            self.close()

    def __getstate__(self) -> dict:  # descriptors do not travel to spawned processes: open the file again there
        return {"path": self.path, "_infos": self._infos}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._descriptor = os.open(self.path, os.O_RDONLY)


class FolderSource:
    """Files below a folder, by their path relative to it with forward slashes."""

    def __init__(self, path: Path):
        self.path = path
        self._names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())

    def names(self) -> list[str]:
        return self._names

    def size(self, name: str) -> int:
        return (self.path / name).stat().st_size

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def head(self, name: str, count: int) -> bytes:
        with open(self.path / name, "rb") as file:
            return file.read(count)

    def close(self) -> None:
        self._names = []


Source = ZipSource | FolderSource


def open_source(path: str | os.PathLike) -> Source:
    """Open a zip or a folder; raises ``UserError`` if it does not exist or is neither."""
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path} does not exist; give the path of a data set zip or folder.")
    return FolderSource(path) if path.is_dir() else ZipSource(path)


def is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)


def image_header(source: Source, name: str) -> tuple[tuple[int, int], str]:
    """Return ((width, height), PIL mode) of an image as ``read_image`` returns it, without decoding it.

    33 bytes of a PNG or 64 KiB of another format are read; the whole file only where they do not tell.
    """
    head = source.head(name, 33)
    is_png = head[:4] == b"\x89PNG"
    header = parse_header(head if is_png else source.head(name, _HEAD))
    if header is None or (is_png and header.width != header.height):  # a PNG's orientation may stand anywhere in it
        data = source.read(name)
        header = parse_header(data)
        if header is None:
            with open_image(data, f"{name} in {source.path}") as image:
                return image.size, image.mode
    return header.size, header.mode


def read_image(source: Source, name: str, mode: str) -> Image.Image:
    """Return a decoded image of the source; errors as ``decode_image``."""
    return decode_image(source.read(name), mode, f"{name} in {source.path}")


def _check_member(path: Path, name: str, packed: int, size: int, length: int) -> None:
    """Raise ``UserError`` for a member of a zip of ``length`` bytes that no honest tool writes."""
    if _UNSAFE.search(name):
        raise UserError(f"{path} names a member '{name}', which points outside the zip; it is not safe, so make the "
                        "zip again with relative names.")  # fmt: skip
    if packed > length:
        raise UserError(f"{path} is damaged: {name} claims more bytes than the zip has; copy or make it again.")
    if size > _BOMB_BYTES and size > _BOMB_RATIO * packed:
        raise UserError(f"{path} is refused: {name} would unpack from {packed} to {size} bytes, as zip bombs do; make "
                        "the zip again without it.")  # fmt: skip
