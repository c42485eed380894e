"""Files that users name: opened safely, or refused in a sentence that says what they are.

Such names are a stranger's words. None of them is an address or a command here, however it is
written, and none leads out of the folder that it was read in.
"""

import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

from gghead.data.images import parse_header
from gghead.torch_utils.errors import UserError

_NONBLOCK = getattr(os, "O_NONBLOCK", 0)  # a FIFO without a writer would block the opening itself
_BINARY = getattr(os, "O_BINARY", 0)
_KINDS = (
    (stat.S_ISDIR, "folder"),
    (stat.S_ISFIFO, "pipe"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISCHR, "device"),
    (stat.S_ISBLK, "device"),
)
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

    Raises ``UserError`` for a name that leaves the folder or cannot be read, and
    ``FileNotFoundError``.
    """
    if points_outside(name):
        raise UserError(
            f"'{name}' does not lie in {folder}, where it is named; only relative names without"
            " '..' are read, so move the file there."
        )
    try:
        return open_local(folder / name)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(error.errno, error.strerror, str(folder / name)) from error
    except OSError as error:
        raise UserError(
            f"{name} in {folder} cannot be read ({error.strerror or error}); mend its rights or"
            " copy it again."
        ) from error


def refuse_address(text: str) -> None:
    """Raise ``UserError`` where ``text`` does not exist and reads as an address.

    Addresses are such as ``http://…`` and ``pipe:…``.
    """
    found = _ADDRESS.match(text)
    if found and not os.path.exists(text):
        raise UserError(
            f"{text} reads as an address ({found[1]}:), but data are read from local files only;"
            " download them and give the path of the file or folder."
        )


_EXPECTED = "a zip or a folder of images with dataset.json is expected here"
_PHOTOS = "scripts/dataset_tool.py photos --source={folder} --dest=heads.zip"
_REMEDIES = {
    "an image": (
        "put photos into a folder and make a data set of them by"
        f" {_PHOTOS.format(folder='FOLDER')}, or find the head of this one by scripts/invert.py"
        " --target={path}"
    ),
    "a video": (
        "extract its frames to a folder of images, and make a data set of them by "
        + _PHOTOS.format(folder="FOLDER")
    ),
    "a .ply file of Gaussians": "name the images; gghead.load in Python reads Gaussians",
    "a network": "name the images; networks belong to `network`, avatars to `avatar`",
    "a saved state": "name the images; a run is continued with `resume=RUN`, its folder",
    "a packed archive": "unpack it and name the folder, or make it a zip",
    "a tar file": "unpack it and name the folder; tar files are read by train.py alone, as shards",
    "an empty file": "copy or make it again",
    "a JSON file": "name the folder or zip that it belongs to",
    "an array file": "name the images",
}
_SUFFIXES = {
    "an image": (
        ".jpg",
        ".jpeg",
        ".png",
        ".webp",
        ".bmp",
        ".gif",
        ".avif",
        ".heic",
        ".heif",
        ".tif",
        ".tiff",
    ),
    "a video": (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v"),
    "a .ply file of Gaussians": (".ply", ".splat", ".spz"),
    "a network": (".safetensors",),
    "a saved state": (".pt", ".pth", ".pkl", ".ckpt"),
    "a packed archive": (".gz", ".tgz", ".xz", ".bz2", ".7z", ".rar", ".zst"),
    "a tar file": (".tar",),
    "a JSON file": (".json",),
    "an array file": (".npy", ".npz"),
}
_BEGINNINGS = (
    (b"ply\n", "a .ply file of Gaussians"),
    (b"ply\r", "a .ply file of Gaussians"),
    (b"\x1a\x45\xdf\xa3", "a video"),
    (b"\x1f\x8b", "a packed archive"),
    (b"7z\xbc\xaf", "a packed archive"),
    (b"Rar!", "a packed archive"),
    (b"\xfd7zXZ", "a packed archive"),
    (b"BZh", "a packed archive"),
)


def wrong_file(path: Path) -> str | None:
    """Say what a file is and what to do with it, or return None where it may be a zip.

    A zip is recognized by its beginning; where nothing is recognized, the reader of zips has the
    word.
    """
    with open_local(path) as file:
        start = file.read(65536)
    kind = _kind(path, start)
    if kind is None:
        return None
    return f"{path} is {kind}, but {_EXPECTED}; {_REMEDIES[kind].format(path=path)}."


def _kind(path: Path, start: bytes) -> str | None:
    named = next(
        (kind for kind, suffixes in _SUFFIXES.items() if path.suffix.lower() in suffixes), None
    )
    if start[:4] == b"PK\3\4":  # networks' states and arrays are zips too
        return named if named in ("a saved state", "an array file") else None
    if not start:
        return "an empty file"
    if parse_header(start) is not None:
        return "an image"
    if start[4:8] == b"ftyp":
        return "an image" if start[8:11] in (b"hei", b"avi", b"mif") else "a video"
    if start[8:10] == b'{"' and int.from_bytes(start[:8], "little") < 1 << 27:
        return "a network"
    if start[257:262] == b"ustar":
        return "a tar file"
    return next((kind for mark, kind in _BEGINNINGS if start.startswith(mark)), named)


def no_labels_message(path: Path, images: int) -> str:
    """Return what to say of a zip or folder of so many images without dataset.json."""
    count = {0: "no images", 1: "one image"}.get(images, f"{images} images")
    text = f"{path} holds {count} and no dataset.json with camera labels;"
    zips = (
        sorted(file for file in path.glob("*.zip") if "_masks_" not in file.name)
        if path.is_dir()
        else []
    )
    if zips:
        return f"{text} give a zip in it, such as {zips[0]}, itself."
    if not images:
        return f"{text} {_EXPECTED}."
    single = (
        f"; to find the head of one photo, use scripts/invert.py --target={path}"
        if images == 1
        else ""
    )
    return f"{text} make a data set of photos by {_PHOTOS.format(folder=path)}{single}."
