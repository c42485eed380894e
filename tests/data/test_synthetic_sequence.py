"""Sequences of a synthetic person: smooth motion, a truthful file, somebody else's motion."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from gghead.animation.frames import Frames, read_sequence, split_or_all
from gghead.cli.dataset_tool import main
from gghead.data.synthetic.sequence import YAW, draw, sample_motion, sample_scenes, smooth
from gghead.template import load_template
from gghead.training.avatar.score import region_masks

NAMES = tuple(load_template("head").blendshapes)


def run_recipe(*arguments):
    return CliRunner().invoke(main, ["sequence", *map(str, arguments)])


@pytest.fixture(scope="module")
def person(tmp_path_factory):
    path = tmp_path_factory.mktemp("sequence") / "person.zip"
    result = run_recipe(
        f"--dest={path}", "--frames=10", "--resolution=32", "--seed=8", "--workers=1"
    )
    assert result.exit_code == 0, result.output
    return path


def test_motion_is_smooth_and_covers_what_faces_do():
    motion = sample_motion(np.random.RandomState(0), NAMES, 600, 25.0)
    column = {name: motion.weights[:, index] for index, name in enumerate(NAMES)}
    assert motion.weights.min() >= 0 and motion.weights.max() <= 1
    # a blink closes within three frames
    assert np.abs(np.diff(motion.weights, axis=0)).max() < 0.55
    # words and pauses
    assert column["jawOpen"].max() > 0.6 and (column["jawOpen"] == 0).mean() > 0.05
    left, right = column["mouthSmileLeft"], column["mouthSmileRight"]
    assert left.max() > 0.5 and np.abs(left - right).max() < 0.3
    closed = column["eyeBlinkLeft"] > 0.9
    assert 5 <= (closed[1:] & ~closed[:-1]).sum() <= 25 and closed.mean() < 0.15
    assert not column["mouthClose"].any()
    assert [name for name in NAMES if not column[name].any()] == ["mouthClose"]
    assert 0.3 < np.abs(motion.turns[:, 0]).max() <= 2 * YAW + 1e-9
    assert np.abs(np.diff(motion.turns, axis=0)).max() < 0.03


def test_noise_has_unit_variance_whatever_its_smoothness():
    for sigma in (2.0, 20.0):
        curves = np.stack([smooth(np.random.RandomState(seed), 200, sigma) for seed in range(60)])
        assert curves.std() == pytest.approx(1, abs=0.1)
        assert np.abs(np.diff(curves)).mean() == pytest.approx(
            np.sqrt(2 / np.pi) / (np.sqrt(2) * sigma), rel=0.1
        )


def test_the_file_is_a_tracked_sequence_with_the_truth_in_it(person):
    sequence = read_sequence(str(person))
    scenes = sample_scenes(10, 32, 8, 25.0)
    assert (
        sequence.format == "avatar" and sequence.coefficient_names == NAMES and sequence.fps == 25
    )
    assert [sequence.split_of(index) for index in (0, 7, 8, 9)] == [
        "train",
        "train",
        "test",
        "test",
    ]
    np.testing.assert_allclose(sequence.coefficients.numpy(), scenes.weights, atol=1e-6)
    np.testing.assert_allclose(sequence.cameras.label().numpy(), scenes.labels, atol=1e-6)
    rgb, mask, marks = draw(scenes, 9)
    frame = sequence.get(9)
    assert np.array_equal(frame.rgb.permute(1, 2, 0).numpy(), rgb) and np.array_equal(
        frame.alpha[0].numpy(), mask
    )
    np.testing.assert_allclose(sequence.landmarks[9].numpy(), marks, atol=1e-6)
    # over white, as a video in front of a wall
    assert torch.allclose(sequence.backdrop, torch.ones(3))


def test_landmarks_follow_the_jaw(person):
    scenes = sample_scenes(10, 32, 8, 25.0)
    weights = np.zeros_like(scenes.weights[:2])
    weights[1, NAMES.index("jawOpen")] = 1
    shut, open_ = (
        draw(type(scenes)(32, 8, NAMES, weights, scenes.labels[:2]), index)[2] for index in (0, 1)
    )
    moved = np.linalg.norm(open_ - shut, axis=1)
    assert moved[8] > 0.03 and moved[57] > 0.02  # chin and lower lip
    assert moved[27:31].max() < 0.002 and moved[36:48].max() < 0.002  # nose and eyes
    frames = Frames(split_or_all(read_sequence(str(person)).resize((64, 64)), "test"))
    assert set(region_masks(frames, 0)) == {"mouth", "eyes"}


def test_the_same_bytes_whatever_the_workers(person, tmp_path):
    result = run_recipe(
        f"--dest={tmp_path / 'two.zip'}",
        "--frames=10",
        "--resolution=32",
        "--seed=8",
        "--workers=2",
    )
    assert result.exit_code == 0, result.output
    assert (tmp_path / "two.zip").read_bytes() == person.read_bytes()


def test_somebody_else_can_lead(person, tmp_path):
    dest = tmp_path / "driven.zip"
    result = run_recipe(
        f"--dest={dest}",
        "--seed=3",
        f"--drive={person}",
        "--split=test",
        "--resolution=32",
        "--workers=1",
    )
    assert result.exit_code == 0, result.output
    drive, driven = split_or_all(read_sequence(str(person)), "test"), read_sequence(str(dest))
    assert len(driven) == 2 and driven.split_of(0) == "test"
    torch.testing.assert_close(driven.coefficients, drive.coefficients)
    torch.testing.assert_close(driven.cameras.label(), drive.cameras.label())
    assert (driven.get(0).rgb.float() - drive.get(0).rgb.float()).abs().mean() > 5  # another person


def test_wrong_uses_are_a_sentence(person, tmp_path):
    (tmp_path / "w.csv").write_text("jawOpen\n0\n")
    for options, sentence in (
        ([f"--dest={tmp_path / 'x'}"], "must end in .zip"),
        ([f"--dest={tmp_path / 'x.zip'}", "--split=test"], "--split chooses frames of --drive"),
        (
            [f"--dest={tmp_path / 'x.zip'}", "--frames=3", "--test-frames=4"],
            "4 of 3 frames cannot be the test frames",
        ),
        (
            [f"--dest={tmp_path / 'x.zip'}", f"--drive={tmp_path / 'w.csv'}"],
            "is a table and has no cameras",
        ),
        (
            [f"--dest={tmp_path / 'x.zip'}", f"--drive={person}", "--split=val"],
            "no frames of the split 'val'",
        ),
    ):
        result = run_recipe(*options, "--resolution=8", "--workers=1")
        assert result.exit_code == 1 and sentence in result.output, result.output
    assert not (tmp_path / "x.zip").exists()
