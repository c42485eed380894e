"""metrical-tracker (Zielon et al. 2022).

``checkpoint/00000.frame`` beside ``images/`` or ``input/``.

Source: Zielon/metrical-tracker, tracker.py. A ``.frame`` is what torch.save writes, a pickle, so it
is rebuilt without running it (``safe_pickle``). ``opencv`` holds R, t, K: world-to-camera with
OpenCV axes in FLAME's frame (meters), pixels; PyTorch3D makes them, so (0, 0) is the outer corner
of the first pixel. The head's motion is in them. Jaw and eyes are rotations by six numbers; here
they are axis times angle. GaussianBlendshapes and RGBAvatar use this layout (test frames: the last
350) and FlashAvatar a variant of it (``flashavatar``).
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from gghead.data.captures import TrackedSequence
from gghead.data.files import Source
from gghead.data.formats.assemble import Row, assemble, by_time
from gghead.data.formats.flame import flame_placement, rotation_6d_to_axis_angle
from gghead.data.formats.geometry import invert, matrix_intrinsics
from gghead.data.formats.parsing import ReadOptions, read_bytes
from gghead.data.formats.safe_pickle import load_torch_zip
from gghead.data.json_values import array, entry
from gghead.torch_utils.errors import UserError

TEST_FRAMES = 350
_IMAGES = ("images/{}.png", "images/{}.jpg", "input/{}.png", "input/{}.jpg")
_MASKS = ("image_mask/mask_{}.png", "image_mask/{}.png", "masks/{}.png")


def looks_like(names: set[str], content: dict | None) -> bool:
    return any(name.startswith("checkpoint/") and name.endswith(".frame") for name in names)


def read(source: Source, options: ReadOptions) -> TrackedSequence:
    """Read an actor's folder.

    Raises ``UserError`` as ``assemble``, and for a ``.frame`` that is not plain data.
    """
    names = set(source.names())
    rows, has_masks = rows_of_frames(
        source,
        "checkpoint/",
        lambda number, digits: next(
            (p.format(digits) for p in _IMAGES if p.format(digits) in names),
            _IMAGES[0].format(digits),
        ),
        lambda number, digits: next(
            (m.format(digits) for m in _MASKS if m.format(digits) in names), None
        ),
        options,
    )
    by_time(rows, TEST_FRAMES, options)
    return assemble(
        TrackedSequence,
        source,
        rows,
        options,
        format="metrical",
        fps=25.0,
        mask_kind="file" if has_masks else "embedded",
    )


def rows_of_frames(
    source: Source,
    folder: str,
    image: Callable[[int, str], str],  # (number, its digits) -> name
    mask: Callable[[int, str], str | None],
    options: ReadOptions,
) -> tuple[list[Row], bool]:
    """Rows of all ``.frame`` files of a folder, and whether any of them has a mask file."""
    files = [name for name in source.names() if name.startswith(folder) and name.endswith(".frame")]
    if not files:
        raise UserError(f"{source.path} has no {folder}*.frame of metrical-tracker.")
    rows, poses = [], []
    for file in files:
        where = f"{file} in {source.path}"
        digits = file.rpartition("/")[2].removesuffix(".frame")
        if not digits.isdecimal():
            raise UserError(f"{where} is not named after its frame's number, such as 00012.frame.")
        content = load_torch_zip(read_bytes(source, file), where)
        pose, matrix, size = _camera(content, where)
        flame = entry(content, "flame", where)
        poses.append(pose)
        rows.append(
            Row(
                image(int(digits), digits),
                pose,
                matrix,
                size,
                mask(int(digits), digits),
                number=int(digits),
                moment=digits,
                coefficients=array(entry(flame, "exp", where), (1, None), f"'exp' of {where}")[0],
                extras=_extras(flame, where),
            )
        )
    for row, pose in zip(rows, flame_placement(options).cameras(np.stack(poses)), strict=True):
        row.cam2world = pose
    return rows, any(row.mask is not None for row in rows)


def _camera(content: Any, where: str) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Camera-to-world in FLAME's frame, intrinsics divided by the image size, and that size."""
    opencv = entry(content, "opencv", where)
    height, width = array(entry(content, "img_size", where), (2,), f"'img_size' of {where}")
    if min(height, width) < 1:
        raise UserError(f"'img_size' of {where} is {height:g}x{width:g}.")
    pose = np.eye(4)
    pose[:3, :3] = array(entry(opencv, "R", where), (1, 3, 3), f"'R' of {where}")[0]
    pose[:3, 3] = array(entry(opencv, "t", where), (1, 3), f"'t' of {where}")[0]
    k = array(entry(opencv, "K", where), (1, 3, 3), f"'K' of {where}")[0]
    return (
        invert(pose),
        matrix_intrinsics(k, width, height, f"'K' of {where}"),
        (int(width), int(height)),
    )


def _extras(flame: dict, where: str) -> dict[str, np.ndarray]:
    extras = {}
    for key, width in (("jaw", 6), ("eyes", 12)):
        if key in flame:
            extras[key] = rotation_6d_to_axis_angle(
                array(flame[key], (1, width), f"'{key}' of {where}")
            )[0]
    if "eyelids" in flame:
        extras["eyelids"] = array(flame["eyelids"], (1, 2), f"'eyelids' of {where}")[0]
    return extras
