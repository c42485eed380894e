"""What metrics keep on disk of the real images.

Gaussian fits to the features of two halves of a data set.
"""

import hashlib
import warnings
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy
import torch

from gghead.data import ImageDataset
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.files import write_atomically
from gghead.training.metrics.frechet import GaussianFit


def dataset_key(dataset: ImageDataset) -> str:
    """Return a hash of which images the data set holds: file, names, labels and resolution."""
    digest = hashlib.blake2b(digest_size=12)
    path = Path(getattr(dataset, "path", ""))
    if path.is_file():
        stat = path.stat()
        digest.update(f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}".encode())
    else:
        digest.update(str(path.resolve()).encode())
    digest.update(f"{len(dataset)} {dataset.resolution} {dataset.has_masks}".encode())
    # otherwise the images are those that older caches were made of
    if dataset.backdrop is not None:
        digest.update(
            f"without {[round(255 * float(value)) for value in dataset.backdrop]}".encode()
        )
    digest.update("\n".join(dataset.name(index) for index in range(len(dataset))).encode())
    digest.update(
        numpy.ascontiguousarray(numpy.asarray(dataset.labels, dtype=numpy.float32)).tobytes()
    )
    return digest.hexdigest()


def save_fits(path: Path, fits: tuple[GaussianFit, GaussianFit]) -> None:
    """Write two fits; a disk that refuses is a warning."""
    first, second = fits

    def write(file: BinaryIO) -> None:
        numpy.savez(
            file,
            reference=first.reference.cpu().numpy(),
            count0=numpy.array(first.count),
            total0=first.total.cpu().numpy(),
            outer0=first.outer.cpu().numpy(),
            count1=numpy.array(second.count),
            total1=second.total.cpu().numpy(),
            outer1=second.outer.cpu().numpy(),
        )

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, write)
    except (OSError, UserError) as error:  # only time is lost: the next run computes them again
        warnings.warn(f"The metrics' cache is not kept: {error}", stacklevel=3)


def load_fits(path: Path) -> tuple[GaussianFit, GaussianFit] | None:
    """Return the cached fits, or None where there are none or the file is damaged."""
    if not path.exists():
        return None
    try:
        with path.open("rb") as file, numpy.load(file, allow_pickle=False) as archive:
            arrays = {name: torch.from_numpy(archive[name]) for name in archive.files}
        fits = [
            GaussianFit(
                int(arrays[f"count{n}"]),
                arrays[f"total{n}"],
                arrays[f"outer{n}"],
                arrays["reference"],
            )
            for n in range(2)
        ]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        warnings.warn(
            f"The metrics' cache {path} is damaged ({error}) and will be rebuilt.", stacklevel=3
        )
        return None
    return fits[0], fits[1]
