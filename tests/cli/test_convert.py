"""dataset_tool.py convert and the project's zip form: round trips, copies, reports, broken
input."""

import io
import json
import re
import shutil
import zipfile

import helpers.foreign_captures as captures_of
import helpers.foreign_sequences as sequences_of
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers.examples import CAPTURES, SEQUENCES
from helpers.places import SHARED
from PIL import Image

from gghead.cameras import Cameras
from gghead.cli.dataset_tool import convert as convert_command
from gghead.cli.dataset_tool import main
from gghead.data.dataset import ImageDataset
from gghead.data.dataset_zip import DatasetWriter
from gghead.data.formats import FORMATS, read
from gghead.data.formats.parsing import ReadOptions
from gghead.data.frames_zip import write_archive
from gghead.data.zip_writer import encode_png
from gghead.torch_utils.errors import UserError

WRITERS = {
    **{name: write for name, (write, _) in SEQUENCES.items()},
    **CAPTURES,
    "nersemble": lambda folder: captures_of.nersemble(folder, tracked=True),
}


def convert(source, dest, *more):
    return CliRunner().invoke(main, ["convert", f"--source={source}", f"--dest={dest}", *more])


def same(before, after):
    """Two frame sets show the same: cameras to the digits of the file, everything else exactly."""
    assert after.kind == before.kind and len(after) == len(before)
    label = before.cameras.label()
    torch.testing.assert_close(after.cameras.label(), label, atol=1e-7, rtol=0)
    for one, two in (
        (before.subject, after.subject),
        (before.moment, after.moment),
        (before.camera, after.camera),
    ):
        np.testing.assert_array_equal(one, two)
    assert (before.subjects, before.moments, before.camera_names, before.splits, before.fps) == (
        after.subjects,
        after.moments,
        after.camera_names,
        after.splits,
        after.fps,
    )
    assert (
        before.coefficient_names == after.coefficient_names and before.has_masks == after.has_masks
    )
    if before.coefficients is not None:
        assert torch.equal(before.coefficients, after.coefficients)
    assert set(before.extras) == set(after.extras)
    assert all(torch.equal(values, after.extras[name]) for name, values in before.extras.items())
    for index in range(len(before)):
        assert before.split_of(index) == after.split_of(index)
        one, two = before.get(index), after.get(index)
        assert torch.equal(one.alpha, two.alpha) and torch.equal(one.rgb, two.rgb)


@pytest.mark.parametrize("name", WRITERS)
def test_a_converted_set_reads_back_the_same(name, tmp_path):
    (tmp_path / "data").mkdir()
    WRITERS[name](tmp_path / "data")
    by_time = "test_frames" in FORMATS[name].uses
    options, flags = ReadOptions(test_frames=2 if by_time else None), ["--test-frames=2"] * by_time
    result = convert(tmp_path / "data", tmp_path / "out.zip", *flags)
    assert result.exit_code == 0, result.output
    before, after = read(tmp_path / "data", options=options), read(tmp_path / "out.zip")
    assert after.format == "gghead"
    same(before, after)
    assert f"{before.kind} ({name})" in result.output and "frames/s" in result.output
    assert not list(tmp_path.glob(".*tmp"))
    again = convert(tmp_path / "data", tmp_path / "again.zip", *flags, "--workers=1")
    assert again.exit_code == 0
    assert (tmp_path / "again.zip").read_bytes() == (tmp_path / "out.zip").read_bytes()


def test_files_are_copied_where_nothing_changes(tmp_path):
    (tmp_path / "vhap").mkdir()
    sequences_of.vhap(tmp_path / "vhap")
    result = convert(tmp_path / "vhap", tmp_path / "out.zip")
    assert "12 frames written (12 copied as they are), 0 skipped" in result.output
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
        content = json.loads(archive.read("dataset.json"))
        assert (content["kind"], content["version"], len(content["frames"])) == ("sequence", 1, 12)
        for record in content["frames"]:
            assert (
                archive.read(record["file"]) == (tmp_path / "vhap" / record["source"]).read_bytes()
            )
            mask = record["source"].replace("images", "fg_masks")
            assert archive.read(record["mask"]) == (tmp_path / "vhap" / mask).read_bytes()


def test_resized_images_and_square_zips_for_image_datasets(tmp_path):
    (tmp_path / "insta").mkdir()
    sequences_of.insta(tmp_path / "insta")
    result = convert(
        tmp_path / "insta",
        tmp_path / "out.zip",
        "--resolution=32",
        "--test-frames=2",
        "--max-images=4",
        "--extras=",
        "--kind=captures",
    )
    assert result.exit_code == 0, result.output
    assert (
        "captures (insta): 1 subjects, 4 expressions, 1 cameras, 4 frames of 32x32, with masks"
        in result.output
    )
    assert (
        "coefficients: 100 (without names)" in result.output
        and "(0 copied as they are)" in result.output
    )
    before = (
        read(tmp_path / "insta", options=ReadOptions(test_frames=2))
        .as_captures()
        .take(range(4))
        .resize(32)
    )
    after = read(tmp_path / "out.zip")
    torch.testing.assert_close(after.cameras.label(), before.cameras.label(), atol=1e-7, rtol=0)
    images = ImageDataset(tmp_path / "out.zip")
    assert len(images) == 4 and images.has_masks and images.resolution == 32
    for index in range(4):
        rgb, alpha, label = images.get(index)
        frame = before.get(index)
        assert torch.equal(rgb, frame.rgb) and torch.equal(alpha, frame.alpha)
        torch.testing.assert_close(label, frame.camera.label(), atol=1e-6, rtol=0)
    jpeg = convert(
        tmp_path / "insta",
        tmp_path / "jpeg.zip",
        "--resolution=40x30",
        "--test-frames=0",
        "--jpeg-quality=90",
    )
    assert jpeg.exit_code == 0 and "frames of 40x30" in jpeg.output, jpeg.output


@pytest.mark.skipif(
    not (SHARED / "mvheads").exists(), reason="the shared data sets are not beside the repository"
)
def test_the_shared_sets_convert_unchanged(tmp_path):
    result = convert(
        SHARED / "mvheads/mvheads.zip", tmp_path / "mv.zip", "--subjects=3,17", "--cameras=00-03"
    )
    assert result.exit_code == 0 and "(16 copied as they are)" in result.output, result.output
    before = read(
        SHARED / "mvheads/mvheads.zip",
        options=ReadOptions(("3", "17"), cameras=("00", "01", "02", "03")),
    )
    after = read(tmp_path / "mv.zip")
    same(before, after)
    torch.testing.assert_close(after.landmarks, before.landmarks)
    assert ImageDataset(tmp_path / "mv.zip").has_masks
    result = convert(SHARED / "avatar/sequence", tmp_path / "av.zip", "--max-images=12")
    assert result.exit_code == 0 and "(12 copied as they are)" in result.output, result.output
    after = read(tmp_path / "av.zip")
    torch.testing.assert_close(after.landmarks, read(SHARED / "avatar/sequence").landmarks[:12])
    assert after.fps == 25.0 and after.coefficient_names[0] == "browDown_L"


def test_an_unpacked_zip_is_as_good(tmp_path):
    (tmp_path / "vhap").mkdir()
    sequences_of.vhap(tmp_path / "vhap")
    convert(tmp_path / "vhap", tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        archive.extractall(tmp_path / "folder")
    same(read(tmp_path / "out.zip"), read(tmp_path / "folder"))


def test_eg3d_and_gghead_zips_are_captures_of_one_view_each(tmp_path):
    labels = [Cameras.orbit(0.1 * i).label()[0].numpy() for i in range(3)]
    images = [np.random.RandomState(i).randint(0, 256, (8, 8, 3), np.uint8) for i in range(3)]
    with DatasetWriter(tmp_path / "ffhq.zip") as writer:
        for i, (label, image) in enumerate(zip(labels, images, strict=True)):
            writer.add(f"00000/img{i:08d}.png", image, label)
    with zipfile.ZipFile(tmp_path / "ffhq_masks_modnet.zip", "w") as archive:
        for i in range(3):
            archive.writestr(
                f"00000/img{i:08d}.png", encode_png(np.full((8, 8), 100 + i, np.uint8))
            )
    frames = read(tmp_path / "ffhq.zip")
    assert (frames.kind, frames.format, len(frames.subjects)) == (
        "captures",
        "eg3d",
        3,
    ) and frames.has_masks
    for i in range(3):
        frame = frames.get(i)
        assert (
            np.array_equal(frame.rgb.permute(1, 2, 0), images[i])
            and int(frame.alpha[0, 0, 0]) == 100 + i
        )
        np.testing.assert_allclose(frame.camera.label(), labels[i], atol=1e-6)
    views = frames.views("00000/img00000001", 0)
    assert views.rgb.shape == (1, 3, 8, 8)


# ------------------------------------------------------------------------------------- broken input
def test_corrupt_images_are_skipped_and_counted(tmp_path):
    (tmp_path / "vhap").mkdir()
    sequences_of.vhap(tmp_path / "vhap")
    good = (tmp_path / "vhap/images/00001_00.png").read_bytes()
    (tmp_path / "vhap/images/00001_00.png").write_bytes(good[: len(good) // 2])
    (tmp_path / "vhap/images/00000_01.png").write_bytes(b"no image")  # the first of its camera
    result = convert(tmp_path / "vhap", tmp_path / "out.zip")
    assert result.exit_code == 0, result.output
    assert "10 frames written (10 copied as they are), 2 skipped" in result.output
    assert (
        "skipped: images/00001_00.png" in result.output
        and "skipped: images/00000_01.png" in result.output
    )
    assert len(read(tmp_path / "out.zip")) == 10
    old = (tmp_path / "out.zip").read_bytes()
    for rest, sentence in ((good[:60], "No image of"), (b"", "not a readable image")):
        for image in (tmp_path / "vhap/images").glob("*.png"):
            image.write_bytes(rest)
        result = convert(tmp_path / "vhap", tmp_path / "out.zip", "--overwrite")
        assert (
            result.exit_code == 1
            and sentence in result.output
            and result.output.count("Error") == 1
        )
        assert (tmp_path / "out.zip").read_bytes() == old and not list(tmp_path.glob(".*tmp"))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--from=insta2"], "no format 'insta2'"),
        (["--offset=1,2"], "three numbers"),
        (["--scale=-1"], "positive number"),
        (["--world=" + ",".join(map(str, np.diag([1, 2, 3, 1.0]).ravel()))], "one positive scale"),
        # longer than a file's name may be
        (["--world=" + ",".join([str(1 / 3)] * 16)], "one positive scale"),
        (["--cameras=9"], "no camera '9'"),
        (["--extras=tail"], "no 'tail'"),
        (["--test-frames=99"], "cannot be the test frames"),
        (["--flame=flame.pkl"], "--flame has no meaning for insta"),
        (["--test-clips=a"], "--test-clips has no meaning for insta"),
        (["--lens=ignore"], "--lens has no meaning for insta"),
        (["--from=nersemble"], "no person with"),
        (["--from=archive"], "no dataset.json"),
        (["--from=vhap"], "no flame_param_path"),
    ],
)
def test_wrong_options_are_one_sentence(options, sentence, tmp_path):
    (tmp_path / "data").mkdir()
    sequences_of.insta(tmp_path / "data")
    more = (
        []
        if any("test-frames" in option or "--from" in option for option in options)
        else ["--test-frames=1"]
    )
    result = convert(tmp_path / "data", tmp_path / "out.zip", *options, *more)
    assert result.exit_code == 1 and result.output.count("\n") == 1, result.output
    assert re.search(sentence, result.output), result.output
    assert not (tmp_path / "out.zip").exists()


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--world=1,2,3", "has 3 numbers, but a 4x4 matrix has 16"),
        ("--world=world.png", "'world.png' is neither a text file nor sixteen numbers"),
        ("--world=a", "'a' is neither a text file nor sixteen numbers"),
        ("--fps=0", "--fps must be above 0, but it is 0.0."),
        ("--test-frames=-1", "--test-frames must not be negative, but it is -1."),
        ("--lens=wide", "'wide' is not one of 'undistort', 'refuse', 'ignore'"),
    ],
)
def test_values_of_no_option_are_usage_errors(option, sentence, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "world.png").write_bytes(b"\x89PNG\xff")
    result = convert(tmp_path / "data", tmp_path / "out.zip", option)
    assert result.exit_code == 2 and sentence in result.output, result.output


def test_broken_zips_of_ours_are_refused(tmp_path):
    (tmp_path / "data").mkdir()
    sequences_of.vhap(tmp_path / "data")
    convert(tmp_path / "data", tmp_path / "out.zip")

    def rewrite(change, drop=()):
        with (
            zipfile.ZipFile(tmp_path / "out.zip") as old,
            zipfile.ZipFile(tmp_path / "bad.zip", "w") as new,
        ):
            for name in old.namelist():
                data = old.read(name)
                if name == "dataset.json":
                    content = json.loads(data)
                    change(content)
                    data = json.dumps(content)
                if name not in drop:
                    new.writestr(name, data)
        return tmp_path / "bad.zip"

    for change, drop, sentence in (
        (lambda c: c.update(version=9), (), "version 9"),
        (lambda c: c.update(kind="film"), (), "captures or sequence"),
        (lambda c: c["frames"][3]["expression"].pop(), (), "99 numbers, but that of .* has 100"),
        (
            lambda c: c["frames"][3].pop("expression"),
            (),
            "has no expression, but other frames have one",
        ),
        (lambda c: c["labels"][2][1].pop(), (), "has 24 numbers"),
        (lambda c: None, ("images/00000/00002_c001.png",), "no such image"),
        (lambda c: c.update(expression_names=["a"]), (), "names 1 expression coefficients"),
    ):
        with pytest.raises(UserError, match=sentence):
            read(rewrite(change, drop))


def test_zip_traps_are_refused(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    sequences_of.insta(tmp_path / "data")
    shutil.make_archive(str(tmp_path / "insta"), "zip", tmp_path / "data")
    # a zip is as good as a folder
    frames = read(tmp_path / "insta.zip", options=ReadOptions(test_frames=1))
    assert len(frames) == 6 and frames.get(2).rgb.shape == (3, 64, 80)
    with zipfile.ZipFile(tmp_path / "insta.zip", "a") as archive:
        archive.writestr("../outside.png", b"x")
    with pytest.raises(UserError, match="points outside the zip"):
        read(tmp_path / "insta.zip")
    buffer = io.BytesIO()
    Image.new("L", (4, 4)).save(buffer, "png")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images/a.png", buffer.getvalue())
        archive.writestr("dataset.json", bytes(65 << 20))
    with pytest.raises(UserError, match="bomb"):
        read(tmp_path / "bomb.zip")
    monkeypatch.setattr("gghead.data.formats.parsing._NPZ_BYTES", 2**20)
    (tmp_path / "npz").mkdir()
    sequences_of.vhap(tmp_path / "npz")
    with zipfile.ZipFile(
        tmp_path / "npz/flame_param/00001.npz", "w", zipfile.ZIP_DEFLATED
    ) as archive:
        archive.writestr("rotation.npy", bytes(2**21))
    with pytest.raises(UserError, match="00001.npz .* zip bombs"):
        read(tmp_path / "npz")


def test_names_are_lists_and_ranges():
    given = {"subjects": "3,7-9", "expressions": "EMO-1,a", "cameras": "000-002"}
    arguments = [f"--{name}={text}" for name, text in given.items()]
    context = convert_command.main.make_context(
        "convert", ["--source=x", "--dest=x.zip", *arguments]
    )
    options = convert_command.OPTIONS.apply(ReadOptions(), context.params)
    assert options == ReadOptions(("3", "7", "8", "9"), ("EMO-1", "a"), ("000", "001", "002"))


def test_a_matrix_is_numbers_or_a_file_of_them(tmp_path):
    rows = np.arange(16.0).reshape(4, 4).tolist()
    (tmp_path / "world.txt").write_text(str(rows))
    for text in (tmp_path / "world.txt", ",".join(map(str, range(16)))):
        context = convert_command.main.make_context(
            "convert", ["--source=x", "--dest=x.zip", f"--world={text}"]
        )
        assert convert_command.OPTIONS.apply(ReadOptions(), context.params).world == tuple(
            map(tuple, rows)
        )


def test_the_command_names_every_format(tmp_path):
    text = CliRunner().invoke(main, ["convert", "--help"]).output
    assert all(name in text for name in FORMATS)
    with pytest.raises(UserError, match="must end in .zip"):
        captures_of.nerfstudio(tmp_path)
        write_archive(read(tmp_path), tmp_path / "out.tar")
