"""encode.py: every head of captures as latents, from other cameras each time, and a prior over
them."""

import json

import pytest
import torch
from click.testing import CliRunner
from helpers.capture_zip import SIZE, write_captures
from helpers.small_network import SMALL
from helpers.small_reconstructor import small_reconstructor

from gghead import checkpoints
from gghead import latent as latent_files
from gghead.cli.encode import main as encode
from gghead.reconstruction.collection import CollectionConfig, encode_heads
from gghead.reconstruction.inputs import from_captures
from gghead.training.cli.score_prior import main as score_prior
from gghead.training.cli.train_prior import main as train_prior
from gghead.training.encoder.data import read_captures


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_captures(tmp_path_factory.mktemp("captures") / "balls.zip", subjects=4, views=5)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "reconstructor-000001.safetensors"
    checkpoints.save(small_reconstructor(generator={"image_size": 32}), path)
    return path


def call(command, *options, fails=False):
    result = CliRunner().invoke(command, [str(option) for option in options])
    assert bool(result.exit_code) == fails and "Traceback" not in result.output, result.output
    return result.output


def test_latents_are_those_of_the_views_they_name(data):
    model, captures = small_reconstructor(), read_captures(str(data)).resize(SIZE)
    config = CollectionConfig(views=(2, 3), draws=3, seed=1)
    found = {
        latent.info["target"]: latent
        for latent in encode_heads(model, captures, ["001", "002"], config)
    }
    assert len(found) == 2 * 2 * 2 * 3 and {"001-0-0", "002-1-2m"} <= set(found)
    assert len({tuple(latent.info["views"]) for latent in found.values()}) > 5, (
        "other cameras each time"
    )
    assert {len(latent.info["views"]) for latent in found.values()} == {2, 3}
    for name, subject, expression in (("001-1-0", "001", "1"), ("002-0-1m", "002", "0")):
        views = from_captures(captures, subject, expression, found[name].info["views"])
        views = views.mirror() if name.endswith("m") else views
        wanted = model.encode(views.rgb[None], views.cameras.reshape(1, len(views)))
        assert torch.equal(found[name].ws, wanted.ws) and torch.equal(
            found[name].residual, wanted.residual
        )
    alone = {
        latent.info["target"]: latent for latent in encode_heads(model, captures, ["002"], config)
    }
    assert torch.equal(alone["002-0-1"].residual, found["002-0-1"].residual)


def test_names_of_subjects_lead_out_of_no_folder(network, tmp_path):
    def rename(content):
        for frame in content["frames"]:
            frame["subject"] = f"../../../{frame['subject']}"

    data = write_captures(tmp_path / "balls.zip", subjects=1, views=3, change=rename)
    call(
        encode,
        f"--network={network}",
        f"--data={data}",
        "--views=2",
        "--draws=1",
        "--mirror=0",
        f"--resolution={SIZE}",
        f"--outdir={tmp_path / 'a/b/latents'}",
    )
    assert (
        sorted(file.parent.parent for file in tmp_path.rglob("*.safetensors"))
        == [tmp_path / "a/b/latents"] * 2
    )


def test_mirrored_views_show_the_mirrored_head(data):
    views = from_captures(read_captures(str(data)), "000", "0")
    mirrored = views.mirror()
    assert torch.equal(mirrored.rgb[1], views.rgb[1].flip(-1)) and torch.equal(
        mirrored.alpha.flip(-1), views.alpha
    )
    yaw, other = views.cameras.angles()[0], mirrored.cameras.angles()[0]
    torch.testing.assert_close(other, -yaw, atol=1e-5, rtol=0)
    torch.testing.assert_close(mirrored.mirror().cameras.cam2world, views.cameras.cam2world)


def test_from_captures_to_a_prior(data, network, tmp_path):
    options = [
        f"--network={network}",
        f"--data={data}",
        "--views=2,3",
        "--draws=2",
        f"--resolution={SIZE}",
    ]
    text = call(encode, *options, f"--outdir={tmp_path / 'latents'}")
    again = CliRunner().invoke(encode, [*options, f"--outdir={tmp_path / 'latents'}"])
    assert again.exit_code == 1 and "holds encoded heads already" in again.output
    assert "32 latents of 4 people" in text
    call(encode, *options, "--subjects=2", "--mirror=0", f"--outdir={tmp_path / 'one'}")
    files = [
        tmp_path / part / "002-1-1" / "latent-encoder.safetensors" for part in ("latents", "one")
    ]
    assert (
        files[0].read_bytes() == files[1].read_bytes()
        and len(list((tmp_path / "one").iterdir())) == 4
    )
    latent = latent_files.load(files[0], checkpoints.load(network).generator)
    assert latent.info["subject"] == "002" and latent.ws.shape[2] == SMALL["w_dim"]
    text = call(
        train_prior,
        f"--network={network}",
        f"--latents={tmp_path / 'latents'}",
        "--preset=few",
        "--components=5",
        "--holdout-share=0.25",
        "--steps=40",
        "--tick=4",
        "--snap=1",
        "--patience=2",
        "--batch=8",
        f"--outdir={tmp_path / 'runs'}",
    )
    assert (
        "24 heads of 3 people" in text
        and "8 of 1 person held out" in text
        and "Untrained: train" in text
    )
    assert "of the variance of held-out heads" in text
    folder = next((tmp_path / "runs").iterdir())
    call(train_prior, f"--resume={folder}")
    call(score_prior, f"--prior={folder}", "--samples=20", "--images=1", "--prior-steps=2")
    table = json.loads((folder / "score.json").read_text())["nearest"]
    assert (
        len(table["samples"]) == len(table["training"]) == len(table["held_out"])
        and table["training"][0] > 0
    )


def test_what_encode_refuses(data, network, tmp_path):
    options = [f"--network={network}", f"--data={data}", f"--outdir={tmp_path}"]
    assert "asks for 6, but subject 000 has 5 cameras in front; ask for fewer" in call(
        encode, *options, "--views=2,6", fails=True
    )
    assert "--subjects=9: there is no subject 9" in call(
        encode, *options, "--subjects=9", "--views=2", fails=True
    )
    assert not list(tmp_path.iterdir())
