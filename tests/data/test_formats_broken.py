"""Broken data sets of other projects: every fault is one sentence, and nothing in a file is ever
run."""

import json
import os
import shutil

import helpers.foreign_captures as captures_of
import helpers.foreign_sequences as sequences_of
import numpy as np
import pytest
import torch
from helpers.examples import CAPTURES, SEQUENCES, edit

from gghead.data.formats import FORMATS, read
from gghead.data.formats.parsing import ReadOptions
from gghead.data.frames_zip import write_archive
from gghead.torch_utils.errors import UserError


def refused(match, folder, **options):
    with pytest.raises(UserError, match=match) as caught:
        read(folder, options=ReadOptions(**options))
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".")


JSON_FAULTS = {
    "pose of wrong size": (
        lambda c: c["frames"][2].update(transform_matrix=[[1, 0], [0, 1]]),
        "frame 2 .* 4x4 numbers",
    ),
    "ragged pose": (
        lambda c: c["frames"][1].update(transform_matrix=[[1, 0, 0, 0], [0, 1], [0], [1]]),
        "ragged",
    ),
    "pose of NaN": (
        lambda c: c["frames"][0]["transform_matrix"][0].__setitem__(3, float("nan")),
        "NaN",
    ),
    "mirrored pose": (
        lambda c: [row.__setitem__(0, -row[0]) for row in c["frames"][0]["transform_matrix"][:3]],
        "mirrors",
    ),
    "sheared pose": (
        lambda c: c["frames"][0]["transform_matrix"][0].__setitem__(0, 3.0),
        "no rotation",
    ),
    "no focal length": (lambda c: c.pop("fl_x"), "'fl_x'"),
    "focal length of text": (lambda c: c.update(fl_x="long"), "'fl_x'.*one number"),
    "negative focal length": (lambda c: c.update(fl_x=-5), "focal length that is not positive"),
    "no frames": (lambda c: c.update(frames=[]), "no known format|'frames'"),
    "frames of text": (lambda c: c.update(frames=["a"]), "no known format|'frames'"),
    "another aspect": (lambda c: c.update(w=200), "calibrated for images of 200x64"),
    "the same frame twice": (lambda c: c["frames"].append(c["frames"][0]), "comes more than once"),
}


@pytest.mark.parametrize("fault", JSON_FAULTS)
def test_json_with_wrong_content(fault, tmp_path):
    sequences_of.insta(tmp_path)
    change, sentence = JSON_FAULTS[fault]
    edit(tmp_path / "transforms.json", change)
    refused(sentence, tmp_path, test_frames=1)


def test_json_that_is_none(tmp_path):
    sequences_of.insta(tmp_path)
    (tmp_path / "transforms.json").write_text('{"frames": [')
    refused("not valid JSON", tmp_path)


def test_expressions_of_changing_length(tmp_path):
    sequences_of.insta(tmp_path)
    (tmp_path / "flame/exp/00003.txt").write_text("0.1 " * 99)
    refused("00003.png .* has 99 numbers, but that of .*00000.png has 100", tmp_path, test_frames=1)
    (tmp_path / "flame/exp/00003.txt").write_text("0.1 zwei")
    refused("00003.txt .* not a list of numbers", tmp_path, test_frames=1)
    (tmp_path / "flame/exp/00003.txt").unlink()
    refused("no flame/exp/00003.txt", tmp_path, test_frames=1)


def test_missing_images_are_named_or_left_out(tmp_path):
    sequences_of.insta(tmp_path)
    for number in (2, 3):
        (tmp_path / f"images/{number:05d}.png").unlink()
    refused(
        "2 files of the 6 frames .* missing, the first is images/00002.png.*`skip_missing=True`",
        tmp_path,
        test_frames=1,
    )
    frames = read(tmp_path, options=ReadOptions(skip_missing=True, test_frames=1))
    assert [frames.name(i)[-5] for i in range(4)] == ["0", "1", "4", "5"]
    assert "left out" in frames.notes[0] and "lacks 2 frames, the first after 1" in frames.notes[1]


def test_gaps_in_time_are_named(tmp_path):
    sequences_of.insta(tmp_path)
    edit(tmp_path / "transforms.json", lambda c: c["frames"].pop(4))
    refused("lacks 1 frame, the first after 3", tmp_path, test_frames=1)
    assert len(read(tmp_path, options=ReadOptions(skip_missing=True, test_frames=1))) == 5


def test_missing_masks_and_frames_of_other_formats(tmp_path):
    for name in ("imavatar", "flashavatar"):
        (tmp_path / name).mkdir()
        SEQUENCES[name][0](tmp_path / name)
    (tmp_path / "imavatar/MVI_1810/mask/2.png").unlink()
    refused("the first is MVI_1810/mask/2.png", tmp_path / "imavatar")
    shutil.rmtree(tmp_path / "flashavatar/dataset/ana/alpha")
    frames = read(tmp_path / "flashavatar", options=ReadOptions(test_frames=1))
    assert not frames.has_masks and "no masks" in frames.notes[0]
    (tmp_path / "flashavatar/dataset/ana/imgs/00004.jpg").unlink()
    refused("the first is dataset/ana/imgs/00004.jpg", tmp_path / "flashavatar", test_frames=1)


def test_other_faults_are_sentences(tmp_path):
    folders = {}
    for name, write in [*((n, w) for n, (w, _) in SEQUENCES.items()), *CAPTURES.items()]:
        folders[name] = tmp_path / name
        folders[name].mkdir()
        write(folders[name])
    refused(
        "flame.pkl does not exist; give FLAME's model file",
        folders["imavatar"],
        flame=tmp_path / "flame.pkl",
    )
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    refused("is no FLAME model", folders["imavatar"], flame=tmp_path / "other.npz")
    # six frames, of which 350 should be for testing
    refused("cannot be the test frames", folders["insta"])
    edit(
        folders["imavatar"] / "MVI_1810/flame_params.json",
        lambda c: c.update(intrinsics=[2, 2, 0.5, 0.5]),
    )
    refused("negative fx", folders["imavatar"])
    edit(
        folders["nerfstudio"] / "transforms.json", lambda c: c.update(camera_model="OPENCV_FISHEYE")
    )
    refused("OPENCV_FISHEYE", folders["nerfstudio"])
    edit(
        folders["nerfstudio"] / "transforms.json", lambda c: c.update(camera_model="OPENCV", k4=0.1)
    )
    refused("'k4'", folders["nerfstudio"])
    edit(folders["nerfstudio"] / "transforms.json", lambda c: c.update(k4=0, k1=80.0))
    refused("no distortion in OpenCV's convention", folders["nerfstudio"])
    edit(folders["facescape"] / "12/2_smile/params.json", lambda c: c["0_K"][0].__setitem__(1, 9.0))
    refused("skew", folders["facescape"])
    calibration = next(folders["ava256"].rglob("camera_calibration.json"))
    edit(calibration, lambda c: c["KRT"][0].update(distortion=[0.5, 0, 0, 0]))
    refused("camera 400 .*undistort", folders["ava256"])
    edit(calibration, lambda c: c["KRT"][0].update(K=[[1, 2], [3, 4]]))
    refused("'K' of camera 0 .* 3x3 numbers", folders["ava256"])
    params = folders["vhap"] / "flame_param/00002.npz"
    np.savez(params, rotation=np.zeros((1, 3)))
    refused("00002.npz .* has no 'translation'", folders["vhap"])
    np.savez(params, rotation=np.array([object()], dtype=object))
    refused("no readable npz of plain arrays", folders["vhap"])
    (tmp_path / "empty").mkdir()
    refused("no known format", tmp_path / "empty")
    refused("does not exist", tmp_path / "nowhere")
    with pytest.raises(UserError, match="no format 'instar'; choose one of"):
        read(folders["insta"], "instar")


def test_rigs_that_do_not_tell_where_the_head_is(tmp_path):
    captures_of.nerfstudio(tmp_path)
    good = json.loads((tmp_path / "transforms.json").read_text())

    def parallel(content):
        for index, frame in enumerate(content["frames"]):
            frame["transform_matrix"] = [
                [1, 0, 0, 0.1 * index],
                [0, 1, 0, 0],
                [0, 0, 1, 2],
                [0, 0, 0, 1],
            ]

    def all_around(content):
        for index, frame in enumerate(content["frames"]):
            pose = np.eye(4)
            pose[:3, :3] = captures_of.turn(60 * index)
            pose[:3, 3] = pose[:3, 2] * 2
            frame["transform_matrix"] = pose.tolist()

    edit(tmp_path / "transforms.json", parallel)
    refused("axes are parallel.*`world`", tmp_path)
    edit(tmp_path / "transforms.json", all_around)
    refused("stand all around; give `world`", tmp_path)
    assert (
        len(read(tmp_path, options=ReadOptions(world=tuple(map(tuple, np.eye(4).tolist()))))) == 6
    )
    (tmp_path / "transforms.json").write_text(json.dumps(good))
    small, large = (read(tmp_path, options=ReadOptions(scale=scale)) for scale in (1.0, 2.0))
    # The guessed center stays at our origin whatever the scale.
    torch.testing.assert_close(large.cameras.position, 2 * small.cameras.position)


JUNK = (
    None,
    "x",
    "",
    [],
    {},
    [[1]],
    -1,
    0,
    1e400,
    True,
    ["a"],
    [None],
    {"a": 1},
    "../../x",
    10**30,
)
JSON_FILES = {
    "insta": "transforms.json",
    "nerfblendshape": "transforms.json",
    "imavatar": "MVI_1810/flame_params.json",
    "vhap": "transforms_train.json",
    "nerfstudio": "transforms.json",
    "facelift": "opencv_cameras.json",
    "facescape": "12/2_smile/params.json",
    "nersemble": "037/calibration/camera_params.json",
    "ava256": "20210810--1306--ABC123/decoder/camera_calibration.json",
    "avatar": "transforms.json",
    "archive": "dataset.json",
}


def project_folder(name, folder):
    """The project's own two forms, made from an example of another."""
    if name == "archive":
        (folder / "from").mkdir()
        sequences_of.vhap(folder / "from")
        write_archive(read(folder / "from"), folder / "set.zip")
        shutil.unpack_archive(folder / "set.zip", folder)
        shutil.rmtree(folder / "from")
    else:
        sequences_of.insta(folder)

        def ours(content):
            for index, frame in enumerate(content["frames"]):
                frame |= {
                    "cam2world": frame["transform_matrix"],
                    "expression": [0.1] * 3,
                    "frame": index,
                    "split": "train",
                }
            content |= {"fps": 25, "expression_names": ["a", "b", "c"]}

        edit(folder / "transforms.json", ours)


def places(content, depth=0, at=()):
    """Where something can be put into a JSON content: keys, and the first two entries of lists."""
    yield at
    inner = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content[:2])
        if isinstance(content, list)
        else ()
    )
    for key, value in inner if depth < 5 else ():
        yield from places(value, depth + 1, (*at, key))


@pytest.mark.parametrize("name", JSON_FILES)
def test_no_content_of_a_json_file_ends_in_a_traceback(name, tmp_path):
    write = (
        SEQUENCES[name][0]
        if name in SEQUENCES
        else CAPTURES.get(name, lambda f: project_folder(name, f))
    )
    write(tmp_path)
    path = tmp_path / JSON_FILES[name]
    good = path.read_text()
    every = list(places(json.loads(good)))
    random = np.random.RandomState(0)
    options = ReadOptions(test_frames=1 if "test_frames" in FORMATS[name].uses else None)
    read(tmp_path, name, options)
    refusals = 0
    for _ in range(40):
        at, junk = every[random.randint(len(every))], JUNK[random.randint(len(JUNK))]
        content = json.loads(good)
        inner = content
        for key in at[:-1]:
            inner = inner[key]
        if at:
            inner[at[-1]] = junk
        path.write_text(json.dumps(content if at else junk))
        try:
            read(tmp_path, name, options)  # what is optional may be junk and yet readable
        except UserError as error:
            refusals += 1
            assert "\n" not in str(error)
    assert refusals > 10


class _Command:
    def __init__(self, text):
        self.text = text

    def __reduce__(self):
        return os.system, (self.text,)


def test_a_tracker_frame_that_runs_code_is_refused_and_not_run(tmp_path):
    sequences_of.metrical(tmp_path)
    flag = tmp_path / "ran"
    torch.save({"opencv": _Command(f"touch {flag}")}, tmp_path / "checkpoint/00002.frame")
    refused(
        "00002.frame .* is refused: it calls posix.system.*Nothing of it was run",
        tmp_path,
        test_frames=1,
    )
    assert not flag.exists()
    torch.save(
        {"flame": {}, "opencv": {}, "img_size": np.array([64, 80])},
        tmp_path / "checkpoint/00002.frame",
    )
    refused("00002.frame .* has no 'R'", tmp_path, test_frames=1)
    (tmp_path / "checkpoint/00002.frame").write_bytes(b"PK")
    refused("00002.frame .* is damaged", tmp_path, test_frames=1)
