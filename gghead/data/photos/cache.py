"""Finished photos on the disk, so that an interrupted run continues.

One small zip each in a folder beside it.
"""

import hashlib
import json
import os
from pathlib import Path

from gghead.data.files import FolderSource, Source, open_source
from gghead.data.photos.config import PhotoOptions
from gghead.data.photos.landmarks import MODEL_FILE
from gghead.data.photos.mattes import mask_files
from gghead.data.photos.photo import Item, Skip
from gghead.data.zip_writer import ZipWriter
from gghead.torch_utils.config import to_dict
from gghead.torch_utils.errors import UserError

_VERSION = 1  # raise it when the same photo and options give another result


class PhotoCache:
    """Results by photo.

    A key covers the photo's file and its mask's (size and time), the options, its camera and the
    model.
    """

    def __init__(
        self,
        folder: Path,
        files: Source,
        options: PhotoOptions,
        labels: dict[str, list[float]] | None,
    ):
        self.folder = folder
        self._files, self._labels = files, labels
        model = hashlib.sha256(MODEL_FILE.read_bytes()).hexdigest()
        named = [
            _stamp(Path(path)) for path in (options.landmarker, options.matte.removeprefix("onnx:"))
        ]
        self._common, self._masks = [_VERSION, model, to_dict(options), named], options.masks

    def path(self, name: str) -> Path:
        """Return where the result of a photo is or will be."""
        folder = isinstance(self._files, FolderSource)
        stamp = _stamp(self._files.path / name if folder else self._files.path)
        label = self._labels.get(name) if self._labels else None
        masks = (
            [] if self._masks is None else [_stamp(path) for path in mask_files(self._masks, name)]
        )
        content = json.dumps([*self._common, name, stamp, label, *masks], sort_keys=True)
        return self.folder / f"{hashlib.sha256(content.encode()).hexdigest()[:32]}.zip"

    def save(self, name: str, results: list[Item | Skip]) -> None:
        """Store the results of a photo."""
        with ZipWriter(self.path(name)) as writer:
            records = []
            for index, result in enumerate(results):
                if isinstance(result, Skip):
                    records.append({"reason": result.reason, "detail": result.detail})
                    continue
                records.append(
                    {
                        "label": result.label,
                        "record": result.record,
                        "mask": result.mask is not None,
                    }
                )
                writer.add_file(f"{index}.png", result.image)
                if result.mask is not None:
                    writer.add_file(f"{index}_mask.png", result.mask)
            writer.add_file("results.json", json.dumps(records).encode())

    def load(self, name: str) -> list[Item | Skip] | None:
        """Return the results of a photo; None if they are not there or damaged."""
        path = self.path(name)
        if not path.is_file():
            return None
        try:
            stored = open_source(path)
        except UserError:
            return None
        try:
            results: list[Item | Skip] = []
            for index, entry in enumerate(json.loads(stored.read("results.json"))):
                if "reason" in entry:
                    results.append(Skip(entry["reason"], entry["detail"]))
                else:
                    mask = stored.read(f"{index}_mask.png") if entry["mask"] else None
                    results.append(
                        Item(stored.read(f"{index}.png"), mask, entry["label"], entry["record"])
                    )
            return results
        except (UserError, KeyError, ValueError):
            return None
        finally:
            stored.close()


def _stamp(path: Path) -> list[int]:
    """Size and time of a file; zeros where there is none (an option that names no file)."""
    try:
        status = os.stat(path)
    except OSError:
        return [0, 0]
    return [status.st_size, status.st_mtime_ns]
