"""A hash over a whole file, kept in the file itself.

So a flipped bit is noticed when it is read.

safetensors files hold it in their header's metadata, torch's zip archives in the archive's comment,
at their end. Other readers do not mind it; files without one are read unchecked. (A zip's own
checksums, which torch ignores, leave out its directory: one bit there makes torch return memory
that nobody has written to.)
"""

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, BinaryIO, cast

from gghead.torch_utils.errors import UserError
from gghead.torch_utils.files import write_atomically

_KEY, _SIZE = "blake2b", 16  # bytes
_ZEROS = "0" * (2 * _SIZE)
SEAL = {_KEY: _ZEROS}
"""What goes into the metadata of a safetensors file that ``write_safetensors`` is to write."""
_TAG = b"gghead blake2b "
_COMMENT = len(_TAG) + len(_ZEROS)  # bytes
_NO_COMMENT = b"\0\0"  # how an archive without a comment ends: with the length of it
_CHUNK = 1 << 24  # bytes


def write_safetensors(path: str | os.PathLike, data: bytes) -> None:
    """Fill in the hash of a safetensors file, write it and read it back.

    Its metadata have ``SEAL``.

    Errors and promises as ``write_atomically``.
    """
    place = _place(data[: 8 + int.from_bytes(data[:8], "little")])
    value = hashlib.blake2b(data, digest_size=_SIZE).hexdigest()

    def write(file: BinaryIO) -> None:
        for part in (data[:place], value.encode(), memoryview(data)[place + len(value) :]):
            file.write(part)

    write_atomically(
        path, write, _check(path, lambda file: safetensors_are_whole(file, SEAL | {_KEY: value}))
    )


def safetensors_are_whole(path: str | os.PathLike, metadata: dict[str, str]) -> bool:
    """Whether the file is the one whose hash its ``metadata`` hold; true if they hold none."""
    value = metadata.get(_KEY)
    if value is None:
        return True
    with open(path, "rb") as file:
        size = file.read(8)
        header = size + file.read(int.from_bytes(size, "little"))
        place = _place(header)
        zeroed = header[:place] + _ZEROS.encode() + header[place + len(_ZEROS) :]
        return place >= 0 and _hash(itertools.chain([zeroed], _chunks(file))) == value


def _place(header: bytes) -> int:
    """Where the digits of the hash stand in a file that begins with ``header``; -1: nowhere."""
    try:
        value = json.loads(header[8:])["__metadata__"][_KEY]
    except (ValueError, KeyError, TypeError):
        return -1
    entry = f'"{_KEY}":"{value}"'.encode()
    return (
        header.find(entry) + len(_KEY) + 4 if entry in header and len(value) == len(_ZEROS) else -1
    )


def write_archive(path: str | os.PathLike, save: Callable[[IO[bytes]], object]) -> None:
    """Let ``save`` write a zip archive, put its hash in, and read it back.

    It must be without a comment, as ``torch.save``'s is.

    ``save`` gets something with ``write`` and ``flush``. Errors and promises as
    ``write_atomically``.
    """

    def write(file: BinaryIO) -> None:
        hashing = _HashingWriter(file)
        save(cast(IO[bytes], hashing))  # torch.save needs write and flush alone
        file.seek(-len(_NO_COMMENT), os.SEEK_END)
        file.write(_COMMENT.to_bytes(2, "little") + _TAG + hashing.hash.hexdigest().encode())

    write_atomically(path, write, _check(path, archive_is_whole))


def archive_is_whole(path: str | os.PathLike) -> bool:
    """Whether a file is the zip archive whose hash stands at its end; true if none stands there."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END) - _COMMENT
        if size < len(_NO_COMMENT):
            return True
        file.seek(size)
        comment = file.read()
        if not comment.startswith(_TAG):
            return True
        file.seek(0)
        archive = _chunks(file, size - len(_NO_COMMENT))
        return _hash(itertools.chain(archive, [_NO_COMMENT])) == comment[len(_TAG) :].decode(
            "ascii", "replace"
        )


class _HashingWriter:
    def __init__(self, file: BinaryIO) -> None:
        self.file, self.hash = file, hashlib.blake2b(digest_size=_SIZE)

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def _check(path: str | os.PathLike, whole: Callable[[Path], bool]) -> Callable[[Path], None]:
    def check(temporary: Path) -> None:
        if not whole(temporary):
            raise UserError(
                f"{path} was not written as it should be: reading it back gave something else. What"
                " was there before is unchanged; check the disk or choose another folder."
            )

    return check


def _chunks(file: BinaryIO, size: int | None = None) -> Iterable[bytes]:
    """What comes next in ``file``, ``size`` bytes or all."""
    left = float("inf") if size is None else size
    while left > 0 and (chunk := file.read(int(min(left, _CHUNK)))):
        left -= len(chunk)
        yield chunk


def _hash(parts: Iterable[bytes]) -> str:
    found = hashlib.blake2b(digest_size=_SIZE)
    for part in parts:
        found.update(part)
    return found.hexdigest()
