"""IMavatar (Zheng et al. 2022) and PointAvatar (2023).

``<clip>/flame_params.json``, ``<clip>/image``, ``<clip>/mask``.

Source: zhengyuf/PointAvatar, code/datasets/real_dataset.py and code/flame/FLAME.py. FLAME is scaled
by 4 and stands in a world that ``world_mat`` (rotation the identity) takes to a camera with x
right, y up and the scene at negative z; the ``intrinsics`` fx, fy, cx, cy are divided by the
image size, fx is negative, and a point P of the camera is seen at u = cx + fx P.x / P.z, v = cy +
fy P.y / P.z. The camera stands still and the head's motion is in FLAME's pose (``pose``: root,
neck, jaw, two eyes, as axis times angle); here it is moved into the camera. Test clips are MVI_1812
(subject 1), MVI_1802 (subject 2) and ``test`` (subject 3).
"""

import numpy as np

from gghead.data.captures import TrackedSequence
from gghead.data.files import Source
from gghead.data.formats.assemble import Row, assemble, by_clip
from gghead.data.formats.flame import estimate_note, flame_placement, head_motion, neck_joints
from gghead.data.formats.geometry import from_opengl, invert, relative_to_head
from gghead.data.formats.parsing import ReadOptions, member, read_json
from gghead.data.json_values import array, entry, frame_list, matrix
from gghead.torch_utils.errors import UserError

FLAME_SCALE = 4.0
TEST_CLIPS = ("MVI_1812", "MVI_1802", "test")


def looks_like(names: set[str], content: dict | None) -> bool:
    return any(name.rpartition("/")[2] == "flame_params.json" for name in names)


def read(source: Source, options: ReadOptions) -> TrackedSequence:
    """Read one subject with all clips below the folder; see ``assemble`` for what is refused."""
    files = [name for name in source.names() if name.rpartition("/")[2] == "flame_params.json"]
    if not files:
        raise UserError(f"{source.path} has no flame_params.json; give the folder of one subject.")
    rows: list[Row] = []
    notes: list[str] = []
    for file in files:
        rows += _clip(source, file, options, notes)
    note = by_clip(rows, TEST_CLIPS, options)
    return assemble(
        TrackedSequence,
        source,
        rows,
        options,
        format="imavatar",
        mask_kind="file",
        notes=(*dict.fromkeys(notes), *([note] if note else [])),
    )


def _clip(source: Source, file: str, options: ReadOptions, notes: list[str]) -> list[Row]:
    where = f"{file} in {source.path}"
    folder = file.rpartition("/")[0]
    content = read_json(source, file)
    frames = frame_list(content, where)
    fx, fy, cx, cy = array(entry(content, "intrinsics", where), (4,), f"'intrinsics' of {where}")
    if not (fx < 0 < fy):
        raise UserError(
            f"'intrinsics' of {where} must have a negative fx and a positive fy, as IMavatar's"
            f" have; they are {fx:g} and {fy:g}."
        )
    k = np.array([[-fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
    shape = array(entry(content, "shape_params", where), (None,), f"'shape_params' of {where}")
    still = np.stack(
        [
            matrix(
                entry(frame, "world_mat", f"frame {i} of {where}"),
                f"'world_mat' of frame {i} of {where}",
            )
            for i, frame in enumerate(frames)
        ]
    )
    pose = np.stack(
        [
            array(
                entry(frame, "pose", f"frame {i} of {where}"),
                (15,),
                f"'pose' of frame {i} of {where}",
            )
            for i, frame in enumerate(frames)
        ]
    )
    still[:, :3, 3] /= FLAME_SCALE  # to meters; dividing the scene by 4 leaves the image as it is
    joints, exact = neck_joints(options, shape)
    motion = head_motion(pose[:, :3], np.zeros((len(pose), 3)), pose[:, 3:6], joints)
    if not exact:
        notes += estimate_note(motion, str(source.path))
    cameras = flame_placement(options).cameras(relative_to_head(from_opengl(invert(still)), motion))
    clip = folder.rpartition("/")[2]
    rows = []
    for index, (frame, camera, angles) in enumerate(zip(frames, cameras, pose, strict=True)):
        at = f"frame {index} of {where}"
        stem = member(entry(frame, "file_path", at)).rpartition("/")[2]
        if not stem.isdecimal():
            raise UserError(
                f"'file_path' of {at} must end in the frame's number, but it is"
                f" {frame['file_path']!r}."
            )
        base = f"{folder}/" if folder else ""
        rows.append(
            Row(
                f"{base}image/{stem}.png",
                camera,
                k,
                mask=f"{base}mask/{stem}.png",
                clip=clip,
                number=int(stem),
                moment=f"{clip}/{int(stem):05d}",
                coefficients=entry(frame, "expression", at),
                extras={"neck": angles[3:6], "jaw": angles[6:9], "eyes": angles[9:]},
            )
        )
    return rows
