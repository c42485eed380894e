"""dataset_tool.py check: faults of cameras, alone and against the images."""

import numpy as np
import pytest
import torch
from helpers.checked_set import (
    COUNT,
    FLIP,
    SIZE,
    Set,
    check,
    healthy_set,
    only,
    pose_of,
    poses,
    with_pose,
)
from PIL import Image

from gghead.cameras import Cameras
from gghead.data.check import check_cameras
from gghead.data.dataset_zip import image_name
from gghead.data.zip_writer import encode_png


@pytest.fixture
def healthy():
    return healthy_set()


@pytest.fixture
def data(healthy):
    return Set(healthy)


# ------------------------------------------------------------------------------------------ cameras
def transposed_rotation(pose):
    pose = pose.copy()
    pose[:, :3, :3] = pose[:, :3, :3].transpose(0, 2, 1)
    return pose


Z_UP = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
BEHIND = np.diag([-1.0, 1.0, -1.0, 1.0])
AXES = {
    "opengl-axes": lambda pose: pose @ FLIP,
    "world-to-camera": np.linalg.inv,
    "world-to-camera-opengl": lambda pose: FLIP @ np.linalg.inv(pose),
    "transposed-rotation": transposed_rotation,
    "transposed": lambda pose: pose.transpose(0, 2, 1),
    "z-up": lambda pose: Z_UP @ pose,
    "z-up-opengl": lambda pose: Z_UP @ pose @ FLIP,
    "upside-down": lambda pose: FLIP @ pose,
    "from-behind": lambda pose: BEHIND @ pose,
    "rotation": (
        lambda pose: (
            pose * [[1.1, 1.1, 1.1, 1], [1.1, 1.1, 1.1, 1], [1.1, 1.1, 1.1, 1], [1, 1, 1, 1]]
        )
    ),
    "handedness": lambda pose: pose * [[-1], [1], [1], [1]],
}


@pytest.mark.parametrize("spread", [0.17, 0.35, 1.2])
@pytest.mark.parametrize("code", AXES)
def test_axes_are_told_apart_however_wide_the_poses(code, spread):
    rows = poses(400, 3, spread)
    assert check_cameras(rows, [str(i) for i in range(400)])[0] == []
    findings, usable = check_cameras(
        with_pose(rows, AXES[code](pose_of(rows))), [str(i) for i in range(400)]
    )
    if (code, spread) == ("from-behind", 1.2):
        return  # half of such a set sees the head from either side anyway
    assert [found.code for found in findings] == [code] and findings[0].count >= 390
    assert code == "from-behind" or usable.sum() <= 10


@pytest.mark.parametrize("code", AXES)
def test_mixed_up_axes_are_named_in_a_zip(data, tmp_path, code):
    rows = data.array()
    data.relabel(with_pose(rows, AXES[code](pose_of(rows))))
    only(check(data, tmp_path, fast=code not in ("opengl-axes", "from-behind")), code)


def test_a_few_cameras_in_opengl_axes_among_right_ones(data, tmp_path):
    rows = data.array()
    data.relabel(with_pose(rows, pose_of(rows) @ FLIP), which=range(5))
    assert only(check(data, tmp_path), "opengl-axes", 5).files == [image_name(i) for i in range(5)]


def scaled(rows, position=1.0, focal=1.0):
    rows = rows.copy()
    rows[:, [3, 7, 11]] *= position
    rows[:, [16, 20]] *= focal
    return rows


@pytest.mark.parametrize(
    ("code", "change", "mention"),
    [
        ("units", lambda rows: scaled(rows, 373), "millimeters"),
        ("units", lambda rows: scaled(rows, 37.3), "centimeters"),
        ("units", lambda rows: scaled(rows, 0.373), "meters"),
        ("framing", lambda rows: scaled(rows, 1, 0.1), "0.1 times as high"),
        ("silhouette-scale", lambda rows: scaled(rows, 1, 0.6), "1.5"),
        ("silhouette-scale", lambda rows: scaled(rows, 1, 1.7), "0.51"),
    ],
)
def test_sizes_that_do_not_belong_together(data, tmp_path, code, change, mention):
    data.relabel(change(data.array()))
    assert mention in only(check(data, tmp_path), code).sentence()


def test_tight_crops_are_worth_a_warning_only(data, tmp_path):
    data.masks = {}
    data.relabel(scaled(data.array(), 1, 2.0))
    only(check(data, tmp_path, fast=True), "framing", COUNT, "warning")


def test_the_diagonal_field_of_view(data, tmp_path):
    data.masks = {}
    data.relabel(scaled(data.array(), 1, 3.0143 / 4.2647))
    only(check(data, tmp_path), "focal-diagonal", COUNT)


def test_intrinsics_in_pixels_and_of_uncropped_photos(data, tmp_path):
    rows = data.array()
    rows[:, [16, 18, 20, 21]] *= 512
    rows[:, 21] = 256
    data.relabel(rows)
    only(check(data, tmp_path), "pixels", COUNT)
    rows = data.array()
    rows[:, [16, 18, 20, 21]] /= 512
    rows[:, 21] = 0.5
    rows[:, 16] *= 1.1
    data.relabel(rows)
    only(check(data, tmp_path), "intrinsics", COUNT)


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("not-finite", lambda row: [float("nan"), *row[1:]]),
        ("layout", lambda row: [*row[:12], 1, 2, 3, 4, *row[16:]]),
        ("focal-sign", lambda row: [*row[:16], -row[16], *row[17:]]),
        ("label-size", lambda row: row[:16]),
        ("radius-outlier", lambda row: scaled(np.array([row]), 1.6)[0].tolist()),
    ],
)
def test_single_bad_labels_are_named(data, tmp_path, code, change):
    name = image_name(7)
    data.labels[name] = change(data.labels[name])
    if code == "radius-outlier":
        data.masks = {}
    assert only(check(data, tmp_path), code, 1).files == [name]
    if code == "label-size":
        assert "16 numbers" in check(data, tmp_path).findings[0].sentence()


def test_cameras_that_miss_the_head(data, tmp_path):
    rows = data.array()
    turn = np.eye(4)
    turn[:3, :3] = Cameras.orbit(0.0, 0.9).cam2world[0, :3, :3].double().numpy() @ FLIP[:3, :3]
    data.relabel(with_pose(rows, pose_of(rows) @ turn), which=[3])
    only(check(data, tmp_path), "aim", 1, "warning")
    data.relabel(with_pose(rows, pose_of(rows) @ turn), which=range(20))
    only(check(data, tmp_path), "aim", 20, "error")


def test_one_camera_for_all(data, tmp_path):
    data.masks = {}
    data.relabel(np.repeat(data.array()[:1], COUNT, 0))
    only(check(data, tmp_path), "one-camera", COUNT)


# ------------------------------------------------------------------------- cameras against images
def mirrored(rows):
    return Cameras.from_label(torch.tensor(rows)).mirror().label().numpy()


def test_mirrored_poses_show_in_the_masks(data, tmp_path):
    data.relabel(mirrored(data.array()))
    only(check(data, tmp_path), "mirrored-poses")


def flipped(png):
    import io

    return encode_png(np.ascontiguousarray(np.asarray(Image.open(io.BytesIO(png)))[:, ::-1]))


@pytest.mark.parametrize("correct", [True, False])
def test_flipped_images_need_flipped_cameras(data, tmp_path, correct):
    rows = data.array()
    data.masks = {}
    for i in range(COUNT):
        name = image_name(COUNT + i)
        data.files[name] = flipped(data.files[image_name(i)])
        data.labels[name] = (mirrored(rows) if correct else rows)[i].tolist()
    report = check(data, tmp_path)
    if correct:
        assert report.findings == []
    else:
        turned = int((Cameras.from_label(torch.tensor(rows)).angles()[0].rad2deg().abs() > 3).sum())
        assert 0.6 * turned < only(report, "mirrored-pairs").count <= COUNT


def test_slipped_labels_show_in_the_masks(data, tmp_path):
    data.relabel(np.roll(data.array(), 1, 0))
    found = only(check(data, tmp_path), "slipped")
    assert "offset 1" in found.sentence()


def test_masks_elsewhere(data, tmp_path):
    corner = np.zeros((SIZE, SIZE), np.uint8)
    corner[:10, :8] = 255
    for name in data.masks:
        data.masks[name] = encode_png(corner)
    only(check(data, tmp_path), "silhouette", COUNT)


def test_one_odd_mask(data, tmp_path):
    corner = np.zeros((SIZE, SIZE), np.uint8)
    corner[:10, :8] = 255
    data.masks[image_name(5)] = encode_png(corner)
    assert only(check(data, tmp_path), "silhouette-outlier", 1).files == [image_name(5)]


def test_inverted_masks(data, tmp_path, healthy):
    for i in range(COUNT):
        data.masks[image_name(i)] = encode_png(255 - healthy[1][i])
    assert only(check(data, tmp_path), "mask-inverted").count > 0.9 * COUNT
