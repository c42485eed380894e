"""The table of contents of a large zip in little memory and time.

One string per member and five numpy columns.

``zipfile`` makes an object of 600 bytes per member, which for the 140,000 images of a mirrored FFHQ
is a second and 80 MB in every process. Fields after PKWARE's APPNOTE 4.3.12 - 4.3.16 (central
directory, zip64 and its end).
"""

import bisect
import operator
import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gghead.torch_utils.errors import UserError

STORED, DEFLATED = 0, 8
_FULL = 0xFFFFFFFF  # stands where the number is in the zip64 record
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR64 = struct.Struct("<4sIQI")
_ENTRY = np.dtype(
    [
        ("magic", "S4"),
        ("versions", "<u2", 2),
        ("flags", "<u2"),
        ("kind", "<u2"),
        ("time", "<u2", 2),
        ("crc", "<u4"),
        ("packed", "<u4"),
        ("size", "<u4"),
        ("lengths", "<u2", 3),
        ("about", "<u2", 2),
        ("attributes", "<u4"),
        ("offset", "<u4"),
    ]
)
_LENGTHS = struct.Struct("<3H")  # of name, extra field and comment, at byte 28 of an entry
_COLUMNS = np.dtype(
    [
        ("offset", "i8"),
        ("packed", "i8"),
        ("size", "i8"),
        ("crc", "u4"),
        ("kind", "u2"),
        ("flags", "u2"),
    ]
)
# A member's name that leaves the folder into which the zip is unpacked.
_UNSAFE = re.compile(
    r"^(?:[/\\]|[A-Za-z]:).*$|^(?:.*[/\\])?\.\.(?:[/\\].*)?$|^.*\0.*$", re.MULTILINE
)
# both exceeded: nobody's images or labels pack like that
_BOMB_BYTES, _BOMB_RATIO = 64 * 2**20, 200


@dataclass(frozen=True, eq=False)
class ZipIndex:
    """Members of a zip sorted by name.

    Folders are left out, and of equal names the last one counts, as in zipfile.
    """

    names: list[str]
    # [N] offset of the local header, packed and real size, crc, compression kind, flags
    rows: np.ndarray
    repeated: list[str]  # names that stood there more than once

    def find(self, names: list[str]) -> np.ndarray:
        """Return the places of members; raises ``KeyError`` if one is not there."""
        if names == self.names:
            return np.arange(len(names))
        if len(names) > len(self.names) / 20:
            places = dict(zip(self.names, range(len(self.names)), strict=True))
            return np.array([places[name] for name in names], np.int64)
        return np.array([self._at(name) for name in names], np.int64)

    def row(self, name: str) -> np.void:
        """Return the row of a member; raises ``KeyError`` if there is none."""
        return self.rows[self._at(name)]

    def _at(self, name: str) -> int:
        at = bisect.bisect_left(self.names, name)
        if at == len(self.names) or self.names[at] != name:
            raise KeyError(name)
        return at


def read_index(descriptor: int, path: Path) -> ZipIndex:
    """Read the index of the zip opened as ``descriptor``.

    Raises:
        UserError: it is no whole zip, a name points outside it, or a member unpacks as zip bombs
            do.
    """
    length = os.fstat(descriptor).st_size
    try:
        count, start, data = _directory(descriptor, length)
        names, rows = _entries(data, count)
    except (struct.error, ValueError) as error:
        raise UserError(
            f"{path} is not a zip file or is incomplete ({error}); copy or make it again."
        ) from error
    rows["offset"] += start
    if unsafe := _UNSAFE.search("\n".join(names)):
        raise UserError(
            f"{path} names a member '{unsafe[0]}', which points outside the zip; it is not safe, so"
            " make the zip again with relative names."
        )
    if (
        at := _first((rows["packed"] > length) | (rows["offset"] < 0) | (rows["offset"] >= length))
    ) is not None:
        raise UserError(
            f"{path} is damaged: {names[at]} claims more bytes than the zip has; copy or make it"
            " again."
        )
    if (
        at := _first((rows["size"] > _BOMB_BYTES) & (rows["size"] > _BOMB_RATIO * rows["packed"]))
    ) is not None:
        raise UserError(
            f"{path} is refused: {names[at]} would unpack from {rows['packed'][at]} to"
            f" {rows['size'][at]} bytes, as zip bombs do; make the zip again without it."
        )
    order = sorted(
        (i for i, name in enumerate(names) if not name.endswith("/")), key=names.__getitem__
    )
    names, rows = [names[i] for i in order], rows[order]
    if all(map(operator.lt, names, names[1:])):
        return ZipIndex(names, rows, [])
    last = [i for i, name in enumerate(names) if i + 1 == len(names) or names[i + 1] != name]
    again = sorted({names[i] for i in range(len(names) - 1) if names[i] == names[i + 1]})
    return ZipIndex([names[i] for i in last], rows[last], again)


def _directory(descriptor: int, length: int) -> tuple[int, int, bytes]:
    """Return (number of members, bytes before the zip proper, the central directory)."""
    tail_at = max(length - 65557, 0)  # the end record and the longest comment
    tail = os.pread(descriptor, length - tail_at, tail_at)
    at = tail.rfind(b"PK\5\6")
    if at < 0:
        raise ValueError("it has no end record")
    *_, count, size, offset, _ = _END.unpack_from(tail, at)
    end = tail_at + at
    locator = os.pread(descriptor, _LOCATOR64.size, max(end - _LOCATOR64.size, 0))
    if locator[:4] == b"PK\6\7":
        # as zipfile does: right also where bytes stand before the zip
        record_at = end - _LOCATOR64.size - _END64.size
        record = os.pread(descriptor, _END64.size, record_at)
        if record[:4] == b"PK\6\6":
            end = record_at
            *_, count, size, offset = _END64.unpack(record)
    start = end - size - offset  # not 0 where something was put before the zip
    if start < 0 or size > length:
        raise ValueError("its table of contents is cut off")
    return count, start, os.pread(descriptor, size, start + offset)


def _entries(data: bytes, count: int) -> tuple[list[str], np.ndarray]:
    names, places, at, step = [], np.empty(count, np.int64), 0, _ENTRY.itemsize
    for i in range(count):  # only what has to be done one by one; the fields follow for all at once
        name_size, extra_size, comment_size = _LENGTHS.unpack_from(data, at + 28)
        places[i] = at
        at += step
        names.append(data[at : at + name_size])
        at += name_size + extra_size + comment_size
    if at > len(data):
        raise ValueError("its table of contents is cut off")
    raw = np.frombuffer(data, np.uint8)
    entries = raw[places[:, None] + np.arange(step)].reshape(-1).view(_ENTRY)
    if (entries["magic"] != b"PK\1\2").any():
        raise ValueError("its table of contents is damaged")
    rows = np.empty(count, _COLUMNS)
    for column in _COLUMNS.names or ():
        rows[column] = entries[column]
    large = (entries["packed"] == _FULL) | (entries["size"] == _FULL) | (entries["offset"] == _FULL)
    for i in np.flatnonzero(large):
        begin = int(places[i]) + step + int(entries["lengths"][i, 0])
        extra = data[begin : begin + int(entries["lengths"][i, 1])]
        rows["size"][i], rows["packed"][i], rows["offset"][i] = _zip64_sizes(
            extra, *(int(entries[column][i]) for column in ("size", "packed", "offset"))
        )
    unicode = (entries["flags"] & 0x800) != 0
    # cp437 is slow, and equal for ASCII
    decoded = [
        name.decode("utf-8" if utf or name.isascii() else "cp437")
        for name, utf in zip(names, unicode.tolist(), strict=True)
    ]
    return decoded, rows


def _zip64_sizes(extra: bytes, *values: int) -> list[int]:
    """Replace the values that did not fit 32 bits.

    The zip64 extra field holds them in this order.
    """
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            large = iter(struct.unpack_from(f"<{size // 8}Q", extra, at + 4))
            return [next(large, value) if value == _FULL else value for value in values]
        at += 4 + size
    return list(values)


def _first(wrong: np.ndarray) -> int | None:
    return int(np.argmax(wrong)) if wrong.any() else None
