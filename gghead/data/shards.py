"""Data sets in many shards: zips or tar files, opened as one."""

import itertools
import os
import re
from pathlib import Path

from gghead.data.camera_labels import Labels
from gghead.data.dataset_zip import read_info_in
from gghead.data.files import is_image, open_source
from gghead.data.image_files import ImageFiles
from gghead.data.local_files import refuse_address
from gghead.data.tar_shards import TarShard, open_tars
from gghead.torch_utils.errors import UserError

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d{1,9})\.\.(\d{1,9})")
_MOST_SHARDS = 1_000_000  # a list of names longer than that is a slip of the pen


def open_shards(
    path: str | os.PathLike, masks: str | os.PathLike | None
) -> tuple[list[ImageFiles] | list[TarShard], bool]:
    """Return a data set's parts in fixed order, and whether they can be read in order only.

    A single zip or folder of images is one part. A folder that holds zips and no images is a set of
    shards: each has its own dataset.json, or one dataset.json beside them labels ``shard.zip/name``
    (or ``name``, where names are unique). Zips called ``<shard>_masks_*`` are masks. Tar files as
    in ``tar_shards``.

    Raises:
        UserError: nothing there, or parts that cannot be used.
    """
    text, folder = os.fspath(path), Path(path)
    refuse_address(text)
    tars = tar_paths(text)
    if tars:
        if masks not in (None, "auto"):
            raise UserError(
                f"{path}: masks of tar files stand beside the images in them, as KEY.mask.png;"
                " leave out `masks`."
            )
        return open_tars(tars, masks is not None, _beside(folder)), True
    return [ImageFiles(*part) for part in shard_inputs(folder, masks)], False


def shard_inputs(
    path: Path, masks: str | os.PathLike | None
) -> list[tuple[Path, str | os.PathLike | None, Labels | None]]:
    """Return (file, its masks, its labels) for the zips of a folder, or for ``path`` itself.

    The labels are given if they stand elsewhere.

    Raises:
        UserError: labels of images that no shard holds, or no masks for a shard.
    """
    zips = zip_shards(path)
    if not zips:
        return [(path, masks, None)]
    labels = _beside(path)
    parts = [
        (shard, _masks_of(shard, masks), None if labels is None else _labels_of(shard, labels))
        for shard in zips
    ]
    used = sum(len(own or ()) for _, _, own in parts)
    if labels is not None and used != len(labels):
        raise UserError(
            f"dataset.json in {path} labels {len(labels)} images, but its shards hold {used} of"
            " them; copy the missing shards or write it again."
        )
    return parts


def zip_shards(folder: Path) -> list[Path]:
    """Return the zips of a folder that holds no images itself; masks' zips are left out."""
    if not folder.is_dir():
        return []
    zips = sorted(file for file in folder.glob("*.zip") if "_masks_" not in file.name)
    return zips if zips and not _has_images(folder) else []


def _has_images(folder: Path) -> bool:
    return any(is_image(file.name) for file in folder.rglob("*"))


def tar_paths(text: str) -> list[str]:
    """Return the tar files that ``text`` names.

    It is a folder of them (and no images), one, or a brace list of several.

    ``shard-{000..012}.tar`` and ``{a,b}.tar`` are brace lists; what a file's own name holds is
    never read as one. Raises ``UserError`` for a brace list that cannot be read.
    """
    if os.path.isdir(text):
        tars = [str(file) for file in sorted(Path(text).glob("*.tar"))]
        return tars if tars and not _has_images(Path(text)) else []
    if not text.endswith(".tar"):
        return []
    return [text] if os.path.exists(text) else _expand_braces(text)


def _expand_braces(text: str) -> list[str]:
    """``a{1..3}b{x,y}`` -> all six names, in order; numbers keep the width of the first bound."""
    pieces = _BRACES.split(text)  # plain text and the contents of braces in turn
    if any(mark in piece for piece in pieces for mark in "{}"):
        raise UserError(
            f"The braces of {text} do not close or stand in each other; write them as in "
            "DIR/shard-{000000..000012}.tar."
        )
    choices, count = [], 1
    for index, piece in enumerate(pieces):
        options: list[str] | range = [piece] if index % 2 == 0 else piece.split(",")
        width = 0
        if index % 2 and (found := _RANGE.fullmatch(piece)):
            options, width = range(int(found[1]), int(found[2]) + 1), len(found[1])
        count *= len(options)
        if not 1 <= count <= _MOST_SHARDS:
            raise UserError(
                f"{text} names {count} files; write the first and the last number in braces, as in "
                "DIR/shard-{000000..000012}.tar."
            )
        choices.append([f"{option:0{width}d}" for option in options] if width else options)
    return ["".join(parts) for parts in itertools.product(*choices)]


def _beside(folder: Path) -> Labels | None:
    """The labels of the one dataset.json beside the shards.

    Of a brace list it is in the folder before its last part.
    """
    info = read_info_in(folder if folder.is_dir() else folder.parent)
    return None if info is None else info.labels


def _labels_of(shard: Path, labels: Labels) -> Labels:
    source, own = open_source(shard), {}
    for name in filter(is_image, source.names()):
        for key in (f"{shard.name}/{name}", f"{shard.stem}/{name}", name):
            if key in labels:
                own[name] = labels[key]
                break
    source.close()
    return own


def _masks_of(shard: Path, masks: str | os.PathLike | None) -> str | os.PathLike | None:
    if masks in (None, "auto"):
        return masks
    found = Path(masks) / shard.name
    if not found.exists():
        raise UserError(
            "The data are shards, so `masks` must be a folder with a zip of masks for each of"
            f" them, but there is no {found}."
        )
    return found
