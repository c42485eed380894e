"""Opening of files whose names were found in folders, archives or JSON: regular local files, and nothing else.

Such names are a stranger's words. None of them is an address or a command here, however it is written, and none leads
out of the folder that it was read in.
"""

import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

from gghead.torch_utils.errors import UserError

_NONBLOCK = getattr(os, "O_NONBLOCK", 0)  # a FIFO without a writer would block the opening itself
_BINARY = getattr(os, "O_BINARY", 0)
_KINDS = ((stat.S_ISDIR, "folder"), (stat.S_ISFIFO, "pipe"), (stat.S_ISSOCK, "socket"), (stat.S_ISCHR, "device"),
          (stat.S_ISBLK, "device"))  # fmt: skip
# Two letters at least: C:\heads is a path on Windows.
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_OUTSIDE = re.compile(r"[/\\]|[A-Za-z]:|(?:.*[/\\])?\.\.(?:[/\\]|$)|.*\0", re.DOTALL)


def open_descriptor(path: str | os.PathLike) -> int:
    """Open a regular file for reading and return its descriptor; links are followed.

    Raises ``UserError`` for a pipe, a device, a socket or a folder, and ``OSError`` as ``os.open``.
    """
    descriptor = os.open(path, os.O_RDONLY | _NONBLOCK | _BINARY)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        kind = next((name for test, name in _KINDS if test(mode)), "special file")
        raise UserError(f"{path} is a {kind}, not a file with data; remove it or name another.")
    return descriptor


def open_local(path: str | os.PathLike) -> BinaryIO:
    """Open a regular file for reading; raises as ``open_descriptor``."""
    return os.fdopen(open_descriptor(path), "rb")


def points_outside(name: str) -> bool:
    """Whether a relative name would leave the folder that it is looked up in."""
    return _OUTSIDE.match(name) is not None


def open_below(folder: Path, name: str) -> BinaryIO:
    """Open ``folder/name``, a name that stands in a file.

    Raises ``UserError`` for a name that leaves the folder or cannot be read, and ``FileNotFoundError``.
    """
    if points_outside(name):
        raise UserError(f"'{name}' does not lie in {folder}, where it is named; only relative names without '..' are "
                        "read, so move the file there.")  # fmt: skip
    try:
        return open_local(folder / name)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(error.errno, error.strerror, str(folder / name)) from error
    except OSError as error:
        raise UserError(f"{name} in {folder} cannot be read ({error.strerror or error}); mend its rights or copy it "
                        "again.") from error  # fmt: skip


def refuse_address(text: str) -> None:
    """Raise ``UserError`` where ``text`` does not exist and reads as an address: ``http://…``, ``pipe:…``."""
    found = _ADDRESS.match(text)
    if found and not os.path.exists(text):
        raise UserError(f"{text} reads as an address ({found[1]}:), but data are read from local files only; download "
                        "them and give the path of the file or folder.")  # fmt: skip
