"""Named vectors in files: condition vectors of a prior, one per head."""

import csv
import zipfile
from pathlib import Path

import numpy as np

from gghead.torch_utils.errors import UserError


def read_vectors(path: str | Path) -> dict[str, np.ndarray]:
    """Vectors by name: the arrays of an .npz, or the rows of a .csv (name first; a header line may stand above).

    Raises ``UserError`` for a broken file, vectors of different lengths, and numbers that are not finite.
    """
    path = Path(path)
    try:
        if path.suffix.lower() == ".npz":
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
                vectors = {name: np.asarray(archive[name], dtype=np.float32).ravel() for name in archive.files}
        elif path.suffix.lower() == ".csv":
            with open(path, newline="", encoding="utf-8") as file:
                rows = [row for row in csv.reader(file) if row]
            if rows and not _is_number(rows[0][-1]):
                rows = rows[1:]
            vectors = {row[0].strip(): np.array([float(cell) for cell in row[1:]], dtype=np.float32) for row in rows}
        else:
            raise UserError(f"{path} is neither .npz nor .csv; conditions are read from these.")
    except UserError:
        raise
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} holds no vectors that can be read ({error}).") from error
    lengths = {len(vector) for vector in vectors.values()}
    if len(lengths) != 1 or lengths == {0}:
        raise UserError(f"{path} must hold one vector per name, all of one length, but its lengths are "
                        f"{sorted(lengths)}.")
    bad = next((name for name, vector in vectors.items() if not np.isfinite(vector).all()), None)
    if bad is not None:
        raise UserError(f"The vector '{bad}' in {path} holds numbers that are not finite.")
    return vectors


def pick_vector(text: str) -> np.ndarray:
    """``FILE`` with a single vector, or ``FILE:NAME``. Raises ``UserError`` as ``read_vectors``."""
    path, _, name = text.rpartition(":")
    if not path or Path(text).is_file():
        path, name = text, ""
    vectors = read_vectors(path)
    known = ", ".join(list(vectors)[:8]) + ", …" * (len(vectors) > 8)
    if not name and len(vectors) > 1:
        raise UserError(f"{path} holds {len(vectors)} vectors ({known}); name one as {path}:NAME.")
    if name and name not in vectors:
        raise UserError(f"{path} has no vector '{name}'; it has: {known}.")
    return vectors[name] if name else next(iter(vectors.values()))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
