"""Driving and scoring avatars: tables, sequences, mappings, camera paths, videos, scores."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers.avatar_sequence import NAMES, SIZE, write_sequence
from helpers.video_frames import frames_of
from PIL import Image

from gghead import checkpoints
from gghead.animation.drive import read_drive, read_table
from gghead.animation.frames import Frames, read_sequence, split_or_all
from gghead.animation.show import avatar_images, camera_path
from gghead.cameras import Cameras
from gghead.cli.animate import main
from gghead.image_metrics import psnr
from gghead.models.avatar import Avatar
from gghead.models.avatar_config import AvatarConfig
from gghead.torch_utils.errors import UserError
from gghead.training.avatar.score import nearest_frames, region_masks, score
from gghead.training.cli.score_avatar import main as score_main

CONFIG = AvatarConfig(
    width=3,
    coefficient_names=NAMES,
    expression_model="avatar",
    feature_dim=4,
    hidden=8,
    sh_degree=1,
    image_size=(SIZE, SIZE),
)


def avatar(config=CONFIG):
    model = Avatar(
        config, torch.randn(30, 3, generator=torch.Generator().manual_seed(0)) * 0.2, spacing=0.1
    )
    with torch.no_grad():
        model.basis.normal_(generator=torch.Generator().manual_seed(1))
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_sequence(tmp_path_factory.mktemp("sequence") / "person")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("avatar") / "avatar-000001.safetensors"
    checkpoints.save(avatar(), path)
    return path


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


# ------------------------------------------------------------------------- drives
def test_named_columns_go_to_their_coefficients(tmp_path):
    (tmp_path / "w.csv").write_text("eyeBlink, jawOpen\n0.5,1\n\n0.25,0\n")
    drive = read_drive(tmp_path / "w.csv", CONFIG)
    assert drive.expression.tolist() == [[1, 0, 0.5], [0, 0, 0.25]] and drive.frames is None


def test_tables_without_names(tmp_path):
    (tmp_path / "w.csv").write_text("0,1,2\n3,4,5\n")
    assert read_drive(tmp_path / "w.csv", CONFIG).expression.tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("", "holds no row of weights"),
        ("jawOpen\n", "holds no row of weights"),
        ("jawOpen,eyeBlink\n1\n", "Line 2 of .* has 1 values, but 2 are expected"),
        ("jawOpen\n1\nx\n", "Line 3 of .* holds 'x'"),
        ("jawOpen\nnan\n", "Line 2 of .* holds 'nan', which is no finite number"),
        (
            "jawOpne\n1\n",
            "a coefficient 'jawOpne', which the avatar has no shape for; did you mean 'jawOpen'",
        ),
        ("jawOpen,jawOpen\n1,1\n", "names a column twice"),
        ("1,2\n", "has 2 coefficients, but the avatar was trained with 3"),
    ],
)
def test_broken_tables_are_a_sentence(text, sentence, tmp_path):
    (tmp_path / "w.csv").write_text(text)
    with pytest.raises(UserError, match=sentence):
        read_drive(tmp_path / "w.csv", CONFIG)


def test_tables_that_are_not_there_or_not_text(tmp_path):
    (tmp_path / "w.csv").write_bytes(b"\xff\xfe\x00")
    for name in ("w.csv", "absent.csv"):
        with pytest.raises(UserError, match="cannot be read as a table of weights"):
            read_table(tmp_path / name)


def test_sequences_of_the_same_coefficients_in_another_order(tmp_path):
    folder = write_sequence(tmp_path / "other", names=NAMES[::-1])
    drive = read_drive(folder, CONFIG)
    assert torch.equal(drive.expression, read_sequence(folder).coefficients.flip(1))
    assert drive.fps == 25 and len(drive.frames) == 8
    assert len(read_drive(folder, CONFIG, split="test").expression) == 2


def test_another_expression_model_needs_a_mapping(tmp_path):
    folder = write_sequence(tmp_path / "other", names=("AU1", "AU2", "AU3", "AU4"))
    with pytest.raises(
        UserError,
        match=r"has 4 coefficients \(AU1, AU2, AU3 …\), but the avatar was trained with 3 "
        r"\(jawOpen, mouthSmile, eyeBlink …\) of 'avatar'.*mapping=FILE",
    ):
        read_drive(folder, CONFIG)
    same_width = write_sequence(tmp_path / "same", names=("AU1", "AU2", "AU3"))
    with pytest.raises(UserError, match="another expression model"):
        read_drive(same_width, CONFIG)
    matrix = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.save(tmp_path / "m.npy", matrix)
    np.savetxt(tmp_path / "m.csv", matrix, delimiter=",")
    expected = read_sequence(folder).coefficients.numpy() @ matrix.T
    for name in ("m.npy", "m.csv"):
        drive = read_drive(folder, CONFIG, mapping=str(tmp_path / name))
        np.testing.assert_allclose(drive.expression.numpy(), expected, rtol=1e-5)
    np.save(tmp_path / "m.npy", matrix.T)
    with pytest.raises(
        UserError, match=r"must be a matrix of 3 rows .* and 4 columns .* its shape is \[4, 3\]"
    ):
        read_drive(folder, CONFIG, mapping=str(tmp_path / "m.npy"))
    (tmp_path / "m.npy").write_text("no matrix")
    with pytest.raises(UserError, match="is neither .npy nor .csv"):
        read_drive(folder, CONFIG, mapping=str(tmp_path / "m.npy"))


def test_coefficients_can_be_matched_by_their_names(file, tmp_path):
    folder = write_sequence(
        tmp_path / "other", names=("jawOpen", "eyeBlink_L", "tongueOut", "browInnerUp_L")
    )
    own = AvatarConfig(width=3, coefficient_names=("browInnerUp", "eyeBlinkLeft", "jawOpen"))
    drive = read_drive(folder, own)
    assert (
        torch.equal(drive.expression, read_drive(folder, own, mapping="names").expression)
        and drive.at_rest == ()
    )
    given = read_sequence(folder).coefficients
    torch.testing.assert_close(
        drive.expression, torch.stack([given[:, 3] / 2, given[:, 1], given[:, 0]], 1)
    )
    assert drive.left_out == ("tongueOut",) and drive.fps == 25 and len(drive.frames) == 8
    (tmp_path / "w.csv").write_text("eyeBlink_L,jawOpen\n0.5,1\n")
    drive = read_drive(str(tmp_path / "w.csv"), own)
    assert drive.expression.tolist() == [[0, 0.5, 1]] and drive.at_rest == ("browInnerUp",)
    (tmp_path / "bare.csv").write_text("0.5,1\n")
    with pytest.raises(
        UserError, match="needs names on both sides, but The table .*bare.csv has none"
    ):
        read_drive(str(tmp_path / "bare.csv"), own, mapping="names")
    with pytest.raises(UserError, match="but the avatar has none"):
        read_drive(folder, AvatarConfig(width=3), mapping="names")
    result = run(
        f"--avatar={file}",
        f"--drive={folder}",
        "--only-frames=0-3",
        f"--output={tmp_path / 'strip.png'}",
    )
    assert result.exit_code == 0, result.output
    assert "has no mouthSmile, eyeBlink: at rest" in result.output
    assert "The avatar has no eyeBlink_L, tongueOut, browInnerUp_L: left out" in result.output


# ------------------------------------------------------------------------ images
def test_camera_paths_keep_lens_and_distance():
    label = Cameras.orbit(0.3, 0.1, radius=3.0, focal=2.5).label()[0]
    model = avatar(AvatarConfig(**{**CONFIG.__dict__, "camera": tuple(label.tolist())}))
    for name in ("still", "turntable", "sweep", "spiral"):
        path = camera_path(model, name, 5).validate()
        assert path.shape == (5,)
        torch.testing.assert_close(path.position.norm(dim=1), torch.full((5,), 3.0))
        assert torch.equal(path.intrinsics, model.camera().intrinsics.expand(5, 3, 3))
    assert torch.equal(camera_path(model, "still", 2).label(), label.expand(2, 25))


def test_frames_over_a_background(data):
    frames = Frames(read_sequence(data))
    head, alpha = frames.cut(0)
    assert torch.equal(frames.over(0), head + (1 - alpha))
    frame = frames.sequence.get(0)
    # the example's images are over white already
    torch.testing.assert_close(frames.over(0), frame.rgb / 255)
    torch.testing.assert_close(
        frames.over(0, torch.tensor([0.2, 0.4, 0.6]))[:, 0, 0], torch.tensor([0.2, 0.4, 0.6])
    )
    assert torch.equal(Frames(read_sequence(data), cache_mb=0).over(3), frames.over(3))
    with pytest.raises(UserError, match="no frames of the split 'val'; its splits are"):
        split_or_all(read_sequence(data), "val")


def test_self_reenactment_stands_beside_the_truth(file, data, tmp_path):
    out = tmp_path / "a" / "test.gif"
    result = run(f"--avatar={file}", f"--drive={data}", "--split=test", f"--output={out}")
    assert result.exit_code == 0, result.output
    video = frames_of(out)
    assert video.shape == (2, SIZE, 2 * SIZE, 3)
    assert (
        np.abs(
            video[0, :, :SIZE].astype(int) - np.asarray(Image.open(data / "images/00006.png"))
        ).mean()
        < 6
    )
    alone = run(
        f"--avatar={file}",
        f"--drive={data}",
        "--only-frames=1-3",
        "--beside=0",
        "--size=16",
        f"--output={out}",
        "--overwrite",
    )
    assert alone.exit_code == 0 and frames_of(out).shape == (3, 16, 16, 3)


def test_a_strip_has_what_was_filmed_above_the_avatar(file, data, tmp_path):
    out = tmp_path / "strip.png"
    result = run(f"--avatar={file}", f"--drive={data}", "--only-frames=0,3,5", f"--output={out}")
    assert result.exit_code == 0, result.output
    strip = np.asarray(Image.open(out))
    assert strip.shape == (2 * SIZE, 3 * SIZE, 3)
    filmed = np.asarray(Image.open(data / "images/00003.png")).astype(int)
    above, below = (
        np.abs(rows[:, SIZE : 2 * SIZE] - filmed).mean() for rows in (strip[:SIZE], strip[SIZE:])
    )
    assert above < 6 < below
    again = [
        f"--avatar={file}",
        f"--drive={data}",
        "--beside=0",
        "--only-frames=0",
        f"--output={out}",
    ]
    assert (
        "strip.png exists already" in run(*again).output
        and np.asarray(Image.open(out)).shape == strip.shape
    )
    assert run(*again, "--overwrite").exit_code == 0
    assert np.asarray(Image.open(out)).shape == (SIZE, SIZE, 3)
    assert (
        "choose up to 12"
        in run(
            f"--avatar={file}",
            f"--drive={write_sequence(tmp_path / 'long', count=14)}",
            f"--output={out}",
            "--overwrite",
        ).output
    )


def test_tables_drive_along_a_path(file, tmp_path):
    (tmp_path / "w.csv").write_text("jawOpen\n0\n0.5\n1\n")
    out = tmp_path / "w.webp"
    result = run(
        f"--avatar={file}",
        f"--drive={tmp_path / 'w.csv'}",
        "--camera=sweep",
        "--fps=10",
        f"--output={out}",
    )
    assert result.exit_code == 0, result.output
    assert frames_of(out).shape == (3, SIZE, SIZE, 3)


def test_wrong_uses_are_a_sentence(file, data, tmp_path):
    (tmp_path / "w.csv").write_text("jawOpen\n0\n")
    table, out = f"--drive={tmp_path / 'w.csv'}", f"--output={tmp_path / 'o.gif'}"
    for arguments, sentence in (
        (["--avatar=demo", table], "but an avatar of one person is needed here"),
        ([f"--avatar={tmp_path / 'no'}", table], "does not exist"),
        ([f"--avatar={file}", table, "--camera=tracked"], "has neither cameras nor images"),
        ([f"--avatar={file}", table, "--split=test"], "--split=test has no meaning"),
        ([f"--avatar={file}", table, "--only-frames=0-3"], "asks for frame 3, but"),
        ([f"--avatar={file}", f"--drive={data}", "--split=val"], "no frames of the split 'val'"),
        ([f"--avatar={file}", f"--drive={tmp_path}"], "is of no known format"),
    ):
        result = run(*arguments, out)
        assert result.exit_code == 1 and sentence in result.output, result.output
    assert not (tmp_path / "o.gif").exists()


# -------------------------------------------------------------------------- scores
def test_scores_are_what_they_say(data):
    model, sequence = avatar(), read_sequence(data)
    test, train = (Frames(split_or_all(sequence, name)) for name in ("test", "train"))
    means, records = score(model, test, train)
    shown = list(avatar_images(model, test.expression, test.cameras, test.size))
    expected = [float(psnr(image, test.over(index))) for index, image in enumerate(shown)]
    assert [record["avatar"]["psnr"] for record in records] == pytest.approx(expected)
    assert means["avatar"]["psnr"] == pytest.approx(np.mean(expected))
    errors = [
        [float((test.over(i) - train.over(j)).square().mean()) for j in range(len(train))]
        for i in range(2)
    ]
    assert [record["nearest_frame"]["l2"] for record in records] == pytest.approx(
        [min(row) for row in errors]
    )
    mean = torch.stack([train.over(index) for index in range(len(train))]).mean(0)
    assert records[1]["mean_image"]["l2"] == pytest.approx(
        float((mean - test.over(1)).square().mean())
    )
    assert nearest_frames(train, train) == list(range(len(train)))


def test_mouth_and_eyes_are_where_the_landmarks_project(tmp_path):
    points = np.zeros((8, 68, 3), np.float32)
    points[:, 48:68, 1] = -0.15  # a mouth below the middle, eyes above
    points[:, 36:48, 1] = 0.15
    points[:, 48:68:2, 0], points[:, 36:48:2, 0] = 0.05, 0.05
    folder = write_sequence(tmp_path / "person")
    np.savez(folder / "geometry.npz", landmarks68=points)
    frames = Frames(read_sequence(folder))
    masks = region_masks(frames, 3)
    rows = {name: mask[0].any(1).nonzero()[:, 0].float().mean() for name, mask in masks.items()}
    offset = 0.15 / 2.7 * 2.9 * SIZE  # similar triangles
    assert float(rows["mouth"]) == pytest.approx(SIZE / 2 + offset, abs=1)
    assert float(rows["eyes"]) == pytest.approx(SIZE / 2 - offset - 1, abs=1)
    means = score(avatar(), frames, frames)[0]["avatar"]
    assert {"mouth_psnr", "mouth_ssim", "eyes_psnr", "eyes_ssim"} <= set(means)


def test_score_command(file, data, tmp_path):
    arguments = [f"--avatar={file}", f"--data={data}", f"--outdir={tmp_path / 'scores'}"]
    result = CliRunner().invoke(score_main, arguments)
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "scores/scores.json").read_text())
    assert report["split"] == "test" and len(report["frames"]) == 2
    assert set(report["results"]) == {"avatar", "nearest_frame", "mean_image"}
    assert f"{report['results']['avatar']['psnr']:.4f}" in result.output
    assert np.asarray(Image.open(tmp_path / "scores/worst.png")).shape[0] >= 3 * SIZE
    again = CliRunner().invoke(score_main, arguments)
    assert (
        json.loads((tmp_path / "scores/scores.json").read_text()) == report and again.exit_code == 0
    )
    refused = CliRunner().invoke(
        score_main, [*arguments[:2], f"--outdir={tmp_path / 'scores/worst.png/inside'}"]
    )
    assert refused.exit_code == 1 and "cannot be written" in refused.output
    result = CliRunner().invoke(score_main, [*arguments, f"--video={tmp_path / 'all.gif'}"])
    assert result.exit_code == 0 and frames_of(tmp_path / "all.gif").shape == (2, SIZE, 3 * SIZE, 3)
    unseen = write_sequence(
        tmp_path / "unseen", change=lambda c: [f.update(split="test") for f in c["frames"]]
    )
    result = CliRunner().invoke(
        score_main, [arguments[0], f"--data={unseen}", f"--outdir={tmp_path / 'unseen'}"]
    )
    report = json.loads((tmp_path / "unseen/scores.json").read_text())
    # no baselines
    assert set(report["results"]) == {"avatar"} and len(report["frames"]) == 8, result.output
    wider = write_sequence(tmp_path / "wider", names=("a", "b", "c", "d"))
    for bad, sentence in (
        (arguments[:1], "lies in no run folder"),
        ([*arguments, "--video=x.avi"], "must end in .mp4"),
        ([*arguments, "--split=val"], "no frames of the"),
        ([arguments[0], f"--data={wider}"], "another expression model"),
    ):
        result = CliRunner().invoke(score_main, bad)
        assert result.exit_code == 1 and sentence in result.output, result.output
