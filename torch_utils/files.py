"""Files that are either whole or absent."""

import contextlib
import errno
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from gghead.torch_utils.errors import UserError


def cache_dir(name: str) -> Path:
    """The user's cache folder for ``name``.

    It is ``$XDG_CACHE_HOME/gghead/name``, by default under ``~/.cache``.
    """
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "gghead" / name


def file_part(name: str) -> str:
    """Return ``name`` as one visible part of a path that leaves no folder.

    The name stands in somebody's file.
    """
    name = re.sub(r"[/\\\x00-\x1f\x7f]", "_", name)
    return f"_{name}" if name.startswith(".") else name


def make_folder(path: str | os.PathLike) -> Path:
    """Make a folder, and those above it, where they are missing.

    Raises ``UserError`` if the system refuses.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"The folder {path} cannot be made ({error.strerror}); choose another one."
        ) from error
    return Path(path)


def by_number(paths: Iterable[Path]) -> list[Path]:
    """Files such as ``state-000100.pt`` in the order of their numbers.

    Six digits are too few beyond a million.
    """

    def key(path: Path) -> tuple[str, int]:
        name = re.sub(r"\d*\Z", "", path.stem, count=1)
        return name, int(path.stem[len(name) :] or 0)

    return sorted(paths, key=key)


def write_atomically(
    path: str | os.PathLike,
    write: Callable[[BinaryIO], object],
    check: Callable[[Path], None] | None = None,
) -> None:
    """Call ``write`` with a file beside ``path``, and rename it when it is on the disk.

    ``check`` reads the temporary file back, from the disk where the system allows it, and raises
    ``UserError`` or ``OSError`` for a file that is not what was written. Raises ``UserError`` if
    the system refuses (disk full, no permission, folder gone); ``path`` is then as it was before.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
            if check is not None:
                _forget(file.fileno())
        if check is not None:
            check(temporary)
        move_into_place(temporary, path)
    except Exception as error:
        refused = _refusal(error)
        if refused is None or isinstance(error, UserError):
            raise
        raise UserError(
            f"{path} could not be written ({refused.strerror or refused}); free space or choose"
            " another folder. What was there before is unchanged."
        ) from error
    finally:
        with contextlib.suppress(OSError):  # it may never have been made
            temporary.unlink()


def move_into_place(temporary: Path, path: Path) -> None:
    """Rename a finished file to ``path``, and return when its content and its name are on the disk.

    Raises ``OSError`` if the system refuses; some disks say only here that they are full.
    """
    with open(temporary, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)
    _sync_folder(path.parent)


def remove_leftovers(folder: str | os.PathLike) -> list[str]:
    """Remove what ``write_atomically`` began in ``folder`` in processes that were killed.

    Return the files' names.

    A process that still runs on this machine keeps its file.
    """
    removed = []
    for path in sorted(Path(folder).glob(".*.tmp")):
        match = re.fullmatch(r"\..+\.(\d+)\.tmp", path.name)
        if match and not _runs(int(match[1])):
            path.unlink(missing_ok=True)
            removed.append(path.name)
    return removed


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it belongs to somebody else, or the system does not say
        return True
    return True


def _forget(descriptor: int) -> None:
    """Ask the system to read the file from the disk the next time, instead of from memory."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def _sync_folder(folder: Path) -> None:
    """Have the new name on the disk too: without it a power cut may bring the old file back."""
    if os.name == "nt":  # Windows has no such call
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network drives cannot do it
            raise
    finally:
        os.close(descriptor)


def _refusal(error: BaseException | None) -> OSError | None:
    """The system's error behind ``error``.

    On a full disk torch.save ends in a RuntimeError of its own archive.
    """
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error
