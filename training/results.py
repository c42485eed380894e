"""What comparisons of many trainings have measured so far: one JSON file, so that a repeated
command goes on."""

import json
from pathlib import Path

from gghead.torch_utils.errors import UserError
from gghead.torch_utils.files import write_atomically


def read_rows(path: Path, settings: dict, script: str) -> list[dict]:
    """The rows that ``script`` wrote for the same settings; none where there is no file.

    Raises ``UserError`` for a file of another kind or of other settings.
    """
    if not path.is_file():
        return []
    try:
        content = json.loads(path.read_bytes())
        known, rows = content["settings"], content["rows"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no file of {script} ({error}); remove it or choose another --outdir."
        ) from error
    if known != settings:
        raise UserError(f"{path} was made with other settings; choose another --outdir.")
    return rows


def write_rows(path: Path, settings: dict, rows: list[dict]) -> None:
    """Write all rows anew, atomically."""
    text = json.dumps({"settings": settings, "rows": rows}) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))
