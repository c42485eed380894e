"""VHAP exports as GaussianAvatars reads them.

``transforms*.json``, ``images``, ``fg_masks``, ``flame_param``.

Source: ShenhanQian/VHAP, vhap/export_as_nerf_dataset.py and vhap/model/flame.py. Poses are camera-
to-world with OpenGL axes; every time step has FLAME's parameters in meters: ``translation``,
``rotation``, ``neck_pose``, ``jaw_pose``, ``eyes_pose`` (axis times angle), ``shape``, ``expr``.
The motion of the head (root rotation and translation, and the neck's, since the head hangs on the
neck joint) is moved into the camera. Splits are the files ``transforms_train.json``, ``_val``
(held-out camera) and ``_test`` (held-out time steps). Files of unions of sequences point to folders
beside their own by ``../``.
"""

import numpy as np

from gghead.data.captures import TrackedSequence
from gghead.data.files import FolderSource, Source, open_source
from gghead.data.formats.assemble import Row, assemble
from gghead.data.formats.flame import estimate_note, flame_placement, head_motion, neck_joints
from gghead.data.formats.geometry import from_opengl, intrinsics, relative_to_head
from gghead.data.formats.parsing import ReadOptions, member, read_json, read_npz
from gghead.data.json_values import array, entry, frame_list, image_size, matrix, number
from gghead.torch_utils.errors import UserError

_POSES = (("rotation", 3), ("translation", 3), ("neck_pose", 3), ("jaw_pose", 3), ("eyes_pose", 6))


def looks_like(names: set[str], content: dict | None) -> bool:
    return content is not None and bool(
        {"flame_param_path", "timestep_index"} & set(content["frames"][0])
    )


def read(source: Source, options: ReadOptions) -> TrackedSequence:
    """Read an exported sequence of one person, all cameras.

    See ``assemble`` for what is refused.
    """
    names = set(source.names())
    files = [(f"transforms_{split}.json", split) for split in ("train", "val", "test")]
    files = [(name, split) for name, split in files if name in names] or [("transforms.json", None)]
    frames = [
        (frame, split, f"frame {index} of {name} in {source.path}")
        for name, split in files
        for index, frame in enumerate(_frames(source, name))
    ]
    if not frames:
        raise UserError(f"{source.path} has no frames in {', '.join(name for name, _ in files)}.")
    base = ""
    if any(str(frame.get("file_path", "")).startswith("../") for frame, _, _ in frames):
        if not isinstance(source, FolderSource):
            raise UserError(
                f"The frames of {source.path} lie outside the zip; unpack it beside its sequences."
            )
        base, source = source.path.resolve().name, open_source(source.path.resolve().parent)
    parameters: dict[str, dict[str, np.ndarray]] = {}
    rows = []
    for frame, split, at in frames:
        if "flame_param_path" not in frame:
            raise UserError(
                f"{at} has no flame_param_path; export FLAME parameters, not meshes (VHAP's mode"
                " 'param')."
            )
        path = member(frame["flame_param_path"], base)
        if path not in parameters:
            parameters[path] = _parameters(source, path)
        flame = parameters[path]
        width, height = image_size(frame, at)
        step, camera = (
            int(number(frame, "timestep_index", at)),
            int(number(frame, "camera_index", at)),
        )
        fx, fy, cx, cy = (number(frame, key, at) for key in ("fl_x", "fl_y", "cx", "cy"))
        mask = frame.get("fg_mask_path")
        rows.append(
            Row(
                member(entry(frame, "file_path", at), base),
                from_opengl(matrix(entry(frame, "transform_matrix", at), f"The pose of {at}")),
                intrinsics(fx, fy, cx, cy, width, height),
                (int(width), int(height)),
                member(mask, base) if mask else None,
                camera=str(camera),
                number=step,
                moment=f"{step:05d}",
                coefficients=flame["expr"],
                split=split,
                extras={
                    "neck": flame["neck_pose"],
                    "jaw": flame["jaw_pose"],
                    "eyes": flame["eyes_pose"],
                },
            )
        )
    used = [parameters[member(frame["flame_param_path"], base)] for frame, _, _ in frames]
    joints, exact = neck_joints(options, used[0]["shape"])
    rotation, translation, neck = (
        np.stack([flame[key] for flame in used]) for key in ("rotation", "translation", "neck_pose")
    )
    motion = head_motion(rotation, translation, neck, joints)
    poses = relative_to_head(np.stack([row.cam2world for row in rows]), motion)
    for row, pose in zip(rows, flame_placement(options).cameras(poses), strict=True):
        row.cam2world = pose
    return assemble(
        TrackedSequence,
        source,
        rows,
        options,
        format="vhap",
        mask_kind="file",
        notes=() if exact else estimate_note(motion, str(source.path)),
    )


def _frames(source: Source, name: str) -> list[dict]:
    """The frames of a file; with one camera ``transforms_val.json`` has none."""
    content = read_json(source, name)
    return (
        []
        if isinstance(content, dict) and content.get("frames") == []
        else frame_list(content, f"{name} in {source.path}")
    )


def _parameters(source: Source, path: str) -> dict[str, np.ndarray]:
    where = f"{path} in {source.path}"
    content = read_npz(source, path)
    values = {
        key: array(entry(content, key, where), (1, width), f"'{key}' of {where}")[0]
        for key, width in _POSES
    }
    values["expr"] = array(entry(content, "expr", where), (1, None), f"'expr' of {where}")[0]
    values["shape"] = array(entry(content, "shape", where), (None,), f"'shape' of {where}")
    return values
