"""nerfstudio's and instant-ngp's ``transforms.json``, as COLMAP scripts write it.

One head, one instant, many cameras.

Sources: nerfstudio's documentation of its data format, NVlabs/instant-ngp scripts/colmap2nerf.py,
NeRF's synthetic scenes. Poses are camera-to-world with OpenGL axes in an arbitrary frame and unit
(placed by the cameras, see ``place_by_cameras``); intrinsics stand on top or in every frame, in
pixels from the outer corner of the first pixel, or as ``camera_angle_x``; k1, k2, p1, p2, k3 are
OpenCV's. Fisheye and panoramic cameras are refused.
"""

import math

import numpy as np

from gghead.data.captures import Captures
from gghead.data.files import IMAGE_SUFFIXES, Source, image_header
from gghead.data.formats.assemble import Row, assemble
from gghead.data.formats.geometry import from_opengl, intrinsics, place_by_cameras
from gghead.data.formats.parsing import ReadOptions, member, read_json
from gghead.data.frame_images import Lens
from gghead.data.json_values import entry, frame_list, image_size, matrix, number
from gghead.torch_utils.errors import UserError

_PINHOLES = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE")
_UNKNOWN = ("k4", "k5", "k6")  # of OpenCV's rational model or of fisheyes: not this polynomial


def looks_like(names: set[str], content: dict | None) -> bool:
    return content is not None and "transform_matrix" in content["frames"][0]


def read(source: Source, options: ReadOptions) -> Captures:
    """Read a scene of one head; see ``assemble`` for what is refused."""
    names = set(source.names())
    files = [("transforms.json", None)]
    if "transforms.json" not in names:  # NeRF's synthetic scenes
        files = [(f"transforms_{split}.json", split) for split in ("train", "val", "test")]
        files = [(name, split) for name, split in files if name in names] or files[:1]
    rows = []
    for name, split in files:
        rows += _rows(source, name, split, names, len(rows))
    poses, matrices = (
        np.stack([row.cam2world for row in rows]),
        np.stack([row.matrix for row in rows]),
    )
    placement = place_by_cameras(poses, matrices, str(source.path), options)
    for row, pose in zip(rows, placement.cameras(poses), strict=True):
        row.cam2world = pose
    has_masks = any(row.mask for row in rows)
    return assemble(
        Captures,
        source,
        rows,
        options,
        format="nerfstudio",
        mask_kind="file" if has_masks else "embedded",
    )


def _rows(source: Source, name: str, split: str | None, names: set[str], first: int) -> list[Row]:
    where = f"{name} in {source.path}"
    content = read_json(source, name)
    rows = []
    for index, frame in enumerate(frame_list(content, where)):
        at = f"frame {index} of {where}"
        values = {**{key: value for key, value in content.items() if key != "frames"}, **frame}
        image = member(entry(frame, "file_path", at))
        # NeRF's scenes leave it out
        if image not in names and not image.lower().endswith(IMAGE_SUFFIXES):
            image = next(
                (image + end for end in IMAGE_SUFFIXES if image + end in names),
                image + ".png",
            )
        k, size, lens = _camera(values, source, image, names, at)
        mask = frame.get("mask_path")
        pose = from_opengl(matrix(entry(frame, "transform_matrix", at), f"The pose of {at}"))
        rows.append(
            Row(
                image,
                pose,
                k,
                size,
                member(mask) if mask else None,
                camera=f"{first + index:05d}",
                split=split,
                lens=lens,
            )
        )
    return rows


def _camera(
    values: dict, source: Source, image: str, names: set[str], at: str
) -> tuple[np.ndarray, tuple[int, int], Lens | None]:
    model = str(values.get("camera_model", "OPENCV")).upper()
    if model not in _PINHOLES or values.get("is_fisheye"):
        raise UserError(
            f"The camera of {at} is of the kind"
            f" {model}{' (fisheye)' * bool(values.get('is_fisheye'))}; undistort the images to a"
            " pinhole first."
        )
    if strange := [key for key in _UNKNOWN if values.get(key)]:
        raise UserError(
            f"The lens of {at} has '{strange[0]}', which is no pinhole with k1, k2, k3, p1, p2;"
            " undistort the images first."
        )
    if "w" in values and "h" in values:
        width, height = image_size(values, at)
    elif image in names:
        width, height = image_header(source, image)[0]
    else:
        raise UserError(f"{at} has no 'w' and 'h', and its image {image} is missing.")
    if "fl_x" in values:
        fx = number(values, "fl_x", at)
        fy = number(values, "fl_y", at) if "fl_y" in values else fx
    else:
        fx = 0.5 * width / math.tan(0.5 * number(values, "camera_angle_x", at))
        fy = (
            0.5 * height / math.tan(0.5 * number(values, "camera_angle_y", at))
            if "camera_angle_y" in values
            else fx
        )
    cx = number(values, "cx", at) if "cx" in values else width / 2
    cy = number(values, "cy", at) if "cy" in values else height / 2
    k = intrinsics(fx, fy, cx, cy, width, height)
    bends = {
        key: number(values, key, at) for key in ("k1", "k2", "p1", "p2", "k3") if values.get(key)
    }
    lens = Lens((k[0, 0], k[1, 1], k[0, 2], k[1, 2]), **bends) if bends else None
    return k, (width, height), lens
