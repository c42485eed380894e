"""Splitting a data set into shards: zips like the one it came from, or WebDataset-style tar files.
No image is encoded anew."""

import dataclasses
import json
import os
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from gghead.data.dataset_zip import DATASET_JSON, DatasetInfo, DatasetWriter, rounded
from gghead.data.image_files import ImageFiles
from gghead.data.images import decode_image
from gghead.data.tar_shards import tar_member
from gghead.data.zip_writer import encode_png
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.files import write_atomically

FORMATS = ("zip", "tar")


def write_shards(
    source: Path,
    dest: Path,
    kind: str,
    per_shard: int,
    masks: str | os.PathLike | None = "auto",
    # images written so far, and in all
    progress: Callable[[int, int], object] = lambda done, total: None,
    overwrite: bool = False,
) -> int:
    """Write ``dest/shard-000000.zip`` (or .tar) … with ``per_shard`` images each; return the number
    of shards.

    Zips are data sets of their own. Beside tar files stands one dataset.json with all labels, which
    spares readers a pass over all of them. Labels, masks and ``frames`` travel along, other tables
    (uv, depth) do not. ``dest`` appears whole or not at all. With ``overwrite`` it replaces a
    folder that holds shards and nothing else.

    Raises:
        UserError: broken input, or a ``dest`` that exists or cannot be written.
    """
    if kind not in FORMATS:
        raise UserError(f"There is no shard format {kind}; choose one of {', '.join(FORMATS)}.")
    if dest.exists() and not overwrite:
        raise UserError(f"{dest} exists already; choose another folder or remove it.")
    if dest.exists():
        _check_only_shards(dest)
    files = ImageFiles(source, masks)
    temporary, old = (
        dest.with_name(f".{dest.name}.{os.getpid()}.{ending}") for ending in ("tmp", "old")
    )
    try:
        temporary.mkdir(parents=True)
        labels: dict[str, list[float]] = {}
        ranges = [range(i, min(i + per_shard, len(files))) for i in range(0, len(files), per_shard)]
        for number, members in enumerate(ranges):
            name = f"shard-{number:06d}.{kind}"
            if kind == "zip":
                _write_zip(files, members, temporary / name, progress)
            else:
                labels |= _write_tar(files, members, temporary / name, progress)
        if kind == "tar":
            content = DatasetInfo(labels).serialize()
            write_atomically(temporary / DATASET_JSON, lambda file: file.write(content))
        if dest.exists():
            os.replace(dest, old)
        os.replace(temporary, dest)
    except OSError as error:
        raise UserError(
            f"{dest} cannot be written ({error.strerror}); free space or choose another folder."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if old.exists() and not dest.exists():
            os.replace(old, dest)
        shutil.rmtree(old, ignore_errors=True)
        files.close()
    return len(ranges)


def _check_only_shards(folder: Path) -> None:
    """Raise ``UserError`` for a folder that holds anything else, which overwriting would delete."""
    if not folder.is_dir():
        raise UserError(f"{folder} is a file; choose another name for the folder of shards.")
    ours = re.compile(r"shard-\d+\.(zip|tar)")
    others = [
        entry.name
        for entry in folder.iterdir()
        if not ours.fullmatch(entry.name) and entry.name != DATASET_JSON
    ]
    if others:
        raise UserError(
            f"{folder} holds other things than shards ({others[0]}), which would be lost; choose"
            " another folder."
        )


def _write_zip(
    files: ImageFiles, members: range, path: Path, progress: Callable[[int, int], object]
) -> None:
    with DatasetWriter(path) as writer:
        for i in members:
            writer.add(
                files.names[i],
                files.source.read(files.names[i]),
                files.labels[i],
                _separate_mask(files, i),
                files.info.records.get(files.names[i]),
            )
            progress(i + 1, len(files))


def _write_tar(
    files: ImageFiles, members: range, path: Path, progress: Callable[[int, int], object]
) -> dict[str, list[float]]:
    labels = {}

    def write(stream: BinaryIO) -> None:
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for i in members:
                name = files.names[i]
                key, suffix = f"{i:08d}", os.path.splitext(name)[1].lower()
                label = rounded(files.labels[i].astype(np.float64))
                # names of files are other ones here
                record = dataclasses.replace(files.record(i), mask=None).content()
                about = {"label": label, **record, "name": name}
                del about["file"]
                parts = [
                    (suffix, files.source.read(name)),
                    (".json", json.dumps(about, separators=(",", ":")).encode()),
                ]
                if files.has_masks:
                    parts.insert(1, (".mask.png", _any_mask(files, i)))
                for ending, data in parts:
                    archive.addfile(*tar_member(key + ending, data))
                labels[f"{path.name}/{key}{suffix}"] = label
                progress(i + 1, len(files))

    write_atomically(path, write)
    return labels


def _separate_mask(files: ImageFiles, index: int) -> bytes | None:
    if files.mask_source is None:
        return None  # an image's own alpha channel travels with it
    name = files.mask_names[index]
    assert name is not None  # ImageFiles refuses an image without its mask
    data = files.mask_source.read(name)
    return data if data[:4] == b"\x89PNG" else encode_png(np.asarray(decode_image(data, "L", name)))


def _any_mask(files: ImageFiles, index: int) -> bytes:
    if (separate := _separate_mask(files, index)) is not None:
        return separate
    mask = files.mask(index)
    assert mask is not None
    return encode_png(mask)
