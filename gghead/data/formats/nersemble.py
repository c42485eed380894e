"""NeRSemble v2 and its benchmark (Kirschstein et al. 2023).

Calibration, videos or extracted images, tracking.

Sources: tobias-kirschstein/nersemble-data and nersemble-benchmark (models/flame.py),
ShenhanQian/VHAP (data/nersemble_v2_dataset.py). ``<person>/calibration/camera_params.json``:
``world_2_cam`` per serial (4x4, OpenCV, meters) and ``intrinsics``, one 3x3 for images of
2200x3208, or one per serial for the benchmark's own size;
``<person>/sequences/<SEQ>/images/cam_<serial>.mp4`` (or ``cam_<serial>_<t>.jpg``) and
``alpha_maps`` likewise.

Without tracking the cameras are those of the rig: the head moves in them. The benchmark's
``tracking/flame2023_tracking_v2.npz`` takes FLAME's head (neck turned, no root) to the world by
scale * R x + t; then the cameras are relative to the head and frames have expressions. Test data of
the benchmark: the held-out cameras of its NVS task; for avatars every camera but the training one,
and the held-out sequences.
"""

import re

import numpy as np

from gghead.data.captures import Captures
from gghead.data.files import Source
from gghead.data.formats.assemble import Row, assemble, natural
from gghead.data.formats.flame import estimate_note, flame_placement, head_motion, neck_joints
from gghead.data.formats.geometry import (
    invert,
    matrix_intrinsics,
    place_by_cameras,
    relative_to_head,
)
from gghead.data.formats.parsing import ReadOptions, read_json, read_npz
from gghead.data.frame_images import probe_sizes
from gghead.data.json_values import array, entry, image_size, matrix
from gghead.data.video_frames import VideoFrames
from gghead.torch_utils.errors import UserError

CALIBRATION = "calibration/camera_params.json"
RAW_SIZE = (2200, 3208)
AVATAR_TRAIN_CAMERA = "222200037"
AVATAR_TEST_SEQUENCES = ("EMO-1", "FREE", "SEN-09", "SEN-10")
NVS_TEST_CAMERAS = ("222200046", "222200037", "222200039")
_FILE = re.compile(r"cam_(\w+?)(?:_(\d+))?\.(mp4|jpg|jpeg|png|webp)")


def looks_like(names: set[str], content: dict | None) -> bool:
    return any(name.endswith(CALIBRATION) for name in names)


def read(source: Source, options: ReadOptions) -> Captures:
    """Read all persons below the folder.

    Raises ``UserError`` as ``assemble``, and without PyAV for videos.
    """
    rows: list[Row] = []
    notes: list[str] = []
    people = [
        name.removesuffix(CALIBRATION) for name in source.names() if name.endswith(CALIBRATION)
    ]
    if not people:
        raise UserError(f"{source.path} has no person with {CALIBRATION}.")
    files: dict[tuple[str, str], list[str]] = {}
    for name in source.names():
        person, found, rest = name.partition("sequences/")
        if found and rest.count("/") >= 2:
            files.setdefault((person, rest.partition("/")[0]), []).append(name)
    for person in people:
        subject = person.rstrip("/").rpartition("/")[2] or source.path.resolve().name
        if options.subjects is None or subject in options.subjects:
            rows += _person(source, person, subject, files, options, notes)
    if not rows:
        raise UserError(
            f"{source.path} holds no images of these people, sequences and cameras; see its"
            " folders sequences/*/images for what there is."
        )
    if any(name.endswith("color_calibration.json") for name in source.names()):
        notes.append("The colors are those of the files; color_calibration.json is not applied.")
    return assemble(
        Captures,
        source,
        rows,
        options,
        format="nersemble",
        mask_kind="file",
        fps=None,
        notes=tuple(dict.fromkeys(notes)),
    )


def _person(
    source: Source, person: str, subject: str, files: dict, options: ReadOptions, notes: list[str]
) -> list[Row]:
    where = f"{person}{CALIBRATION} in {source.path}"
    content = read_json(source, person + CALIBRATION)
    extrinsics = entry(content, "world_2_cam", where)
    if not isinstance(extrinsics, dict) or not extrinsics:
        raise UserError(f"'world_2_cam' of {where} is not a table of cameras.")
    poses = {
        str(serial): invert(matrix(pose, f"'world_2_cam' of camera {serial} in {where}"))
        for serial, pose in extrinsics.items()
    }
    rows: list[Row] = []
    tracked: list[bool] = []
    for (owner, sequence), names in sorted(files.items(), key=lambda item: natural(item[0][1])):
        if owner == person and (
            options.moments is None or any(sequence == m.partition("/")[0] for m in options.moments)
        ):
            here = _sequence(
                source, f"{person}sequences/{sequence}/", sequence, names, poses, options
            )
            track = f"{person}sequences/{sequence}/tracking/flame2023_tracking_v2.npz"
            if track in names and here:
                _follow_head(source, track, here, options, notes)
            tracked += [track in names] * len(here)
            rows += here
    if any(tracked) and not all(tracked):
        raise UserError(
            f"Only some sequences of {subject} in {source.path} are tracked; choose by `moments`."
        )
    if not rows:
        return rows
    sizes = probe_sizes(
        source, [row.image for row in rows], [row.camera for row in rows], VideoFrames(source)
    )
    for row, size in zip(rows, sizes.tolist(), strict=True):
        row.subject = subject
        row.matrix, row.size = _matrix(content, row.camera, tuple(size), where)
        row.split = _split(str(source.path), row)
    if not any(tracked):
        rig = np.stack(list(poses.values()))
        matrices = np.stack([_matrix(content, serial, RAW_SIZE, where)[0] for serial in poses])
        placement = place_by_cameras(
            rig, matrices, f"person {subject} in {source.path}", options, 1.0
        )
        notes.append(
            "Without tracking the head moves in front of the rig, which is placed by its cameras."
        )
        for row, pose in zip(
            rows, placement.cameras(np.stack([row.cam2world for row in rows])), strict=True
        ):
            row.cam2world = pose
    return rows


def _sequence(
    source: Source,
    folder: str,
    sequence: str,
    names: list[str],
    poses: dict[str, np.ndarray],
    options: ReadOptions,
) -> list[Row]:
    rows = []
    have = set(names)
    for name in names:
        match = _FILE.fullmatch(name.removeprefix(f"{folder}images/"))
        if match is None or (options.cameras is not None and match[1] not in options.cameras):
            continue
        serial, step, suffix = match.groups()
        if serial not in poses:
            raise UserError(
                f"{name} in {source.path} is of camera {serial}, which {CALIBRATION} does not know."
            )
        video = suffix == "mp4"
        steps = range(VideoFrames(source).count(name)) if video else [int(step or 0)]
        mask = f"{folder}alpha_maps/{name.rpartition('/')[2]}"
        mask = mask if video else f"{mask.rpartition('.')[0]}.png"
        for at in steps:
            end = f"#{at}" if video else ""
            rows.append(
                Row(
                    name + end,
                    poses[serial],
                    np.eye(3),
                    mask=mask + end if mask in have else None,
                    camera=serial,
                    clip=sequence,
                    number=at,
                    moment=f"{sequence}/{at:05d}",
                )
            )
    return rows


def _follow_head(
    source: Source, track: str, rows: list[Row], options: ReadOptions, notes: list[str]
) -> None:
    """Move the tracked motion into the cameras; frames without tracking are left out."""
    where = f"{track} in {source.path}"
    data = read_npz(source, track)
    count = len(entry(data, "translation", where))
    turn = array(
        entry(data, "rotation_matrices", where), (count, 3, 3), f"'rotation_matrices' of {where}"
    )
    shift = array(data["translation"], (count, 3), f"'translation' of {where}")
    scale = array(entry(data, "scale", where), (1, 1), f"'scale' of {where}")[0, 0]
    named = {
        key: array(entry(data, key, where), (count, None), f"'{key}' of {where}")
        for key in ("expression", "neck", "jaw", "eyes")
    }
    shape = array(entry(data, "shape", where), (1, None), f"'shape' of {where}")[0]
    steps = array(entry(data, "frames", where), (count,), f"'frames' of {where}").astype(int)
    joints, exact = neck_joints(options, shape)
    still = np.zeros((count, 3))
    motion = head_motion(still, still, named["neck"], joints)
    if not exact:
        notes += estimate_note(motion, where)
    world = np.tile(np.eye(4), (count, 1, 1))
    world[:, :3, :3], world[:, :3, 3] = scale * turn, shift
    motion = world @ motion
    at = {step: index for index, step in enumerate(steps.tolist())}
    untracked = len(rows)
    rows[:] = [row for row in rows if row.number in at]
    if untracked != len(rows):
        notes.append(
            f"{untracked - len(rows)} images of {where} have no tracking and are left out."
        )
    if not rows:
        return
    chosen = [at[row.number] for row in rows]
    cameras = relative_to_head(np.stack([row.cam2world for row in rows]), motion[chosen])
    for row, index, camera in zip(
        rows, chosen, flame_placement(options).cameras(cameras), strict=True
    ):
        row.cam2world, row.coefficients = camera, named["expression"][index]
        row.extras = {key: named[key][index] for key in ("neck", "jaw", "eyes")}


def _matrix(
    content: dict, serial: str, size: tuple[int, int], where: str
) -> tuple[np.ndarray, tuple[int, int]]:
    """Intrinsics divided by the size they belong to, and that size."""
    values = entry(content, "intrinsics", where)
    if isinstance(values, dict):
        if serial not in values:
            raise UserError(f"{where} has no intrinsics of camera {serial}.")
        values = values[serial]
    else:
        known = {"width": RAW_SIZE[0], "height": RAW_SIZE[1], **content}
        size = image_size(known, where, ("width", "height"))
    what = f"The intrinsics of camera {serial} in {where}"
    return matrix_intrinsics(array(values, (3, 3), what), *size, what), size


def _split(path: str, row: Row) -> str | None:
    if "mono_flame_avatar" in path or row.coefficients is not None:
        held_out = any(f"{row.clip}-".startswith(f"{name}-") for name in AVATAR_TEST_SEQUENCES)
        return "test" if row.camera != AVATAR_TRAIN_CAMERA or held_out else "train"
    if "nvs" in path.replace("\\", "/").split("/"):
        return "test" if row.camera in NVS_TEST_CAMERAS else "train"
    return None
