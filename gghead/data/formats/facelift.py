"""FaceLift's GS-LRM input (Lyu et al. 2025).

``opencv_cameras.json`` beside the images of one head.

Source: weijielyu/FaceLift. ``frames``: ``w``, ``h``, ``fx``, ``fy``, ``cx``, ``cy`` in pixels from
the outer corner, ``w2c`` (4x4 world-to-camera, OpenCV axes), ``file_path``. The frame of its heads
is not documented, so they are placed by the cameras.
"""

import numpy as np

from gghead.data.captures import Captures
from gghead.data.files import Source
from gghead.data.formats.assemble import Row, assemble
from gghead.data.formats.geometry import intrinsics, invert, place_by_cameras
from gghead.data.formats.parsing import ReadOptions, member, read_json
from gghead.data.json_values import entry, frame_list, image_size, matrix, number
from gghead.torch_utils.errors import UserError

_FILE = "opencv_cameras.json"


def looks_like(names: set[str], content: dict | None) -> bool:
    return any(name.rpartition("/")[2] == _FILE for name in names)


def read(source: Source, options: ReadOptions) -> Captures:
    """Read one folder per head; see ``assemble`` for what is refused."""
    rows: list[Row] = []
    for file in [name for name in source.names() if name.rpartition("/")[2] == _FILE]:
        where = f"{file} in {source.path}"
        base = file.removesuffix(_FILE)
        content = read_json(source, file)
        frames = frame_list(content, where)
        subject = str(
            content.get("id") or base.rstrip("/").rpartition("/")[2] or source.path.resolve().name
        )
        here = []
        for index, frame in enumerate(frames):
            at = f"frame {index} of {where}"
            width, height = image_size(frame, at)
            fx, fy, cx, cy = (number(frame, key, at) for key in ("fx", "fy", "cx", "cy"))
            k = intrinsics(fx, fy, cx, cy, width, height)
            pose = invert(matrix(entry(frame, "w2c", at), f"'w2c' of {at}"))
            here.append(
                Row(
                    member(entry(frame, "file_path", at), base),
                    pose,
                    k,
                    (int(width), int(height)),
                    subject=subject,
                    camera=f"{index:02d}",
                )
            )
        poses, matrices = (
            np.stack([row.cam2world for row in here]),
            np.stack([row.matrix for row in here]),
        )
        placement = place_by_cameras(poses, matrices, where, options)
        for row, pose in zip(here, placement.cameras(poses), strict=True):
            row.cam2world = pose
        rows += here
    if not rows:
        raise UserError(f"{source.path} has no {_FILE}.")
    return assemble(Captures, source, rows, options, format="facelift", mask_kind="embedded")
