"""Files that are either whole or absent."""

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from gghead.torch_utils.errors import UserError


def cache_dir(name: str) -> Path:
    """The user's cache folder for ``name``: ``$XDG_CACHE_HOME/gghead/name``, by default under ``~/.cache``."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "gghead" / name


def make_folder(path: str | os.PathLike) -> Path:
    """Make a folder, and those above it, where they are missing. Raises ``UserError`` if the system refuses."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"The folder {path} cannot be made ({error.strerror}); choose another one.") from error
    return Path(path)


def by_number(paths: Iterable[Path]) -> list[Path]:
    """Files such as ``state-000100.pt`` in the order of their numbers; six digits are too few beyond a million."""
    def key(path: Path) -> tuple[str, int]:
        name, number = re.fullmatch(r"(.*?)(\d*)", path.stem, re.DOTALL).groups()
        return name, int(number or 0)

    return sorted(paths, key=key)


def write_atomically(path: str | os.PathLike, write: Callable[[BinaryIO], object]) -> None:
    """Call ``write`` with a temporary file beside ``path`` and rename it when all of it is on the disk.

    Raises ``UserError`` if the system refuses (disk full, no permission); ``path`` is then as it was before.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except Exception as error:
        refused = _refusal(error)
        if refused is None:
            raise
        raise UserError(f"{path} could not be written ({refused.strerror or refused}); free space or choose another "
                        "folder. What was there before is unchanged.") from error
    finally:
        temporary.unlink(missing_ok=True)


def _refusal(error: BaseException | None) -> OSError | None:
    """The system's error behind ``error``: on a full disk torch.save ends in a RuntimeError of its own archive."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error
