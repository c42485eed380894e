"""dataset_tool.py photos, end to end, with landmarks from a file (and with mediapipe where it is
installed)."""

import importlib.util
import json
import zipfile

import click.testing
import numpy as np
import pytest
import torch
from helpers.places import SHARED
from PIL import Image

from gghead.cameras import FFHQ_FOCAL, FFHQ_RADIUS, Cameras
from gghead.cli.dataset_tool import main
from gghead.data.dataset import ImageDataset
from gghead.data.files import open_source
from gghead.data.photos import prepare as prepare_module
from gghead.data.photos.cache import PhotoCache
from gghead.data.photos.config import PhotoOptions
from gghead.data.photos.landmarks import landmark_model
from gghead.data.photos.pose import project
from gghead.data.photos.prepare import prepare, work_folder
from gghead.torch_utils.errors import UserError

PHOTOS = SHARED / "photos"
SIZE = 60.0  # side of the crops in the made-up photos
POSES = {
    "a.png": (0.3, 0.1, 0.0),
    "b.png": (-0.4, -0.1, 0.0),
    "sub/c.jpg": (0.0, 0.2, 0.05),
    "d.png": (0.1, 0.0, 0.9),
}


def axes(yaw, pitch, roll):
    return Cameras.orbit(yaw, pitch, roll).cam2world[0, :3, :3].numpy().astype(np.float64)


def points_of(yaw, pitch, roll, center=(50, 55), size=SIZE):
    model = landmark_model("ibug68")
    points = np.tile(np.asarray(center, np.float64), (68, 1))
    points[model.index] += size * project(axes(yaw, pitch, roll), model.mean)
    return points.round(3).tolist()


def noise(seed, width=100, height=110):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Four photos of noise with the landmarks of faces by known cameras; landmarks.json lists
    them."""
    source = tmp_path / "photos"
    (source / "sub").mkdir(parents=True)
    for seed, name in enumerate(POSES):
        Image.fromarray(noise(seed)).save(source / name)
    (source / "notes.txt").write_text("no photo")
    save_landmarks(tmp_path, {name: points_of(*pose) for name, pose in POSES.items()})
    return tmp_path


def save_landmarks(folder, files):
    (folder / "landmarks.json").write_text(json.dumps({"scheme": "ibug68", "files": files}))


def add(folder, name, image, points):
    """Add a photo to the folder and its landmarks to the file."""
    content = json.loads((folder / "landmarks.json").read_text())
    content["files"][name] = points
    save_landmarks(folder, content["files"])
    image.save(folder / "photos" / name)


def run(folder, *more, dest="out.zip", source="photos", overwrite=True):
    arguments = [
        f"--source={folder / source}",
        f"--dest={folder / dest}",
        "--resolution=32x32",
        "--workers=0",
    ]
    if not any(option.startswith("--cameras") for option in more):
        arguments.append(f"--landmarker={folder / 'landmarks.json'}")
    if not any(option.startswith("--mat") or option.startswith("--masks=") for option in more):
        arguments.append("--matte=none")
    arguments += ["--overwrite"] * overwrite
    return click.testing.CliRunner().invoke(main, ["photos", *arguments, *more])


def content(path):
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("dataset.json"))


def test_photos_become_a_data_set_with_their_cameras(folder):
    result = run(folder, "--align=never")
    assert result.exit_code == 0, result.output
    assert "4 of 4 photos used (100.0%), 4 faces." in result.output
    assert "1 other files are no photos that can be read (first: notes.txt)" in result.output
    dataset = ImageDataset(folder / "out.zip")
    assert len(dataset) == 4 and dataset.resolution == 32 and not dataset.has_masks
    frames = content(folder / "out.zip")["frames"]
    assert [frame["source"] for frame in frames] == sorted(POSES)
    for index, frame in enumerate(frames):
        camera = Cameras.from_label(dataset.labels[index].double())
        expected = np.array(axes(*POSES[frame["source"]]))
        np.testing.assert_allclose(camera.cam2world[:3, :3], expected, atol=0.01)
        assert float(camera.position.norm()) == pytest.approx(FFHQ_RADIUS, abs=1e-5)
        assert float(camera.intrinsics[0, 0]) == pytest.approx(FFHQ_FOCAL)
        np.testing.assert_allclose(frame["crop_box_in_source"], [20, 25, 80, 85], atol=0.5)
        assert frame["yaw"] == pytest.approx(np.degrees(POSES[frame["source"]][0]), abs=0.5)
        assert frame["filled"] == 0 and frame["crop_angle"] == 0 and 0 < frame["quality"] <= 1
    assert not work_folder(folder / "out.zip").exists()
    report = json.loads((folder / "out_report.json").read_text())
    assert report["photos"] == 4 and report["skipped"] == {}


@pytest.mark.parametrize(
    ("align", "turned"), [("never", ()), ("auto", ("d.png",)), ("always", tuple(POSES))]
)
def test_leaning_heads_are_turned_upright(folder, align, turned):
    assert run(folder, f"--align={align}").exit_code == 0
    for frame in content(folder / "out.zip")["frames"]:
        lean = np.degrees(POSES[frame["source"]][2])
        # FFHQ's rule is no exact inverse of the roll for a turned head
        if frame["source"] in turned:
            assert frame["crop_angle"] == pytest.approx(lean, abs=8) and frame["crop_angle"] != 0
        else:
            assert frame["crop_angle"] == 0
        assert frame["roll"] + frame["crop_angle"] == pytest.approx(lean, abs=0.5)


def test_mirrored_copies_have_mirrored_cameras(folder):
    assert run(folder, "--mirror=1").exit_code == 0
    dataset = ImageDataset(folder / "out.zip")
    assert [dataset.name(i) for i in (0, 1)] == [
        "00000/img00000000.png",
        "00000/img00000000_mirror.png",
    ]
    assert torch.equal(dataset.get(1)[0], dataset.get(0)[0].flip(-1))
    expected = Cameras.from_label(dataset.labels[0]).mirror().label()
    np.testing.assert_allclose(dataset.labels[1], expected, atol=1e-6)
    frames = content(folder / "out.zip")["frames"]
    assert frames[1]["yaw"] == -frames[0]["yaw"] and frames[1]["mirrored"]


def make_masks(folder):
    masks = folder / "masks"
    (masks / "sub").mkdir(parents=True)
    for name in POSES:
        mask = np.zeros((110, 100), np.uint8)
        mask[30:90, 25:75] = 255
        Image.fromarray(mask).save((masks / name).with_suffix(".png"))
    return masks


def test_masks_of_a_folder_and_their_own_zip(folder):
    result = run(
        folder, f"--masks={make_masks(folder)}", "--masks-zip=1", "--mirror=1", "--align=never"
    )
    assert result.exit_code == 0, result.output
    inside = ImageDataset(folder / "out.zip")
    beside = ImageDataset(folder / "out.zip", masks=folder / "out_masks_folder.zip")
    assert inside.has_masks and len(inside) == len(beside) == 8
    for index in range(8):
        assert torch.equal(inside.get(index)[1], beside.get(index)[1])
    alpha = inside.get(0)[1][0].numpy() / 255
    # the mask's part of the crop 20..80 x 25..85
    assert alpha.mean() == pytest.approx(50 * 55 / 3600, abs=0.03)
    (folder / "masks" / "b.png").unlink()
    result = run(folder, f"--masks={folder / 'masks'}")
    assert (
        result.exit_code == 0
        and "1 skipped, no mask (first: b.png: b.png has no mask b.png in" in result.output
    )


def test_what_is_no_good_is_skipped_and_counted(folder):
    """One of each fault among good photos; the rest becomes the data set."""
    width, height = 100, 110
    smooth = Image.fromarray(noise(9, 4, 4)).resize((width, height), Image.Resampling.BICUBIC)
    sharp = Image.fromarray(noise(10))
    frontal = (0.0, 0.0, 0.0)
    scrambled = np.random.default_rng(0).uniform(10, 90, (68, 2)).tolist()
    add(folder, "blurred.png", smooth, points_of(*frontal))
    add(folder, "small.png", sharp, points_of(*frontal, size=12))
    add(folder, "corner.png", sharp, points_of(*frontal, center=(3, 3)))
    add(folder, "profile.png", sharp, points_of(1.2, 0.0, 0.0))
    add(folder, "poor.png", sharp, scrambled)
    add(folder, "nobody.png", sharp, None)
    (folder / "photos" / "torn.jpg").write_bytes(
        (folder / "photos" / "sub" / "c.jpg").read_bytes()[:900]
    )
    (folder / "photos" / "text.png").write_text("not an image")
    frames = [sharp, Image.fromarray(noise(11))]
    frames[0].save(folder / "photos" / "moving.webp", save_all=True, append_images=frames[1:])
    result = run(folder)
    assert result.exit_code == 0, result.output
    assert "4 of 13 photos used (30.8%), 4 faces." in result.output
    report = json.loads((folder / "out_report.json").read_text())
    reasons = {entry["source"]: entry["reason"] for entry in report["skipped_photos"]}
    assert reasons == {
        "blurred.png": "too blurred",
        "small.png": "too small",
        "corner.png": "cut off",
        "profile.png": "turned too far",
        "poor.png": "poor fit",
        "nobody.png": "no face",
        "torn.jpg": "unreadable",
        "text.png": "unreadable",
        "moving.webp": "unreadable",
    }
    assert report["skipped"]["unreadable"] == 3 and "3 skipped, unreadable" in result.output
    details = {entry["source"]: entry["detail"] for entry in report["skipped_photos"]}
    assert "moving.webp is animated" in details["moving.webp"]
    # limits are options
    result = run(folder, "--min-scale=0.2", "--max-yaw=80", "--min-sharpness=0")
    used = {frame["source"] for frame in content(folder / "out.zip")["frames"]}
    assert used == {*POSES, "blurred.png", "small.png", "profile.png"}


def test_all_faces_of_a_photo(folder):
    two = [
        points_of(0.1, 0, 0, center=(80, 60), size=50),
        points_of(-0.2, 0, 0, center=(200, 60), size=60),
    ]
    add(folder, "two.png", Image.fromarray(noise(12, 260, 120)), two)
    assert run(folder).exit_code == 0
    assert sum(frame["source"] == "two.png" for frame in content(folder / "out.zip")["frames"]) == 1
    assert run(folder, "--faces=all").exit_code == 0
    faces = [
        frame for frame in content(folder / "out.zip")["frames"] if frame["source"] == "two.png"
    ]
    assert [frame["face"] for frame in faces] == [0, 1]
    # the larger one comes first
    assert faces[0]["crop_box_in_source"][0] > faces[1]["crop_box_in_source"][0]


def test_no_face_anywhere_is_one_sentence_and_leaves_the_old_file(folder):
    (folder / "out.zip").write_bytes(b"old")
    save_landmarks(folder, {})
    result = run(folder)
    assert result.exit_code == 1
    assert (
        "No face was found in any of the 4 photos of" in result.output
        and "Traceback" not in result.output
    )
    assert (folder / "out.zip").read_bytes() == b"old"
    assert json.loads((folder / "out_report.json").read_text())["skipped"] == {"no face": 4}
    save_landmarks(folder, {name: points_of(1.3, 0, 0) for name in POSES})
    result = run(folder)
    assert (
        result.exit_code == 1
        and "None of the 4 photos" in result.output
        and "4 turned too far" in result.output
    )


def test_an_interrupted_run_continues(folder, monkeypatch):
    options = PhotoOptions(resolution=32, landmarker=str(folder / "landmarks.json"), matte="none")
    prepare(folder / "photos", folder / "whole.zip", options, workers=0)

    def stop(done, total, kept):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(folder / "photos", folder / "out.zip", options, workers=0, progress=stop)
    assert not (folder / "out.zip").exists()
    kept = len(list(work_folder(folder / "out.zip").iterdir()))
    assert kept >= 2
    done = []
    work = prepare_module._work
    monkeypatch.setattr(prepare_module, "_work", lambda name: (done.append(name), work(name))[1])
    prepare(folder / "photos", folder / "out.zip", options, workers=0)
    assert len(done) == 4 - kept
    assert (folder / "out.zip").read_bytes() == (folder / "whole.zip").read_bytes()
    assert not work_folder(folder / "out.zip").exists()


def test_what_was_kept_is_not_used_for_other_options_or_photos(folder):
    options = PhotoOptions(resolution=32, landmarker=str(folder / "landmarks.json"), matte="none")

    def stop(done, total, kept):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(folder / "photos", folder / "out.zip", options, workers=0, progress=stop)
    Image.fromarray(noise(77, 101, 111)).save(folder / "photos" / "a.png")
    prepare(
        folder / "photos",
        folder / "out.zip",
        PhotoOptions(**{**vars(options), "resolution": 16}),
        workers=0,
    )
    assert ImageDataset(folder / "out.zip").resolution == 16


def test_what_was_kept_is_not_used_for_other_masks(folder):
    (folder / "masks").mkdir()
    options = PhotoOptions(
        resolution=32, landmarker=str(folder / "landmarks.json"), masks=str(folder / "masks")
    )
    places = []
    for name in (None, "a.webp", "a.png"):
        if name is not None:
            Image.fromarray(noise(5)[..., 0]).save(folder / "masks" / name)
        places.append(
            PhotoCache(folder, open_source(folder / "photos"), options, None).path("a.png")
        )
    assert len(set(places)) == 3


def test_nothing_is_kept_of_work_in_this_process(folder):
    """Networks and open files, in a notebook that goes on."""
    options = PhotoOptions(resolution=32, landmarker=str(folder / "landmarks.json"), matte="none")
    prepare(folder / "photos", folder / "out.zip", options, workers=0)
    assert not prepare_module._state


def test_the_bytes_do_not_depend_on_the_number_of_workers(folder):
    for index in range(4, 9):
        add(
            folder,
            f"e{index}.png",
            Image.fromarray(noise(index)),
            points_of(0.1 * index - 0.5, 0.05, 0.02 * index),
        )
    for workers in (1, 2):
        result = run(folder, f"--workers={workers}", dest=f"out{workers}.zip")
        assert result.exit_code == 0, result.output
    assert (folder / "out1.zip").read_bytes() == (folder / "out2.zip").read_bytes()


def test_ready_cameras_need_no_detector(folder):
    source = folder / "photos"
    for name in POSES:
        Image.fromarray(noise(3, 64, 64)).save(source / name)
    Image.fromarray(noise(4, 64, 70)).save(source / "tall.png")
    Image.fromarray(noise(5, 64, 64)).save(source / "unknown.png")
    labels = {name: Cameras.orbit(*pose).label()[0].tolist() for name, pose in POSES.items()}
    labels["tall.png"] = labels["a.png"]
    # with the folder's name before it
    pairs = [[f"photos/{name}", label] for name, label in labels.items()]
    (folder / "cameras.json").write_text(json.dumps({"labels": pairs}))
    result = run(folder, f"--cameras={folder / 'cameras.json'}")
    assert result.exit_code == 0, result.output
    dataset, frames = ImageDataset(folder / "out.zip"), content(folder / "out.zip")["frames"]
    for index, frame in enumerate(frames):
        np.testing.assert_allclose(dataset.labels[index], labels[frame["source"]], atol=1e-6)
    report = json.loads((folder / "out_report.json").read_text())
    assert report["skipped"] == {"no camera": 1, "not square": 1}
    (folder / "cameras.json").write_text(json.dumps({"labels": [["zzz.png", labels["a.png"]]]}))
    result = run(folder, f"--cameras={folder / 'cameras.json'}")
    assert result.exit_code == 1 and "names none of the photos" in result.output
    (folder / "cameras.json").write_text(json.dumps({"labels": [["a.png", [1, 2, 3]]]}))
    result = run(folder, f"--cameras={folder / 'cameras.json'}")
    assert result.exit_code == 1 and "has 3 numbers" in result.output


def test_colors_of_partial_pixels_are_the_foregrounds_own(tmp_path):
    rgb, alpha = np.full((32, 32, 3), (0, 0, 255), np.uint8), np.zeros((32, 32), np.uint8)
    rgb[6:27, 5:26], alpha[6:27, 5:26] = (200, 30, 30), 255  # a red square before a blue wall
    for name, pixels in (("photos", rgb), ("masks", alpha)):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / "a.png")
    (tmp_path / "cameras.json").write_text(
        json.dumps({"labels": [["a.png", Cameras.orbit(0.2).label()[0].tolist()]]})
    )
    options = [
        f"--cameras={tmp_path / 'cameras.json'}",
        f"--masks={tmp_path / 'masks'}",
        "--resolution=8x8",
    ]
    result = click.testing.CliRunner().invoke(
        main,
        [
            "photos",
            f"--source={tmp_path / 'photos'}",
            f"--dest={tmp_path / 'out.zip'}",
            "--workers=1",
            *options,
        ],
    )
    assert result.exit_code == 0, result.output
    rgb, alpha, _ = ImageDataset(tmp_path / "out.zip").get(0)
    partial = (alpha[0] > 8) & (alpha[0] < 255)
    assert partial.any()
    assert np.abs(rgb[:, partial].numpy().astype(int).T - (200, 30, 30)).max() <= 3


def test_photos_in_a_zip_and_names_that_leave_it(folder):
    with zipfile.ZipFile(folder / "photos.zip", "w") as archive:
        for name in POSES:
            archive.write(folder / "photos" / name, name)
    assert run(folder, source="photos.zip").exit_code == 0
    assert len(ImageDataset(folder / "out.zip")) == 4
    with zipfile.ZipFile(folder / "photos.zip", "a") as archive:
        archive.write(folder / "photos" / "a.png", "../evil.png")
    result = run(folder, source="photos.zip")
    assert (
        result.exit_code == 1
        and "../evil.png" in result.output
        and "outside the zip" in result.output
    )


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--resolution=64x32", "the images are square here, but 64x32 is not"),
        ("--resolution=big", "'big' is no number such as 64"),
        ("--matte=modnet", "--matte=modnet is unknown"),
        ("--landmarker=dlib", "--landmarker=dlib is unknown"),
        ("--masks-zip=1", "--masks-zip=1 needs masks"),
        ("--dest=out.tar", "out.tar must end in .zip"),
        ("--source=nowhere", "nowhere does not exist"),
        ("--faces=some", "Invalid value for '--faces'"),
    ],
)
def test_wrong_options_are_one_sentence(folder, option, sentence):
    result = run(folder, option)
    assert result.exit_code != 0 and sentence in result.output and "Traceback" not in result.output


def test_an_empty_folder_is_said_to_be_empty(folder):
    (folder / "nothing").mkdir()
    result = run(folder, source="nothing")
    assert result.exit_code == 1 and "There are no photos in" in result.output


def test_a_worker_that_cannot_start_says_why(folder, monkeypatch):
    options = PhotoOptions(resolution=32, landmarker=str(folder / "gone.json"), matte="none")
    with pytest.raises(UserError, match="gone.json cannot be read"):
        prepare(folder / "photos", folder / "out.zip", options, workers=1)


@pytest.mark.skipif(
    importlib.util.find_spec("mediapipe") is None,
    reason="mediapipe is not installed (gghead[prep])",
)
@pytest.mark.skipif(not PHOTOS.is_dir(), reason="../shared/data/photos is not here")
def test_real_photos_agree_with_the_reference(tmp_path):
    """Every fourth of the uncropped photos, from pixels alone."""
    (tmp_path / "photos").mkdir()
    for path in sorted((PHOTOS / "raw").glob("*.jpg"))[::4]:
        (tmp_path / "photos" / path.name).write_bytes(path.read_bytes())
    prepare(tmp_path / "photos", tmp_path / "out.zip", PhotoOptions(resolution=128), workers=0)
    reference = json.loads((PHOTOS / "labels_reference.json").read_text())
    labels, records = (
        dict(reference["labels"]),
        {frame["file"]: frame for frame in reference["frames"]},
    )
    dataset, frames = ImageDataset(tmp_path / "out.zip"), content(tmp_path / "out.zip")["frames"]
    assert len(frames) == 30 and dataset.has_masks
    turns, shifts, sizes = [], [], []
    for index, frame in enumerate(frames):
        name = f"images/{frame['source']}"
        ours, theirs = (
            dataset.labels[index][:16].view(4, 4)[:3, :3],
            torch.tensor(labels[name][:16]).view(4, 4)[:3, :3],
        )
        turns.append(float(torch.rad2deg(torch.arccos(((ours * theirs).sum() - 1) / 2))))
        box, expected = (
            np.array(frame["crop_box_in_source"]),
            0.75 * np.array(records[name]["crop_box_in_source"]),
        )
        side = expected[2] - expected[0]
        shifts.append(
            np.abs(box + np.roll(box, 2) - expected - np.roll(expected, 2)).max() / 2 / side
        )
        sizes.append(abs((box[2] - box[0]) / side - 1))
    assert np.median(turns) <= 3 and max(turns) <= 8
    assert np.median(shifts) <= 0.02 and np.median(sizes) <= 0.04
