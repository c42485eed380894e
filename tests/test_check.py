"""dataset_tool.py check: every fault, put into a healthy set, is named, and nothing else is."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from gghead.cameras import Cameras
from gghead.cli.dataset_tool import main
from gghead.data.check import FAULTS, check_cameras, check_dataset
from gghead.data.check.sheet import contact_sheet, overlay
from gghead.data.check.silhouettes import project
from gghead.data.shard_writer import write_shards
from gghead.data.writer import DatasetWriter, encode_png, image_name
from gghead.template import load_template, rasterize_triangles
from torch_utils.errors import UserError

COUNT, SIZE = 48, 32
FLIP = np.diag([1.0, -1.0, -1.0, 1.0])


def poses(count=COUNT, seed=0, spread=0.35):
    random = np.random.RandomState(seed)
    yaw, pitch = random.normal(0, spread, count), random.normal(0, 0.12, count)
    return Cameras.orbit(torch.tensor(yaw), torch.tensor(pitch)).label().double().numpy()


def head_mask(label, size=SIZE):
    """The template's own outline."""
    template = load_template("head")
    xy, _ = project(template.vertices, label)
    face, _ = rasterize_triangles(xy * size, None, template.faces, size, size)
    return np.where(face >= 0, 255, 0).astype(np.uint8)


@pytest.fixture(scope="module")
def healthy():
    """Images, masks and labels of heads with the template's outline; each has its own slanted colours."""
    labels = poses()
    random = np.random.RandomState(1)
    ramp = np.linspace(-1, 1, SIZE)
    images, masks = [], []
    for label in labels:
        mask = head_mask(label)
        slope = random.uniform(-60, 60, (3, 2))
        color = 128 + slope[:, 0, None, None] * ramp[:, None] + slope[:, 1, None, None] * ramp + random.normal(0, 8)
        picture = np.where(mask[..., None] > 127, color.transpose(1, 2, 0), random.randint(0, 255, 3))
        images.append(np.clip(picture, 0, 255).astype(np.uint8))
        masks.append(mask)
    return images, masks, labels


class Set:
    """A set that tests change before it is written."""

    def __init__(self, healthy):
        images, masks, labels = healthy
        self.files = {image_name(i): encode_png(image) for i, image in enumerate(images)}
        self.masks = {image_name(i): encode_png(mask) for i, mask in enumerate(masks)}
        self.labels = {image_name(i): label.tolist() for i, label in enumerate(labels)}
        self.extra = {}

    def array(self):
        return np.array(list(self.labels.values()))

    def relabel(self, rows, which=None):
        for i, name in enumerate(list(self.labels)):
            if which is None or i in which:
                self.labels[name] = np.asarray(rows[i]).tolist()

    def write(self, path):
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in self.files.items():
                archive.writestr(name, data)
            for name, data in self.masks.items():
                archive.writestr(f"masks/{name}", data)
            for name, data in self.extra.items():
                archive.writestr(name, data)
            content = {"labels": list(self.labels.items()), "masks": {name: f"masks/{name}" for name in self.masks}}
            archive.writestr("dataset.json", json.dumps(content))
        return path


@pytest.fixture
def data(healthy):
    return Set(healthy)


def check(data, tmp_path, **options):
    report = check_dataset(data.write(tmp_path / "a.zip"), **options)
    report.close()
    return report


def only(report, code, count=None, severity=None):
    """Assert that exactly this fault was named."""
    assert [found.code for found in report.findings] == [code], [found.sentence() for found in report.findings]
    found = report.findings[0]
    if count is not None:
        assert found.count == count
    assert found.severity == (severity or FAULTS[code][0]) and report.ok == (found.severity == "warning")
    assert "Likely cause: " in found.sentence() and "Remedy: " in found.sentence() and "{" not in found.sentence()
    return found


@pytest.mark.parametrize("fast", [False, True])
def test_a_healthy_set_has_no_faults(data, tmp_path, fast):
    report = check(data, tmp_path, fast=fast)
    assert report.ok and report.findings == [] and len(report.names) == COUNT
    figures = report.as_dict()
    assert figures["radius"]["median"] == pytest.approx(2.7) and figures["masks"] == COUNT
    assert bool(report.not_checked) == fast
    if not fast:
        assert figures["silhouette_iou"]["median"] > 0.9


# --------------------------------------------------------------------------------------------------------- cameras
def pose_of(rows):
    return rows[:, :16].reshape(-1, 4, 4).copy()


def with_pose(rows, pose):
    return np.concatenate([np.asarray(pose).reshape(-1, 16), rows[:, 16:]], 1)


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
    "rotation": lambda pose: pose * [[1.1, 1.1, 1.1, 1], [1.1, 1.1, 1.1, 1], [1.1, 1.1, 1.1, 1], [1, 1, 1, 1]],
    "handedness": lambda pose: pose * [[-1], [1], [1], [1]],
}


@pytest.mark.parametrize("spread", [0.17, 0.35, 1.2])
@pytest.mark.parametrize("code", AXES)
def test_axes_are_told_apart_however_wide_the_poses(code, spread):
    rows = poses(400, 3, spread)
    assert check_cameras(rows, [str(i) for i in range(400)])[0] == []
    findings, usable = check_cameras(with_pose(rows, AXES[code](pose_of(rows))), [str(i) for i in range(400)])
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
        ("units", lambda rows: scaled(rows, 373), "millimetres"),
        ("units", lambda rows: scaled(rows, 37.3), "centimetres"),
        ("units", lambda rows: scaled(rows, 0.373), "metres"),
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


# ---------------------------------------------------------------------------------------- cameras against pictures
def mirrored(rows):
    return Cameras.from_label(torch.tensor(rows)).mirror().label().numpy()


def test_mirrored_poses_show_in_the_masks(data, tmp_path):
    data.relabel(mirrored(data.array()))
    only(check(data, tmp_path), "mirrored-poses")


def flipped(png):
    import io

    return encode_png(np.ascontiguousarray(np.asarray(Image.open(io.BytesIO(png)))[:, ::-1]))


@pytest.mark.parametrize("correct", [True, False])
def test_flipped_pictures_need_flipped_cameras(data, tmp_path, correct):
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


# ----------------------------------------------------------------------------------------------------------- files
def test_unlabelled_missing_and_extra_files(data, tmp_path):
    saved = dict(data.labels)
    del data.labels[image_name(3)], data.masks[image_name(3)]
    assert only(check(data, tmp_path), "unlabelled", 1).files == [image_name(3)]
    data.labels = {**saved, "lost.png": saved[image_name(0)]}
    data.masks[image_name(3)] = data.masks[image_name(4)]
    report = check(data, tmp_path, fast=True)
    assert only(report, "missing-image", 1).files == ["lost.png"]
    data.labels = saved
    data.extra = {"__MACOSX/._img00000000.png": b"\0\5\x16\7"}
    only(check(data, tmp_path), "resource-fork", 1)
    data.extra = {"thumbs.db": b"x", "README.md": b"fine", "LICENSE": b"fine"}
    assert only(check(data, tmp_path), "extra-file", 1).files == ["thumbs.db"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_stand_twice_in_the_zip(data, tmp_path):
    path = data.write(tmp_path / "a.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(image_name(2), data.files[image_name(2)])
    assert only(check_dataset(path), "repeated-name", 1).files == [image_name(2)]


def test_damaged_images_and_masks(data, tmp_path):
    data.files[image_name(4)] = data.files[image_name(4)][:200]
    data.masks[image_name(9)] = b"no image"
    found = only(check(data, tmp_path), "undecodable", 2)
    assert found.files == [image_name(4), f"masks/{image_name(9)}"]


@pytest.mark.parametrize("fast", [False, True])
def test_sizes(data, tmp_path, fast):
    data.files[image_name(6)] = encode_png(np.zeros((16, 16, 3), np.uint8))
    assert "16x16" in only(check(data, tmp_path, fast=fast), "mixed-size", 1).sentence()
    data.files[image_name(6)] = encode_png(np.zeros((16, 32, 3), np.uint8))
    if fast:
        assert "32x16" in only(check(data, tmp_path, fast=fast), "not-square", 1).sentence()
    else:  # its mask then has another shape, too
        assert {found.code for found in check(data, tmp_path).findings} == {"not-square", "mask-size"}


@pytest.mark.parametrize("fast", [False, True])
def test_repeated_images(data, tmp_path, fast):
    data.files[image_name(8)] = data.files[image_name(1)]
    data.masks[image_name(8)] = data.masks[image_name(1)]
    found = only(check(data, tmp_path, fast=fast), "duplicate-camera", 1)
    assert found.files == [image_name(8)]
    data.labels[image_name(8)] = data.labels[image_name(1)]
    only(check(data, tmp_path, fast=fast), "duplicate", 1)


def test_same_pixels_in_other_bytes_are_a_duplicate(data, tmp_path, healthy):
    data.files[image_name(8)] = encode_png(healthy[0][1], level=9)
    data.masks[image_name(8)], data.labels[image_name(8)] = data.masks[image_name(1)], data.labels[image_name(1)]
    assert data.files[image_name(8)] != data.files[image_name(1)]
    only(check(data, tmp_path), "duplicate", 1)


@pytest.mark.parametrize(
    ("code", "mask"),
    [
        ("mask-empty", np.zeros((SIZE, SIZE), np.uint8)),
        ("mask-full", np.full((SIZE, SIZE), 255, np.uint8)),
        ("mask-size", np.full((SIZE, SIZE + 8), 9, np.uint8)),
    ],
)
def test_bad_masks(data, tmp_path, code, mask):
    if code == "mask-size":
        mask[:, 4 : SIZE + 4] = head_mask(data.array()[2])
    data.masks[image_name(2)] = encode_png(mask)
    assert only(check(data, tmp_path), code, 1).files == [f"masks/{image_name(2)}"]


def test_missing_and_extra_masks(data, tmp_path):
    mask = data.masks.pop(image_name(2))
    only(check(data, tmp_path), "mask-missing", 1)
    masks, data.masks = {**data.masks, image_name(2): mask}, {}
    data.write(tmp_path / "b.zip")

    def separate(files):
        with zipfile.ZipFile(tmp_path / "b_masks_modnet.zip", "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        report = check_dataset(tmp_path / "b.zip")
        report.close()
        return report

    assert separate(masks).findings == []
    assert only(separate({**masks, "zzz.png": mask}), "mask-extra", 1).files == ["zzz.png"]
    del masks[image_name(5)]
    assert only(separate(masks), "mask-missing", 1).files == [image_name(5)]


def test_every_fault_has_its_test():
    source = Path(__file__).read_text()
    assert [code for code in FAULTS if f'"{code}"' not in source] == []


# ------------------------------------------------------------------------------------------ shards, sheet, command
def test_shards_are_checked_as_one_set(data, tmp_path):
    data.labels[image_name(7)][0] = float("nan")
    path = data.write(tmp_path / "a.zip")
    data.labels[image_name(7)][0] = data.labels[image_name(8)][0]
    with pytest.raises(UserError, match="img00000007"):
        write_shards(path, tmp_path / "set", "zip", 20)
    (tmp_path / "set").mkdir()
    for shard in range(2):
        with DatasetWriter(tmp_path / "set" / f"s{shard}.zip") as writer:
            for i in range(24 * shard, 24 * shard + 24):
                label = np.array(data.array()[i] if i != 7 else data.array()[8])
                writer.add(image_name(i), data.files[image_name(i)], label, data.masks[image_name(i)])
        data.files[image_name(30)] = data.files[image_name(1)]
    found = only(check_dataset(tmp_path / "set", masks=None), "duplicate-camera", 1)
    assert found.files == [f"s1/{image_name(30)}"]


def test_overlay_draws_the_template_where_the_camera_sees_it():
    label = Cameras.orbit(0.5, 0.1).label()[0].double().numpy()
    blank = np.full((64, 64, 3), 255, np.uint8)
    drawn = (overlay(blank, label) != 255).any(-1)
    inside = head_mask(label, 64) > 0
    grown = np.asarray(Image.fromarray(inside.astype(np.uint8) * 255).resize((64, 64))) > 0
    assert drawn.sum() > 200 and (drawn & ~grown).sum() < 0.1 * drawn.sum()
    away = label.copy()
    away[:16] = (label[:16].reshape(4, 4) @ FLIP).ravel()
    assert np.array_equal(overlay(blank, away), blank)


def test_command_writes_sheet_and_report_and_says_whether_to_train(data, tmp_path, monkeypatch):
    monkeypatch.setattr("gghead.data.check.sheet.CELL", 48)
    path = data.write(tmp_path / "heads.zip")
    result = CliRunner().invoke(main, ["check", str(path), f"--outdir={tmp_path / 'out'}"])
    assert result.exit_code == 0 and "Training may start." in result.output, result.output
    report = json.loads((tmp_path / "out" / "heads_check.json").read_text())
    assert report["ok"] and report["images"] == COUNT and report["findings"] == []
    with Image.open(tmp_path / "out" / "heads_check.png") as image:
        sheet = np.asarray(image)
    assert sheet.ndim == 3 and (np.abs(sheet.astype(int) - (0, 255, 255)).max(-1) < 90).sum() > 200  # outlines
    rows = data.array()
    data.relabel(with_pose(rows, pose_of(rows) @ FLIP))
    data.files[image_name(3)] = b"broken"
    data.write(path)
    options = [f"--sheet={tmp_path / 's.png'}", f"--report={tmp_path / 'r.json'}"]
    result = CliRunner().invoke(main, ["check", str(path), *options])
    assert result.exit_code == 1 and "2 kinds of errors" in result.output
    assert "opengl-axes" in result.output and "multiply columns 1 and 2" in result.output
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.size[0] > 300
    codes = {found["code"]: found for found in json.loads((tmp_path / "r.json").read_text())["findings"]}
    assert set(codes) == {"opengl-axes", "undecodable"} and codes["opengl-axes"]["count"] == COUNT
    gone = CliRunner().invoke(main, ["check", str(tmp_path / "none.zip")])
    assert gone.exit_code == 1 and "does not exist" in gone.output and gone.output.count("\n") == 1


def test_a_sheet_of_unusable_cameras_is_drawn_all_the_same(data, tmp_path, monkeypatch):
    monkeypatch.setattr("gghead.data.check.sheet.CELL", 48)
    data.relabel(np.full((COUNT, 25), np.nan))
    report = check_dataset(data.write(tmp_path / "a.zip"))
    assert contact_sheet(report).size[0] > 300
    only(report, "not-finite", COUNT)
