"""Where commands write: never over what is there unless told to, and found out before anything is
computed."""

import os
from collections.abc import Iterable
from pathlib import Path

from gghead.torch_utils import cli
from gghead.torch_utils.errors import UserError

OUT = Path("out")
"""Where files go unless told otherwise."""


def free_path(stem: str, ending: str = "") -> Path:
    """``out/STEM`` with ``ending``, or the first of ``out/STEM-2``, ``out/STEM-3``, … that does not
    exist yet."""
    path, number = OUT / f"{stem}{ending}", 1
    while os.path.lexists(path):
        number += 1
        path = OUT / f"{stem}-{number}{ending}"
    return path


def check_outputs(paths: Iterable[Path], overwrite: bool, option: str = "--outdir") -> None:
    """Raise ``UserError`` where a file of ``paths`` cannot be written, or is there already without
    ``overwrite``."""
    paths = list(paths)
    for path in paths:
        cli.check_writable(path, option)
    there = [path for path in paths if os.path.lexists(path)]
    if there and not overwrite:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise UserError(
            f"{there[0]} exists already{more}; give --overwrite to replace it, or another {option}."
        )
