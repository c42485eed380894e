"""Scaling curves: every encoder is trained once, also after an interruption; what is drawn and
refused."""

import json

import pytest
import scaling
import torch
from click.testing import CliRunner
from helpers.capture_zip import write_captures
from helpers.small_reconstructor import reconstructor_config
from PIL import Image
from scaling import (
    BASES,
    ScalingPlan,
    complete,
    config_at,
    curve,
    draw,
    measure,
    place,
    table,
)
from scaling_curves import main

from gghead.torch_utils import config as config_json
from gghead.torch_utils.errors import UserError
from gghead.training.encoder.config import PRESETS, EncoderTrainConfig, check
from gghead.training.encoder.data import read_captures
from gghead.training.run import run_folder

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_captures(tmp_path_factory.mktemp("captures") / "balls.zip", subjects=4, views=8)


def small(data, **changes):
    return config_json.replace(
        PRESETS["tiny"],
        {
            "model": reconstructor_config(),
            "data": {"path": str(data), "holdout": ["003"]},
            "steps": 1,
            "tick": 1,
            "stages": [{"image_size": 24, "views": [1, 2], "targets": 2, "batch": 1}],
            "rates": {"warmup": 1},
            "precision": "fp32",
            **changes,
        },
    )


def test_axes_meet_in_a_base_that_is_trained_once(tmp_path, data):
    config, said = small(data), []
    plan = ScalingPlan(
        {"identities": (2, 3), "width": (8, 16), "guided": (0, 1)},
        ("003",),
        ("000", "001"),
        (1, 2),
        targets=2,
    )
    points = measure(config, plan, tmp_path, CPU, said.append)
    base = {"identities": 3, "cameras": 8, "width": 16, "guided": 1}
    assert [point["at"] for point in points] == [
        base,
        {**base, "identities": 2},
        {**base, "width": 8},
        {**base, "guided": 0},
    ]
    assert len(list((tmp_path / "runs").iterdir())) == 4 and len(said) == 12
    for point in points:
        options = run_folder.read_options(tmp_path / "runs" / point["run"], EncoderTrainConfig)
        assert place(options) == point["at"], "the run is what the point says"
    assert [row["views"] for row in points[0]["seen"]] == [1, 2] and points[0]["seen"][0][
        "heads"
    ] == 4
    assert points[0]["seen"] != points[0]["unseen"] and points[0]["unseen"][0]["heads"] == 2
    assert measure(config, plan, tmp_path, CPU, said.append) == points and len(said) == 12, (
        "nothing is done again"
    )
    assert [point["at"]["width"] for point in curve(points, "width")] == [8, 16]
    assert [point["at"]["guided"] for point in curve(points, "guided")] == [0, 1] and len(
        curve(points, "cameras")
    ) == 1
    draw(points, tmp_path / "curves.png", counts=(1, 2))
    with Image.open(tmp_path / "curves.png") as image:
        assert image.size == (3 * 420, 300), "identities, width, input views"
    lines = table(points).splitlines()
    assert len(lines) == 6 and lines[2].startswith("| identities 2 |") and "guided 0" in lines[-1]
    assert f"{points[0]['unseen'][1]['psnr_mask']:.2f}" in lines[3]
    with pytest.raises(UserError, match="other settings; choose another --outdir"):
        measure(config_json.replace(config, {"steps": 2}), plan, tmp_path, CPU)


def test_an_interrupted_training_goes_on(tmp_path, data, monkeypatch):
    config = small(data)
    plan = ScalingPlan({}, ("003",), ("000",), (1,), targets=2)
    with monkeypatch.context() as patch:
        patch.setattr(scaling, "load_encoder", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            measure(config, plan, tmp_path, CPU)
    assert not (tmp_path / scaling.RESULTS).exists()
    (points,) = measure(config, plan, tmp_path, CPU)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [points["run"]], (
        "the run that was there is scored"
    )


def test_what_is_refused(tmp_path, data):
    config = small(data)
    with pytest.raises(UserError, match="no scaling axis 'depth'"):
        config_at(config, "depth", 3)
    with pytest.raises(
        UserError, match="--identities asks for 4, but .* has 3 to train on; ask for fewer"
    ):
        measure(config, ScalingPlan({"identities": (4,)}, ("003",), ("000",)), tmp_path, CPU)
    with pytest.raises(UserError, match="--cameras asks for 9, but .* has 8"):
        measure(config, ScalingPlan({"cameras": (9,)}, ("003",), ("000",)), tmp_path, CPU)
    (tmp_path / scaling.RESULTS).write_text("{}")
    with pytest.raises(UserError, match="scaling.json is no file of scaling_curves.py"):
        measure(config, ScalingPlan({}, ("003",), ("000",)), tmp_path, CPU)


def test_the_command(tmp_path, data, monkeypatch):
    monkeypatch.setitem(BASES, "quick", small(data))
    options = [
        f"--data={data}",
        "--holdout=3",
        "--identities=1,3",
        "--axes=identities",
        "--views=1,4",
        "--steps=1",
        "--precision=fp32",
        f"--outdir={tmp_path}",
        f"--plot={tmp_path / 'plot.png'}",
    ]
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 0, result.output
    assert "| identities 1 |" in result.output and (tmp_path / "plot.png").is_file()
    settings = json.loads((tmp_path / scaling.RESULTS).read_text())["settings"]
    assert settings["seen"] == ["000"] and settings["unseen"] == ["003"], (
        "people that every encoder was trained on"
    )
    result = CliRunner().invoke(main, [*options, "--seen=0,1"])
    assert (
        result.exit_code == 1
        and "--seen=0,1: there is no subject 1; there are 000." in result.output
    )
    result = CliRunner().invoke(main, [*options, "--axes=depth"])
    assert result.exit_code == 1 and "no scaling axis 'depth'" in result.output


def test_bases_can_be_trained(data):
    for name, config in BASES.items():
        config = config_json.replace(config, {"data": {"path": str(data)}})
        check(config)
        assert place(complete(config, read_captures(str(data))))["identities"] == 4, name
