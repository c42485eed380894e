"""dataset.json: one module alone knows its form, reads it strictly and writes what it reads."""

import ast
import json

import pytest
from helpers.places import ROOT

from gghead.cameras import Cameras
from gghead.data.dataset_zip import (
    DATASET_JSON,
    DatasetInfo,
    DatasetWriter,
    FrameRecord,
    mask_name,
    read_info,
)
from gghead.data.files import open_source
from gghead.torch_utils.errors import UserError

LABEL = Cameras.orbit(0.1, 0.2).label()[0].tolist()
RECORD = {
    "file": "a.png",
    "mask": "masks/a.png.mask",
    "source": "imgs/0.png",
    "subject": 3,
    "expression_id": "smile",
    "camera": "c07",
    "frame": 5,
    "split": "test",
    "expression": [0.5, -1.0],
    "extras": {"jaw": [0.1, 0.2, 0.3]},
    "yaw": 12.5,
}
CONTENT = {
    "labels": [["a.png", LABEL]],
    "masks": {"a.png": "masks/a.png.mask"},
    "kind": "sequence",
    "version": 1,
    "format": "insta",
    "splits": ["train", "test"],
    "expression_names": ["smile", "frown"],
    "fps": 25.0,
    "notes": ["One frame was left out."],
    "uv": {"a.png": "uv/a.npy"},
    "frames": [RECORD],
}


def parse(**changes):
    content = {**CONTENT, **changes}
    return DatasetInfo.parse(json.dumps(content).encode(), "x.zip")


def test_only_one_module_knows_the_name_of_dataset_json():
    """The rule: who needs something of dataset.json asks ``gghead.data.dataset_zip`` for it; other
    modules may name the file in sentences only."""
    paths = [
        path
        for folder in ("gghead", "training", "torch_utils", "scripts", "datasets")
        for path in (ROOT / folder).rglob("*.py")
        if path != ROOT / "gghead" / "data" / "dataset_zip.py"
    ]
    offenders = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in paths
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str | bytes)
        and str(node.value).strip("/'b").endswith(("dataset.json", r"dataset\.json"))
        and " " not in str(node.value)
    ]
    assert len(paths) > 100 and not offenders, "use DATASET_JSON, read_info or DatasetInfo"


def test_what_is_parsed_is_serialized_again():
    info = parse()
    written = json.loads(info.serialize())
    assert written["labels"][0][1] == pytest.approx(LABEL, abs=1e-7)
    assert {**written, "labels": CONTENT["labels"]} == CONTENT
    assert info.frames[0].content() == RECORD
    assert info.record("a.png").other == {"yaw": 12.5} and info.record("b.png").file == "b.png"
    assert info.files() == {"masks/a.png.mask", "uv/a.npy"}


def test_masks_come_from_their_table_or_else_from_the_frames():
    assert parse(masks=None).masks == {"a.png": "masks/a.png.mask"}
    assert parse(masks={"a.png": "other.mask"}).masks == {"a.png": "other.mask"}
    assert parse(masks=None, frames=None).masks == {}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"version": 2}, "is of version 2, but version 1 is read"),
        ({"kind": "film"}, "must be captures or sequence, but it is 'film'"),
        ({"fps": "fast"}, "'fps' of dataset.json in x.zip must be one number"),
        ({"masks": ["a"]}, "no table from image names to mask"),
        ({"notes": "one"}, "'notes' of .* must be a list"),
        ({"splits": [[]]}, "An entry of 'splits' of .* must be a name"),
        ({"labels": []}, "x.zip is unlabeled"),
        ({"labels": [["a.png"]]}, "no list of .name, numbers. pairs"),
    ],
)
def test_a_key_of_another_form_is_named(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        parse(**changes)


@pytest.mark.parametrize(
    ("frames", "sentence"),
    [
        ({"a": 1}, "'frames' of dataset.json in x.zip is not a list of frames"),
        (["a"], "is not a list of frames"),
        ([{"subject": "me"}], "has no 'file'"),
        ([{"file": "a.png", "camera": {}}], "'camera' of a.png in .* must be a name"),
        ([{"file": "a.png", "frame": "one"}], "'frame' of a.png in"),
        ([{"file": "a.png", "extras": [1]}], "'extras' of a.png in .* is not a table"),
    ],
)
def test_a_wrong_frame_is_named_when_frames_are_read(frames, sentence):
    info = parse(frames=frames)
    with pytest.raises(UserError, match=sentence):
        info.record("a.png")


def test_the_writer_gives_records_the_names_of_its_own_files(tmp_path):
    with DatasetWriter(tmp_path / "a.zip") as writer:
        old = FrameRecord("old.png", mask="old.mask", subject="me")
        writer.add("new.png", b"image", LABEL, b"mask", old)
        writer.add("bare.png", b"image", LABEL, None, old)
        writer.describe(kind="captures", notes=("A note.",))
    source = open_source(tmp_path / "a.zip")
    info = read_info(source)
    assert info.record("new.png") == FrameRecord("new.png", mask_name("new.png"), subject="me")
    assert info.record("bare.png") == FrameRecord("bare.png", subject="me")
    assert (info.kind, info.notes) == ("captures", ("A note.",))
    assert json.loads(source.read(DATASET_JSON))["version"] == 1
    source.close()
