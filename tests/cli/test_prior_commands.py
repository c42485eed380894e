"""The commands of priors: training, exact resume, drawing heads, scores, and what they refuse."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from helpers.prior_latents import write_latents
from helpers.small_network import small_network
from PIL import Image

import gghead
from gghead import checkpoints
from gghead import latent as latent_files
from gghead.cli.gen_samples import main as gen_samples
from gghead.models.latent_tokens import LatentTokens
from gghead.training.cli.score_prior import main as score_prior
from gghead.training.cli.train_prior import main as train_prior


@pytest.fixture(scope="module")
def model():
    return small_network(image_size=32)


# ------------------------------------------------------------------------ commands
@pytest.fixture(scope="module")
def network(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "network-snapshot-000001.safetensors"
    checkpoints.save(model, path)
    return path


@pytest.fixture(scope="module")
def latents(model, tmp_path_factory):
    return write_latents(tmp_path_factory.mktemp("latents"), model, count=12)


SMALL = ["--batch=8", "--patch=2", "--tick=5", "--snap=1"]


@pytest.fixture(scope="module")
def run(network, latents, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    rows = [f"p{index},{index},{index % 2}" for index in range(12)]
    (latents / "cond.csv").write_text("\n".join(["name,a,b", *rows]))
    text = call(
        train_prior,
        f"--network={network}",
        f"--latents={latents}",
        f"--cond={latents / 'cond.csv'}",
        "--steps=10",
        f"--outdir={out}",
        *SMALL,
    )
    assert "11 heads" in text and "1 held out" in text and "conditions of 2 numbers" in text
    return next(out.iterdir())


def call(command, *options, fails=False):
    result = CliRunner().invoke(command, [str(option) for option in options])
    assert bool(result.exit_code) == fails and "Traceback" not in result.output, result.output
    return result.output


def test_a_run_leaves_what_it_should(run, model, network):
    names = {path.name for path in run.iterdir()}
    assert {
        "training_options.json",
        "stats.jsonl",
        "log.txt",
        "prior-000005.safetensors",
        "prior-000010.safetensors",
        "preview000010.png",
        "training-state-000010.pt",
    } <= names
    options = json.loads((run / "training_options.json").read_text())
    assert run.name == f"00000-prior-tiny-{Path(options['latents']).name}"
    stats = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    assert stats[-1]["Progress/step"]["mean"] == 10
    assert {"Check/train", "Check/held_out", "Loss/w", "Loss/z"} <= set(stats[0])
    prior = gghead.load(run, kind="prior")
    assert prior.config.cond_dim == 2 and prior.config.network == str(network)
    prior.check_owner(model)
    assert prior.tokens.kinds[0][0] == model.num_ws and isinstance(prior.tokens, LatentTokens)


def test_a_resumed_run_is_the_run_it_continues(run, network, latents, tmp_path):
    options = [
        f"--network={network}",
        f"--latents={latents}",
        f"--cond={latents / 'cond.csv'}",
        *SMALL,
    ]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    call(train_prior, *options, "--steps=10", f"--outdir={whole}")
    call(train_prior, *options, "--steps=10", f"--outdir={cut}")
    folder = next(cut.iterdir())
    for name in ("prior-000010.safetensors", "training-state-000010.pt"):
        (folder / name).unlink()
    text = call(train_prior, f"--resume={folder}")
    assert "step 10" in text and "step 5 " not in text
    counted = [
        json.loads(line)["Progress/step"]["mean"]
        for line in (folder / "stats.jsonl").read_text().splitlines()
    ]
    assert counted == [5, 10]
    first, second = (checkpoints.load(next(path.iterdir())) for path in (whole, cut))
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    text = call(train_prior, f"--resume={folder}", "--batch=4", fails=True)
    assert "leave out --batch" in text


def test_a_run_is_not_resumed_with_other_latents(network, model, tmp_path):
    folder = write_latents(tmp_path / "latents", model, count=5)
    runs = tmp_path / "runs"
    call(
        train_prior,
        f"--network={network}",
        f"--latents={folder}",
        "--steps=5",
        f"--outdir={runs}",
        *SMALL,
    )
    write_latents(tmp_path / "latents", model, count=5, seed=9)
    text = call(train_prior, f"--resume={next(runs.iterdir())}", "--steps=10", fails=True)
    assert "The latents are not those that" in text


def test_heads_are_drawn_from_a_prior(run, model, network, tmp_path):
    options = [f"--network={network}", f"--prior={run}", "--prior-steps=3"]
    call(
        gen_samples,
        *options,
        "--seeds=0-3",
        f"--outdir={tmp_path / 'many'}",
        "--shapes=1",
        "--save-latents=1",
    )
    call(gen_samples, *options, "--seeds=2", f"--outdir={tmp_path / 'one'}", "--shapes=1")
    for name in ("prior0002.png", "prior0002.ply"):
        assert (tmp_path / "many" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    latent = latent_files.load(tmp_path / "many" / "prior0002" / "latent-sample.safetensors", model)
    torch.testing.assert_close(latent.ws, gghead.load(run).sample(2, steps=3).ws)
    assert latent.residual is not None and latent.info["target"] == "prior0002"
    cond = f"--cond={run}/../cond.csv:p3"
    (run.parent / "cond.csv").write_text("p3,3,1\np4,4,0\n")
    call(gen_samples, *options, "--seeds=2", f"--outdir={tmp_path / 'cond'}", cond, "--guidance=3")
    assert (tmp_path / "cond" / "prior0002.png").read_bytes() != (
        tmp_path / "one" / "prior0002.png"
    ).read_bytes()
    (run.parent / "cond.csv").unlink()


def test_what_gen_samples_says(run, network, tmp_path):
    base = [f"--network={network}", f"--outdir={tmp_path}"]
    assert "belong to a prior" in call(gen_samples, *base, "--seeds=1", "--guidance=2", fails=True)
    assert "--prior draws seeds" in call(
        gen_samples, *base, f"--prior={run}", f"--latents={run}", fails=True
    )
    assert "there is none; give --cond" in call(
        gen_samples, *base, f"--prior={run}", "--seeds=1", "--guidance=2", fails=True
    )
    assert "is a generator of heads, but a prior over latents is needed" in call(
        gen_samples, *base, f"--prior={network}", "--seeds=1", fails=True
    )
    assert "is a prior over latents, but a generator of heads is needed" in call(
        gen_samples, f"--network={run}", "--seeds=1", fails=True
    )
    other = tmp_path / "network-snapshot-000002.safetensors"
    checkpoints.save(small_network(seed=3, image_size=32), other)
    text = call(gen_samples, f"--network={other}", f"--prior={run}", "--seeds=1", fails=True)
    assert f"was trained on latents of the network '{network}'; take that one" in text


def test_the_score(run, network, latents, tmp_path):
    text = call(
        score_prior,
        f"--prior={run}",
        "--samples=30",
        "--images=2",
        f"--outdir={tmp_path}",
        "--prior-steps=4",
    )
    assert "distance to the nearest training head" in text and "of held-out heads" in text
    result = json.loads((tmp_path / "score.json").read_text())
    assert (
        set(result["distances"]) == {"prior", "normal"}
        and 0 <= result["nearest"]["closer_than_usual"] <= 1
    )
    assert (tmp_path / "nearest.png").is_file() and (tmp_path / "beside.png").is_file()
    with Image.open(tmp_path / "samples.png") as sheet:
        assert sheet.size == (4 * 3 * 32, 4 * 32), "16 heads, three views of 32 pixels"


def test_the_score_of_a_prior_over_seeds(network, tmp_path):
    call(
        train_prior,
        f"--network={network}",
        "--samples=60",
        "--steps=5",
        f"--outdir={tmp_path}",
        *SMALL,
    )
    folder = next(tmp_path.iterdir())
    call(score_prior, f"--prior={folder}", "--samples=40", "--images=1", "--prior-steps=4")
    result = json.loads((folder / "score.json").read_text())
    assert (
        set(result["distances"]) == {"prior", "normal", "generator"} and result["truth"] == "seeds"
    )


def test_nothing_to_train_on(network):
    assert "nothing to train on" in call(train_prior, f"--network={network}", fails=True)
    assert '"samples": 5' in call(train_prior, "--samples=5", "--dry-run=1")
