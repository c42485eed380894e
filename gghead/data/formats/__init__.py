"""Other people's data sets, read into ``Captures`` and ``TrackedSequence``.

One module per format, one table.

A reader converts at its border: what it returns has our camera axes, world and unit. To add one,
copy ``insta`` and give ``FORMATS`` a line.
"""

from __future__ import annotations

import importlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gghead.data.files import Source, is_image, open_source
from gghead.data.formats.parsing import ReadOptions
from gghead.data.local_files import no_labels_message, refuse_address
from gghead.torch_utils.errors import UserError

if TYPE_CHECKING:  # a command's help lists the formats, and needs no torch for that
    from gghead.data.captures import Captures, TrackedSequence


@dataclass(frozen=True)
class Format:
    """A module here with ``looks_like(names, transforms)`` and ``read(source, options)``."""

    name: str
    text: str
    uses: tuple[str, ...] = ()
    """Options of ``ReadOptions`` that not every format has a use for."""
    home: str = ""
    """The module, where it is not the one of this package with that name."""

    @property
    def module(self):
        return importlib.import_module(self.home or f"gghead.data.formats.{self.name}")


_SPECIAL = ("test_frames", "test_clips", "flame", "lens")
# The first that fits is taken: special ones stand before general ones.
FORMATS = {
    format.name: format
    for format in (
        Format(
            "archive",
            "zips of this project, mvheads, EG3D and GGHead (dataset.json)",
            home="gghead.data.frames_zip",
        ),
        Format(
            "flashavatar",
            "FlashAvatar: imgs, alpha, tracker frames that count from 0",
            ("test_frames",),
        ),
        Format("metrical", "metrical-tracker: checkpoint/*.frame beside images", ("test_frames",)),
        Format(
            "imavatar",
            "IMavatar and PointAvatar: flame_params.json per clip",
            ("test_clips", "flame"),
        ),
        Format(
            "nersemble",
            "NeRSemble v2 and its benchmark: calibration and videos or images",
            ("flame",),
        ),
        Format("ava256", "Ava-256: camera_calibration.json, head_pose, AVIF images", ("lens",)),
        Format("facescape", "FaceScape multi-view: params.json per expression", ("lens",)),
        Format("facelift", "FaceLift: opencv_cameras.json"),
        Format("avatar", "sequence folders of this project: transforms.json with cam2world"),
        Format(
            "vhap", "VHAP exports for GaussianAvatars: transforms*.json, flame_param", ("flame",)
        ),
        Format("insta", "INSTA: transforms.json, flame/exp", ("test_frames",)),
        Format(
            "nerfblendshape",
            "NeRFBlendShape: transforms.json with 46 coefficients",
            ("test_frames",),
        ),
        Format("nerfstudio", "nerfstudio, instant-ngp, COLMAP: transforms.json", ("lens",)),
    )
}


def detect(source: Source) -> Format:
    """The format of a data set, by its files; raises ``UserError`` if none fits."""
    names = set(source.names())
    content = _transforms(source, names)
    for format in FORMATS.values():
        if format.module.looks_like(names, content):
            return format
    if names and all(map(is_image, names)):
        raise UserError(no_labels_message(source.path, len(names)))
    raise UserError(
        f"{source.path} is of no known format; give the folder that holds its JSON files, or name"
        f" one with `format`: {', '.join(FORMATS)}."
    )


def read(
    path: str | os.PathLike, format: str = "auto", options: ReadOptions | None = None
) -> Captures | TrackedSequence:
    """Read a data set: a folder, a zip, or the JSON file in its folder.

    A folder with nothing but one zip to read stands for the zip.

    Raises ``UserError`` for an unknown format, an option that the format has no use for, and
    whatever the reader finds wrong.
    """
    refuse_address(os.fspath(path))
    path = Path(path)
    source = open_source(
        path.parent if path.suffix == ".json" and path.is_file() else _only_zip(path) or path
    )
    if format == "auto":
        chosen = detect(source)
    elif format in FORMATS:
        chosen = FORMATS[format]
    else:
        raise UserError(f"There is no format '{format}'; choose one of auto, {', '.join(FORMATS)}.")
    options = options or ReadOptions()
    for key in _SPECIAL:
        if getattr(options, key) is not None and key not in chosen.uses:
            raise UserError(
                f"`{key}` has no meaning for {chosen.name} data such as {path}; leave it out."
            )
    return chosen.module.read(source, options)


def _only_zip(path: Path) -> Path | None:
    """The zip of a folder that holds one and no other data, as mvheads comes.

    Notes and arrays may lie beside it.
    """
    if not path.is_dir():
        return None
    zips = [file for file in path.iterdir() if file.suffix == ".zip"]
    data = any(
        file.is_dir() or file.suffix == ".json" or is_image(file.name) for file in path.iterdir()
    )
    return zips[0] if len(zips) == 1 and not data else None


def _transforms(source: Source, names: set[str]) -> dict | None:
    """``transforms.json`` at the top, if it is one with frames.

    A broken one is the chosen reader's to report.
    """
    for name in ("transforms.json", "transforms_train.json"):
        if name in names:
            try:
                content = json.loads(source.read(name))
            except (ValueError, RecursionError) as error:
                raise UserError(
                    f"{name} in {source.path} is not valid JSON ({error}); copy it again."
                ) from error
            frames = content.get("frames") if isinstance(content, dict) else None
            if isinstance(frames, list) and frames and isinstance(frames[0], dict):
                return content
    return None
