"""Scoring encoders: same views for all, the right averages, the command end to end, the GAN's
heads, broken input."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers.capture_zip import SIZE, ball, write_captures
from helpers.small_network import small_network
from helpers.small_reconstructor import small_reconstructor
from PIL import Image

from gghead import checkpoints
from gghead.cli.common import parse_names
from gghead.reconstruction.report import compare
from gghead.torch_utils.errors import UserError
from gghead.training.cli.score_encoder import main
from gghead.training.encoder.data import read_captures
from gghead.training.encoder.score import (
    YAWS,
    Scores,
    capture_heads,
    gan_heads,
    montage,
    score,
    table,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_captures(tmp_path_factory.mktemp("captures") / "balls.zip", subjects=3, views=8)


@pytest.fixture(scope="module")
def captures(data):
    return read_captures(str(data))


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "reconstructor-000001.safetensors"
    checkpoints.save(small_reconstructor(), path)
    return path


def run(*options):
    return CliRunner().invoke(main, [str(option) for option in options])


# ------------------------------------------------------------------------------------------ scoring
def test_the_truth_scores_best_and_no_target_is_given(captures):
    given = []

    def truth(subject, moment):
        def method(views):
            given.append(views.names)
            return ball(subject, moment), {"note": 1}

        return method

    heads = list(capture_heads(captures, ["001"], ["1"]))
    scores = score({"right": truth(1, 1), "wrong": truth(2, 0)}, heads, [1, 2], targets=3)
    right, wrong = scores.of("right", 1)[0], scores.of("wrong", 1)[0]
    assert (
        right["psnr_mask"] > wrong["psnr_mask"] + 5 and right["iou"] > 0.99 and right["note"] == 1
    )
    assert wrong["iou"] < 0.9
    assert scores.of("right", 1)[0]["psnr_mask"] == scores.of("right", 2)[0]["psnr_mask"], (
        "the same views judge"
    )
    assert given[0] == given[1] and given[2] == given[3], "methods are given the same views"
    targets = set(heads[0].every.names) - set(given[2])
    assert len(targets) >= 3 and len(given[2]) == 2
    every = heads[0].every
    assert every.size == (SIZE, SIZE)


def record(method, views, subject, value):
    return {
        "method": method,
        "views": views,
        "subject": subject,
        "expression": "0",
        "psnr_mask": value,
    }


def test_means_are_over_heads():
    scores = Scores(
        [
            record("encoder", 1, "a", 20.0),
            record("encoder", 1, "b", 30.0),
            record("fit", 1, "b", 27.0),
            record("encoder", 2, "a", 25.0),
        ]
    )
    assert [
        (row["method"], row["views"], row["heads"], row["psnr_mask"]) for row in scores.means()
    ] == [("encoder", 1, 2, 25.0), ("fit", 1, 1, 27.0), ("encoder", 2, 1, 25.0)]
    lines = table(scores).splitlines()
    assert len(lines) == 4 and "PSNR in mask" in lines[0] and "27.00" in lines[2]


def test_montage_holds_all_images():
    assert montage(torch.zeros(1, 3, 8, 8)).max() == 0
    five = montage(torch.zeros(5, 3, 9, 9))
    assert five.shape == (9, 9, 3) and (five == 255).mean() == pytest.approx(4 / 9)


def test_lists_of_subjects():
    names = ("000", "001", "012", "anna", "b-c")
    assert parse_names("0-1,12,anna", names, "--subjects") == ("000", "001", "012", "anna")
    assert parse_names("b-c", names, "--subjects") == ("b-c",)
    with pytest.raises(
        UserError, match="--subjects=0-3: there is no subject 2; there are 000, 001"
    ):
        parse_names("0-3", names, "--subjects")


# -------------------------------------------------------------------------------------- the command
def test_command_scores_the_encoder_and_its_refinement(tmp_path, data, network):
    options = [f"--data={data}", "--subjects=1-2", "--views=1,3", "--targets=2", "--resolution=24"]
    result = run(
        *options, f"--network={network}", f"--outdir={tmp_path}", "--sheets=2", "--refine=2"
    )
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "scores.json").read_text())
    assert {(row["method"], row["views"], row["heads"]) for row in content["means"]} == {
        ("encoder", 1, 4),
        ("encoder", 3, 4),
        ("refined", 1, 4),
        ("refined", 3, 4),
    }
    one = next(entry for entry in content["records"] if entry["method"] == "encoder")
    assert {"psnr_mask", "psnr", "ssim", "iou", "inputs_psnr_mask", "seconds"} <= set(
        one
    ) and "distance" not in one
    sheet = np.asarray(Image.open(tmp_path / "sheet-002-0.png"))
    assert sheet.shape[0] >= 4 * 24 and sheet.shape[1] >= 7 * 24, (
        "a row per method and number of views"
    )
    assert (tmp_path / "sheet-002-1.png").is_file() and not (tmp_path / "sheet-001-0.png").exists()


@pytest.mark.parametrize(
    "options, what",
    [
        (["--subjects=7"], "no subject 7"),
        (["--subjects=1", "--views=9"], "cannot give 9 inputs"),
        (["--subjects=1", "--geometry=nowhere.npz"], "--geometry=nowhere.npz does not exist"),
    ],
)
def test_wrong_options_are_refused(tmp_path, data, network, options, what):
    result = run(f"--network={network}", f"--data={data}", f"--outdir={tmp_path}", *options)
    assert result.exit_code == 1 and what in result.output, result.output


# ---------------------------------------------------------------------------------- the GAN's heads
def trained_looking_reconstructor():
    model = small_reconstructor()
    model.generator.mapping.w_avg.copy_(torch.linspace(-1, 1, 8))
    return model


def test_gan_heads_are_what_the_generator_draws():
    model = trained_looking_reconstructor().generator
    first, second = gan_heads(model, [3, 4], 24)
    assert len(first.every) == len(YAWS) == 20 and first.subject == "3"
    ws = model.mapping(model.seed_to_z(4), None, 0.7)
    values, _ = compare(model.gaussians(ws), second.every)
    assert (values["psnr"] > 45).all(), "only 8 bits are lost"
    with pytest.raises(UserError, match="was not trained as a GAN"):
        list(gan_heads(small_network(), [0], 24))


def test_round_trip_through_the_command(tmp_path):
    path = tmp_path / "reconstructor-000001.safetensors"
    checkpoints.save(trained_looking_reconstructor(), path)
    result = run("--data=gan:0-1", f"--network={path}", "--views=4", "--resolution=24")
    assert result.exit_code == 0, result.output
    assert "encoder        4     2" in result.output and (tmp_path / "sheet-0-0.png").is_file()
