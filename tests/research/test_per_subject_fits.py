"""Per-subject fits beside an encoder: the same heads and views, added to its scores, compared."""

import json

import pytest
from click.testing import CliRunner
from head_fit import gain_lines, gains, read_scores
from helpers.capture_zip import write_captures
from helpers.small_reconstructor import small_reconstructor
from per_subject_fits import main

from gghead import checkpoints
from gghead.torch_utils.errors import UserError
from gghead.training.cli.score_encoder import main as score_encoder
from gghead.training.encoder.score import Scores


def run(command, *options):
    return CliRunner().invoke(command, [str(option) for option in options])


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """scores.json of an encoder: subjects 001 and 002 in one expression, one view and three."""
    folder = tmp_path_factory.mktemp("scored")
    data = write_captures(folder / "balls.zip", subjects=3, views=8)
    network = folder / "reconstructor-000001.safetensors"
    checkpoints.save(small_reconstructor(), network)
    options = ["--subjects=1-2", "--expressions=0", "--views=1,3", "--targets=2"]
    result = run(
        score_encoder, f"--data={data}", f"--network={network}", "--resolution=24", *options
    )
    assert result.exit_code == 0, result.output
    return folder / "scores.json"


def test_fits_are_added_to_the_scores_of_an_encoder(tmp_path, scored):
    first = run(
        main, f"--scores={scored}", "--steps=2", "--subjects=2", f"--outdir={tmp_path / 'a'}"
    )
    assert first.exit_code == 0, first.output
    assert "encoder above fit, PSNR in mask, dB: N=1 " in first.output and "N=3" in first.output
    content = json.loads((tmp_path / "a/scores.json").read_text())
    assert [
        (entry["subject"], entry["views"], entry["steps"])
        for entry in content["records"]
        if entry["method"] == "fit"
    ] == [("002", 1, 2), ("002", 3, 2)]
    assert (tmp_path / "a/sheet-002-0.png").is_file()

    earlier = tmp_path / "a/scores.json"
    second = run(main, f"--scores={earlier}", "--steps=1", "--kind=plain", "--subjects=1")
    assert second.exit_code == 0 and "encoder above plain" in second.output, second.output
    content = json.loads((tmp_path / "a/fits/scores.json").read_text())
    assert {(row["method"], row["views"], row["heads"]) for row in content["means"]} == {
        *(("encoder", views, 2) for views in (1, 3)),
        *(("template", views, 2) for views in (1, 3)),
        *((kind, views, 1) for kind in ("fit", "plain") for views in (1, 3)),
    }
    assert content["fits"] == {
        "fit": {"seconds": None, "steps": 2},
        "plain": {"seconds": None, "steps": 1},
    }


def test_a_repeated_command_goes_on(tmp_path, scored):
    options = ["--steps=1", f"--outdir={tmp_path}"]
    assert run(main, f"--scores={scored}", "--subjects=1", *options).exit_code == 0
    own = tmp_path / "scores.json"
    before = json.loads(own.read_text())["records"]
    more = run(main, f"--scores={own}", *options)
    assert more.exit_code == 0, more.output
    records = json.loads(own.read_text())["records"]
    assert records[: len(before)] == before, "nothing is fitted twice"
    assert {entry["subject"] for entry in records[len(before) :]} == {"002"}
    other = run(main, f"--scores={own}", "--steps=2", f"--outdir={tmp_path}")
    assert other.exit_code == 1 and "has a fit with seconds=None, steps=1" in other.output


def test_heads_of_a_generator_are_fitted_as_well(tmp_path):
    model = small_reconstructor()
    model.generator.mapping.w_avg.fill_(0.1)
    network = tmp_path / "reconstructor-000001.safetensors"
    checkpoints.save(model, network)
    options = ["--data=gan:3", "--views=2", "--targets=1", "--resolution=24"]
    assert run(score_encoder, f"--network={network}", *options).exit_code == 0
    result = run(main, f"--scores={tmp_path / 'scores.json'}", "--steps=1")
    assert result.exit_code == 0 and "encoder above fit" in result.output, result.output


def test_what_is_no_scores_file_is_refused(tmp_path, scored):
    assert "no subject 7" in run(main, f"--scores={scored}", "--subjects=7").output
    missing = run(main, f"--scores={tmp_path / 'nowhere.json'}")
    assert missing.exit_code == 1 and "is no scores.json of score_encoder.py" in missing.output
    (tmp_path / "other.json").write_text('{"records": [], "means": []}')
    with pytest.raises(UserError, match="'network'"):
        read_scores(tmp_path / "other.json")


def record(method, views, subject, value):
    return {
        "method": method,
        "views": views,
        "subject": subject,
        "expression": "0",
        "psnr_mask": value,
        "psnr": value - 1,
    }


def test_gains_are_over_common_heads():
    scores = Scores(
        [
            record("encoder", 1, "a", 20.0),
            record("encoder", 1, "b", 30.0),
            record("fit", 1, "b", 27.0),
            record("encoder", 2, "a", 25.0),
        ]
    )
    assert gains(scores, "encoder", "fit") == [{"views": 1, "heads": 1, "gain": 3.0, "least": 3.0}]
    assert gain_lines(scores)[0] == (
        "encoder above fit, PSNR in mask, dB: N=1 +3.00 (least +3.00, 1 heads)"
    )
    assert len(gain_lines(scores)) == 2
