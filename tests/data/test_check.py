"""dataset_tool.py check: faults of files and masks, shards, the sheet and the command."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from helpers.checked_set import (
    COUNT,
    FLIP,
    SIZE,
    Set,
    check,
    head_mask,
    healthy_set,
    only,
    pose_of,
    with_pose,
)
from PIL import Image

from gghead.cameras import Cameras
from gghead.cli.dataset_tool import main
from gghead.data.check import FAULTS, check_dataset
from gghead.data.check.sheet import contact_sheet, overlay
from gghead.data.dataset_zip import DatasetWriter, image_name, mask_name
from gghead.data.shard_writer import write_shards
from gghead.data.zip_writer import encode_png
from gghead.torch_utils.errors import UserError


@pytest.fixture
def healthy():
    return healthy_set()


@pytest.fixture
def data(healthy):
    return Set(healthy)


@pytest.mark.parametrize("fast", [False, True])
def test_a_healthy_set_has_no_faults(data, tmp_path, fast):
    report = check(data, tmp_path, fast=fast)
    assert report.ok and report.findings == [] and len(report.names) == COUNT
    figures = report.as_dict()
    assert figures["radius"]["median"] == pytest.approx(2.7) and figures["masks"] == COUNT
    assert bool(report.not_checked) == fast
    if not fast:
        assert figures["silhouette_iou"]["median"] > 0.9


# -------------------------------------------------------------------------------------------- files
def test_unlabeled_missing_and_extra_files(data, tmp_path):
    saved = dict(data.labels)
    del data.labels[image_name(3)], data.masks[image_name(3)]
    assert only(check(data, tmp_path), "unlabeled", 1).files == [image_name(3)]
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
        assert {found.code for found in check(data, tmp_path).findings} == {
            "not-square",
            "mask-size",
        }


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
    data.masks[image_name(8)], data.labels[image_name(8)] = (
        data.masks[image_name(1)],
        data.labels[image_name(1)],
    )
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
    files = [Path(__file__).with_name(name) for name in ("test_check.py", "test_check_cameras.py")]
    source = "".join(file.read_text() for file in files)
    assert [code for code in FAULTS if f'"{code}"' not in source] == []


# --------------------------------------------------------------------------- shards, sheet, command
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
                writer.add(
                    image_name(i), data.files[image_name(i)], label, data.masks[image_name(i)]
                )
        data.files[image_name(30)] = data.files[image_name(1)]
    found = only(check_dataset(tmp_path / "set", masks=None), "duplicate-camera", 1)
    assert found.files == [f"s1/{image_name(30)}"]


@pytest.mark.parametrize("fast", [False, True])
def test_shards_with_and_without_masks(data, tmp_path, fast):
    """Such sets cannot be trained on, and the names of masks are not those of the set's first
    images."""
    (tmp_path / "set").mkdir()
    data.masks[image_name(30)] = encode_png(np.zeros((SIZE, SIZE), np.uint8))
    for shard in range(2):
        with DatasetWriter(tmp_path / "set" / f"s{shard}.zip") as writer:
            for i in range(24 * shard, 24 * shard + 24):
                writer.add(
                    image_name(i),
                    data.files[image_name(i)],
                    data.array()[i],
                    data.masks[image_name(i)] if shard else None,
                )
    found = {one.code: one.files for one in check_dataset(tmp_path / "set", fast=fast).findings}
    assert found.pop("mask-missing") == [f"s0/{image_name(i)}" for i in range(24)]
    assert found == ({} if fast else {"mask-empty": [mask_name(image_name(30))]})
    assert check_dataset(tmp_path / "set", masks=None, fast=fast).ok


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
    # outlines
    assert sheet.ndim == 3 and (np.abs(sheet.astype(int) - (0, 255, 255)).max(-1) < 90).sum() > 200
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
    codes = {
        found["code"]: found for found in json.loads((tmp_path / "r.json").read_text())["findings"]
    }
    assert set(codes) == {"opengl-axes", "undecodable"} and codes["opengl-axes"]["count"] == COUNT
    inside = CliRunner().invoke(main, ["check", str(path), "--fast=1", f"--outdir={path}"])
    assert inside.exit_code == 1 and "cannot be written" in inside.output
    gone = CliRunner().invoke(main, ["check", str(tmp_path / "none.zip")])
    assert gone.exit_code == 1 and "does not exist" in gone.output and gone.output.count("\n") == 1


def test_a_sheet_of_unusable_cameras_is_drawn_all_the_same(data, tmp_path, monkeypatch):
    monkeypatch.setattr("gghead.data.check.sheet.CELL", 48)
    data.relabel(np.full((COUNT, 25), np.nan))
    report = check_dataset(data.write(tmp_path / "a.zip"))
    assert contact_sheet(report).size[0] > 300
    only(report, "not-finite", COUNT)
