"""Training an encoder: batches, losses, steps, exact resume, the command end to end, broken
input."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner
from helpers.capture_zip import write_captures
from helpers.places import ROOT
from helpers.small_network import small_network
from helpers.small_reconstructor import TINY, reconstructor_config, small_reconstructor
from helpers.spoiled import check_one_bad_update

import gghead
from gghead import checkpoints
from gghead.cameras import Cameras
from gghead.cli.common import expand
from gghead.models.reconstructor import Reconstructor
from gghead.rendering import render
from gghead.torch_utils import config as config_json
from gghead.torch_utils.distributed import Processes
from gghead.torch_utils.errors import UserError
from gghead.training.cli.train_encoder import main
from gghead.training.encoder import losses
from gghead.training.encoder.config import (
    PRESETS,
    EncoderDataConfig,
    EncoderLossConfig,
    EncoderStage,
    check,
    stage_at,
)
from gghead.training.encoder.data import CaptureHeads, SampledHeads, draws_from_gan, read_captures
from gghead.training.encoder.run import _Run, run
from gghead.training.encoder.trainer import EncoderTrainer
from gghead.training.run.run_folder import load_state
from gghead.training.run.stats import StatsWriter

# discriminators take powers of two
LARGER = {"image_size": 32, "views": [1, 2], "targets": 2, "batch": 2}
STAGE = EncoderStage(image_size=24, views=(2, 3), targets=2, batch=3)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_captures(tmp_path_factory.mktemp("captures") / "balls.zip", subjects=4)


@pytest.fixture(scope="module")
def captures(data):
    return read_captures(str(data))


def heads(captures, size=24, **changes):
    return CaptureHeads(captures, EncoderDataConfig(**changes), size)


def config(**changes):
    small = {
        "model": reconstructor_config(),
        "steps": 20,
        "stages": [{"image_size": 24, "views": [1, 2], "targets": 2, "batch": 2}],
        "discriminator": {"cbase": 64, "cmax": 8, "map_depth": 1},
        "rates": {"warmup": 2, "ema_steps": 5.0},
    }
    return config_json.replace(config_json.replace(PRESETS["tiny"], small), changes)


def state_of(trainer):
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


# ------------------------------------------------------------------------------------------ batches
def test_batches_follow_from_seed_and_step_and_are_shared_by_rows(captures):
    source = heads(captures)
    whole = source.batch(STAGE, 0, 7, slice(0, 3))
    again = source.batch(STAGE, 0, 7, slice(1, 3))
    assert (
        whole.rgb.shape[0] == 3
        and whole.target.shape == (3, 2, 3, 24, 24)
        and whole.rgb.shape[1] in (2, 3)
    )
    assert torch.equal(whole.rgb[1:], again.rgb) and torch.equal(
        whole.target_cameras.label()[1:], again.target_cameras.label()
    )
    assert not torch.equal(
        whole.rgb, source.batch(STAGE, 1, 7, slice(0, 3)).rgb
    ) or not torch.equal(whole.target, source.batch(STAGE, 1, 7, slice(0, 3)).target)
    assert {source.batch(STAGE, 0, step, slice(0, 1)).rgb.shape[1] for step in range(12)} == {2, 3}


def test_first_target_is_an_input_and_the_others_are_not(captures):
    batch = heads(captures).batch(STAGE, 0, 3, slice(0, 3))
    inputs, targets = batch.cameras.label(), batch.target_cameras.label()
    torch.testing.assert_close(targets[:, 0], inputs[:, 0])
    torch.testing.assert_close(batch.target[:, 0], batch.rgb[:, 0])
    same = (targets[:, 1:, None] - inputs[:, None]).abs().amax(-1) < 1e-6
    assert not same.any()


def test_mirrored_heads_are_seen_by_mirrored_cameras(captures):
    """Every mirrored image, with its camera, is the flipped image of the mirrored camera."""
    plain = heads(captures, mirror=False, jitter=0.0)
    both = heads(captures, jitter=0.0)
    mirrored = 0
    for step in range(6):
        batch = both.batch(STAGE, 0, step, slice(0, 3))
        for row in range(3):
            images = {
                tuple(label.mul(1e4).round().tolist()): image
                for label, image in zip(
                    batch.cameras.mirror().label()[row], batch.rgb[row].flip(-1), strict=True
                )
            }
            for group in plain.heads:
                rgb, _, labels = plain._read(group, False, (1, 1, 1))
                for label, image in zip(labels, rgb, strict=True):
                    found = images.get(tuple(label.mul(1e4).round().tolist()))
                    mirrored += found is not None and torch.equal(found, image)
    assert mirrored > 5


def test_jitter_is_the_same_for_inputs_and_targets(captures):
    plain = heads(captures, jitter=0.0, mirror=False).batch(STAGE, 0, 2, slice(0, 3))
    tinted = heads(captures, jitter=0.3, mirror=False).batch(STAGE, 0, 2, slice(0, 3))
    solid = plain.alpha > 0.99
    for row in range(3):
        mask = (
            solid[row].expand(-1, 3, -1, -1)
            & (plain.target[row] > 0.1)
            & (tinted.target[row] < 0.99)
        )
        ratio = torch.where(mask, tinted.target[row] / plain.target[row], torch.nan)
        per_channel = ratio.movedim(1, 0).flatten(1)
        assert (per_channel.nanmean(1) - 1).abs().max() > 0.01
        spread = torch.nan_to_num(per_channel - per_channel.nanmean(1, keepdim=True)).abs().max()
        assert spread < 0.02  # masks of 8 bits


def test_hold_outs_identities_and_cameras(captures):
    assert heads(captures, holdout=("003",)).subjects == 3
    assert len(heads(captures, holdout=("000",), identities=2).heads) == 4
    assert {len(group) for group in heads(captures, cameras=3).heads} == {3}
    with pytest.raises(UserError, match="has no subject '7'"):
        heads(captures, holdout=("7",))
    with pytest.raises(UserError, match="no subject left to train on"):
        heads(captures, holdout=tuple(captures.subjects))
    with pytest.raises(UserError, match="from two cameras at once"):
        heads(captures.select(cameras=["00"]))


def test_samples_of_the_gan_come_with_their_latents():
    model = small_network()
    source = SampledHeads(model, 24)
    batch = source.batch(STAGE, 0, 5, slice(0, 3))
    again = source.batch(STAGE, 0, 5, slice(2, 3))
    torch.testing.assert_close(batch.rgb[2:], again.rgb, atol=1e-4, rtol=0)
    head = model.assemble(model.decode(batch.z, batch.ws), batch.ws)
    out = render(head, batch.target_cameras, 24, background=1.0, eps2d=0.3)
    torch.testing.assert_close(out.color.clamp(0, 1), batch.target, atol=1e-4, rtol=0)
    torch.testing.assert_close(out.alpha, batch.alpha, atol=1e-4, rtol=0)
    torch.testing.assert_close(batch.target[:, 0], batch.rgb[:, 0])


def test_share_of_the_gan_is_that_of_the_steps():
    drawn = sum(draws_from_gan(0.25, 0, step) for step in range(2000)) / 2000
    assert 0.21 < drawn < 0.29 and not draws_from_gan(0.0, 0, 1) and draws_from_gan(1.0, 0, 1)


# ------------------------------------------------------------------------------------------- losses
def test_equal_images_cost_nothing_and_regions_weigh_more():
    image = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    alpha, options = torch.ones(2, 1, 32, 32), EncoderLossConfig(ssim=0.3)
    parts = losses.image_terms(image, image.clone(), alpha, alpha, None, options)
    assert float(losses.total(parts, options)) == pytest.approx(0, abs=1e-6)
    other, weight = image.clone(), torch.zeros(2, 1, 32, 32)
    other[..., 10:14, 10:14] += 0.1
    weight[..., 10:14, 10:14] = 1.0
    light = losses.image_terms(other, image, alpha, alpha, None, options)["pixels"]
    heavy = losses.image_terms(other, image, alpha, alpha, weight, options)["pixels"]
    assert 1.9 < float(heavy / light) < 4.1  # twice the differences, four times their squares


def test_surface_terms_of_known_surfaces():
    model = small_network()
    attributes, options = model.attributes, EncoderLossConfig(tv=1.0, place=1.0, position=1.0)
    count = attributes.num
    raw = {"position": torch.full((1, count, 3), 0.3), "scale": torch.zeros(1, count, 3)}
    gaussians = model.gaussians(model.mapping.w_avg.expand(1, model.num_ws, -1))
    shift = torch.tensor([0.02, 0.0, -0.01])
    gaussians.means = attributes.position[None] + shift
    offset = shift.expand(1, 16, 3)
    parts = losses.surface_terms(attributes, raw, gaussians, options)
    assert float(parts["tv"]) == pytest.approx(0, abs=1e-7)
    near = losses.place_term(attributes, gaussians, offset)
    assert float(near) == pytest.approx(0, abs=1e-6)
    assert float(parts["position"]) == pytest.approx(float(shift.norm()), rel=1e-3)
    raw["position"][0, : count // 2] += 1
    assert float(losses.surface_terms(attributes, raw, gaussians, options)["tv"]) > 0.01
    moved = losses.place_term(attributes, gaussians, offset + 0.1)
    assert float(moved) == pytest.approx(0.1, rel=1e-4)


# -------------------------------------------------------------------------------------------- steps
def test_it_learns_a_head_from_views_and_shows_it_from_another(captures):
    generator = {"plane_resolution": 16, "grid": 16, "cbase": 256, "cmax": 32}
    options = config(
        steps=80,
        data={"identities": 1, "mirror": False, "jitter": 0.0},
        model={"generator": generator},
        rates={"encoder": 3e-3, "decoder": 2e-2, "ema_steps": 5.0},
    )
    trainer = EncoderTrainer(
        options,
        heads(
            captures.select(cameras=["00", "01", "03", "04"]),
            identities=1,
            mirror=False,
            jitter=0.0,
        ),
    )
    views = captures.select(subjects=["000"]).resize(24).views("000", "0")
    rgb, cameras = views.rgb[None].float() / 255, Cameras.from_label(views.cameras.label()[None])

    def error():
        with torch.no_grad():
            head = trainer.ema.encode(rgb[:, :2], cameras[:, :2]).gaussians(trainer.ema.generator)
            return float(
                (render(head, cameras[:, 2:3], 24, background=1.0).color - rgb[:, 2:3]).abs().mean()
            )

    before = error()
    for _ in range(options.steps):
        trainer.step()
    assert error() < 0.5 * before


@pytest.mark.parametrize("network", ["model", "discriminator"])
def test_a_bad_update_is_counted_and_made_harmless(captures, network):
    trainer = EncoderTrainer(
        config(loss={"adversarial": 0.1, "adversarial_from": 1}, stages=[LARGER]),
        heads(captures, 32),
    )
    trainer.step()
    module = trainer.judge.network if network == "discriminator" else trainer.model
    check_one_bad_update(
        trainer, next(p for p in module.parameters() if p.requires_grad), updates=2
    )


def test_a_resumed_run_is_the_same_run(captures):
    options = config(loss={"adversarial": 0.1, "adversarial_from": 1}, stages=[LARGER])
    straight, first, second = (EncoderTrainer(options, heads(captures, 32)) for _ in range(3))
    for _ in range(4):
        straight.step()
    for _ in range(2):
        first.step()
    second.load_state_dict(first.state_dict())
    for _ in range(2):
        second.step()
    for name, value in straight.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name
    for name, value in straight.judge.network.state_dict().items():
        assert torch.equal(value, second.judge.network.state_dict()[name]), name


def test_reading_ahead_changes_nothing_and_happens_elsewhere(captures, monkeypatch):
    stages = [
        {"image_size": 24, "views": [1, 2], "targets": 2, "batch": 2},
        {"start": 3, "image_size": 24, "views": [1], "targets": 3, "batch": 1},
    ]
    options = config(stages=stages, data={"gan_share": 0.4}, steps=8)
    readers, batch = set(), CaptureHeads.batch
    monkeypatch.setattr(
        CaptureHeads,
        "batch",
        lambda *arguments: (readers.add(threading.current_thread().name), batch(*arguments))[1],
    )
    plain, ahead, resumed = (
        EncoderTrainer(options, heads(captures), init=small_network()) for _ in range(3)
    )
    for _ in range(8):
        plain.step()
    assert readers == {threading.current_thread().name}
    readers.clear()
    with contextlib.closing(ahead), contextlib.closing(resumed):
        ahead.read_ahead()
        resumed.read_ahead()
        for _ in range(5):
            ahead.step()
        resumed.step()  # what it has read ahead by then is not what it goes on with
        resumed.load_state_dict(ahead.state_dict())
        for _ in range(3):
            resumed.step()
    assert readers and threading.current_thread().name not in readers
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_the_command_reads_ahead_at_every_size(data, tmp_path, monkeypatch):
    stages = [
        {"image_size": 24, "views": [1], "targets": 2, "batch": 1},
        {"start": 2, "image_size": 32, "views": [1], "targets": 2, "batch": 1},
    ]
    readers, batch = [], CaptureHeads.batch

    def spied(self, stage, *arguments):
        readers.append((self.size, stage.targets, threading.current_thread().name))
        return batch(self, stage, *arguments)

    monkeypatch.setattr(CaptureHeads, "batch", spied)
    before = threading.active_count()
    run(config(stages=stages, steps=4, data={"path": str(data)}), tmp_path, torch.device("cpu"))
    steps = [reader for reader in readers if reader[1] == 2]  # previews have more targets
    assert {size for size, _, _ in steps} == {24, 32} and len(steps) == 4
    assert all(name.startswith("gghead-data") for _, _, name in steps)
    assert threading.active_count() == before


def test_latent_space_stays_and_a_frozen_decoder_too(captures):
    generator = small_network()
    options = config(init="given", model={"generator": config_json.to_dict(generator.config)})
    for decoder, moved in ((4e-3, True), (0.0, False)):
        trainer = EncoderTrainer(
            config_json.replace(options, {"rates": {"decoder": decoder}}),
            heads(captures),
            init=generator,
        )
        for _ in range(3):
            trainer.step()
        changed = {
            name
            for name, value in generator.state_dict().items()
            if not torch.equal(value, trainer.model.generator.state_dict()[name])
        }
        assert all(name.startswith(("decoder", "background")) for name in changed)
        assert bool(changed) == moved
        assert not torch.equal(
            trainer.model.to_residual.weight, torch.zeros_like(trainer.model.to_residual.weight)
        )


def test_discriminator_waits_for_its_step(captures):
    options = config(loss={"adversarial": 0.1, "adversarial_from": 2}, stages=[LARGER])
    trainer = EncoderTrainer(options, heads(captures, 32))
    start = {name: value.clone() for name, value in trainer.judge.network.state_dict().items()}

    def moved():
        return any(
            not torch.equal(value, start[name])
            for name, value in trainer.judge.network.state_dict().items()
        )

    trainer.step()
    trainer.step()
    assert not moved()
    trainer.step()
    assert moved() and {"Loss/adversarial", "Loss/discriminator"} <= set(trainer.stats.collect())


def test_two_processes_see_the_batch_of_one(captures):
    options = config(stages=[{"image_size": 24, "views": [2], "targets": 2, "batch": 4}])
    source = heads(captures)
    whole = source.batch(options.stages[0], 0, 0, slice(0, 4))
    parts = []
    for rank in range(2):
        trainer = EncoderTrainer(options, source, processes=Processes(rank, 2))
        share = options.stages[0].batch // trainer.processes.world_size
        parts.append(
            source.batch(options.stages[0], 0, 0, slice(rank * share, (rank + 1) * share)).rgb
        )
    assert torch.equal(torch.cat(parts), whole.rgb)


def test_a_background_is_learnt_beside_the_head(captures):
    options = config(
        data={"background": "image"},
        model={"background": {"kind": "sphere", "channels": [4, 4], "resolution": 8}},
    )
    trainer = EncoderTrainer(options, heads(captures, background="image"))
    trainer.step()
    trainer.step()
    summary = trainer.stats.collect()
    assert {"Loss/silhouette", "Loss/pixels"} <= set(summary)
    assert any(
        bool(value.grad.any())
        for name, value in trainer.model.named_parameters()
        if name.startswith("background") and value.grad is not None
    )


def test_region_weights_reach_the_loss(captures):
    torch.manual_seed(0)
    stages = [{"image_size": 24, "views": [2], "targets": 2, "batch": 2, "region": 5.0}]
    options = config(stages=stages, model={"generator": {"template": "head"}})
    trainer = EncoderTrainer(options, heads(captures))
    batch = trainer.captures.batch(options.stages[0], 0, 0, slice(0, 2))
    with torch.no_grad():
        plain, _, _ = trainer.terms(trainer.model, batch)
        heavy, _, _ = trainer.terms(trainer.model, batch, region=5.0)
    assert float(heavy["pixels"]) > float(plain["pixels"])


def test_the_schedule():
    stages = PRESETS["headsup"].stages
    assert [stage_at(stages, step).batch for step in (0, 899_999, 900_000)] == [64, 64, 32]
    assert (
        stage_at(stages, 10**6).views == (16,)
        and PRESETS["headsup"].loss.adversarial_from == 240_000
    )


# -------------------------------------------------------------------------------------- the command
@pytest.fixture
def tiny_preset(monkeypatch):
    monkeypatch.setitem(
        PRESETS,
        "tiny",
        config(stages=[{"image_size": 24, "views": [1, 2], "targets": 2, "batch": 2}]),
    )


def invoke(*arguments):
    return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


def test_train_resume_and_load(data, tmp_path, tiny_preset):
    common = [f"--outdir={tmp_path}", "--tick=2", "--snap=1", "--precision=fp32"]
    result = invoke(f"--data={data}", "--holdout=003", "--steps=4", *common)
    assert result.exit_code == 0, result.output
    run = tmp_path / "00000-encoder-tiny-balls"
    assert "3 subjects, 6 heads" in result.output and "held-out heads" in result.output
    assert (run / "preview000004.png").stat().st_size > 500
    assert [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    model = gghead.load(run, kind="reconstructor")
    assert isinstance(model, Reconstructor) and model.config.channels == TINY["channels"]
    result = invoke(f"--resume={run}", "--steps=6")
    assert result.exit_code == 0 and "step 6" in result.output
    straight = invoke(f"--data={data}", "--holdout=003", "--steps=6", *common)
    assert straight.exit_code == 0
    other = gghead.load(tmp_path / "00001-encoder-tiny-balls")
    # Rates fall along a cosine of all steps, so a run that is lengthened is another one; a resumed
    # one is the same.
    assert not torch.equal(other.to_residual.weight, gghead.load(run).to_residual.weight)


def test_on_the_heads_of_a_gan(tmp_path, tiny_preset):
    checkpoints.save(small_network(), tmp_path / "gan.safetensors")
    result = invoke(
        f"--init={tmp_path / 'gan.safetensors'}",
        "--decoder=frozen",
        "--steps=2",
        f"--outdir={tmp_path}",
        "--tick=1",
        "--snap=2",
        "--precision=fp32",
    )
    assert result.exit_code == 0, result.output
    assert "samples of" in result.output and "in 100% of the steps" in result.output
    model = gghead.load(tmp_path / "00000-encoder-tiny-samples")
    reference = small_network().state_dict()
    assert all(
        torch.equal(value, reference[name]) for name, value in model.generator.state_dict().items()
    )


def test_two_processes_under_torchrun(data, tmp_path):
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "scripts/train_encoder.py",
        f"--data={data}",
        f"--outdir={tmp_path}",
        "--steps=2",
        "--tick=1",
        "--batch=2",
        "--resolution=32",
        "--views=1",
        "--width=16",
        "--layers=1",
        "--precision=fp32",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240
    )
    assert result.returncode == 0, result.stdout + result.stderr
    (run,) = tmp_path.iterdir()
    assert load_state(run)["trainer"]["step"] == 2 and result.stdout.count("Run folder") == 1


def test_refusals(data, tmp_path, tiny_preset):
    sentences = {
        "--data is missing: name captures": [],
        "--decoder=frozen needs a decoder that has been trained": [
            f"--data={data}",
            "--decoder=frozen",
        ],
        "--gan-share needs the network": [f"--data={data}", "--gan-share=0.5"],
        "has no subject '9'": [f"--data={data}", "--holdout=9"],
        "--init names an avatar": ["--init=avatar"],
    }
    avatar = pytest.MonkeyPatch()
    load = checkpoints.load
    avatar.setattr(
        checkpoints,
        "load",
        lambda path, **options: object() if path == "avatar" else load(path, **options),
    )
    for sentence, arguments in sentences.items():
        result = invoke(*arguments, f"--outdir={tmp_path}", "--precision=fp32")
        assert result.exit_code == 1 and sentence in result.output, result.output
    avatar.undo()
    result = invoke(f"--resume={tmp_path}", "--width=8")
    assert result.exit_code == 1 and "leave out --width" in result.output
    bare = write_captures(
        tmp_path / "bare.zip",
        subjects=2,
        views=2,
        change=lambda content: [frame.pop("mask") for frame in content["frames"]],
    )
    result = invoke(f"--data={bare}", f"--outdir={tmp_path}", "--precision=fp32")
    assert result.exit_code == 1 and "has no masks" in result.output


def test_corrections_are_added_but_not_taken_away(data, tmp_path, tiny_preset):
    checkpoints.save(small_reconstructor(), tmp_path / "plain.safetensors")
    common = [f"--data={data}", "--views=1", "--dry-run=1", "--precision=fp32"]
    more = invoke(*common, f"--init={tmp_path / 'plain.safetensors'}", "--corrections=1")
    assert json.loads(more.output)["model"]["corrections"] == 1
    checkpoints.save(small_reconstructor(corrections=1), tmp_path / "more.safetensors")
    kept = invoke(*common, f"--init={tmp_path / 'more.safetensors'}")
    assert json.loads(kept.output)["model"]["corrections"] == 1
    result = invoke(*common, f"--init={tmp_path / 'more.safetensors'}", "--corrections=0")
    assert result.exit_code == 1 and "was trained with corrections" in result.output


def test_set_does_not_change_the_model_that_is_continued(data, tmp_path, tiny_preset):
    path = tmp_path / "plain.safetensors"
    checkpoints.save(small_reconstructor(), path)
    common = [f"--data={data}", f"--init={path}", "--views=1", "--dry-run", "--precision=fp32"]
    result = invoke(*common, "--set=model.width=40")
    assert result.exit_code == 1 and "--set changes the model of" in result.output, result.output
    result = invoke(*common, "--set=stages.region=3", "--set=model.corrections=2")
    assert result.exit_code == 0, result.output
    options = json.loads(result.output)
    assert [stage["region"] for stage in options["stages"]] == [3.0]
    assert options["model"]["corrections"] == 2


def test_an_added_correction_starts_from_the_network_that_was_there(captures):
    plain = small_reconstructor()
    model = EncoderTrainer(
        config(model=config_json.replace(plain.config, {"corrections": 1})), captures, init=plain
    ).model
    for name, value in plain.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert any(name.startswith("correction.") for name in model.state_dict())


def test_lists_of_names():
    assert expand("108-110,anna,2-x") == ["108", "109", "110", "anna", "2-x"]
    assert expand("008-010") == ["008", "009", "010"]


def test_options_reach_the_config(data, tiny_preset):
    result = invoke(
        f"--data={data}",
        "--views=1,4",
        "--batch=6",
        "--width=32",
        "--guided=0",
        "--background=image",
        "--resolution=48",
        "--dry-run=1",
        "--precision=fp32",
        "--corrections=2",
        "--lr=1e-4",
    )
    assert result.exit_code == 0
    options = json.loads(result.output)
    assert options["stages"][0] == {
        "start": 0,
        "image_size": 48,
        "views": [1, 4],
        "targets": 2,
        "batch": 6,
        "region": 0.0,
    }
    assert (
        options["model"]["width"],
        options["model"]["guided"],
        options["model"]["corrections"],
    ) == (32, False, 2)
    assert options["rates"]["encoder"] == 1e-4
    preset = PRESETS["tiny"].rates
    assert options["rates"]["decoder"] == pytest.approx(1e-4 * preset.decoder / preset.encoder)
    assert (
        options["model"]["background"]["kind"] == "sphere"
        and options["data"]["background"] == "image"
    )


def test_checks_of_the_config(data):
    with pytest.raises(UserError, match="cannot be shared by 3 processes"):
        check(config(data={"path": str(data)}), world_size=3)
    with pytest.raises(UserError, match="powers of two"):
        check(config(data={"path": str(data)}, loss={"adversarial": 0.1}))
    with pytest.raises(UserError, match="at least one input view"):
        check(config(data={"path": str(data)}, stages=[{"views": []}]))


def test_small_reconstructor_is_a_fixture_that_differs_by_seed():
    first, second = (small_reconstructor(seed).to_residual.weight for seed in (0, 1))
    assert not torch.equal(first, second)


class Elsewhere(torch.Tensor):
    """Behaves as if it lay on another device: only ``to`` lets it meet other tensors."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function is torch.Tensor.to:
            return args[0].as_subclass(torch.Tensor).to(*args[1:], **(kwargs or {}))
        flat = [
            value
            for part in args
            for value in (part if isinstance(part, (list, tuple)) else [part])
        ]
        if any(type(value) is torch.Tensor and value.ndim for value in flat):
            raise RuntimeError("Expected all tensors to be on the same device")
        return super().__torch_function__(function, types, args, kwargs or {})


def test_samples_without_a_network_to_draw_them_are_refused():
    with pytest.raises(ValueError, match="there is no init"):
        EncoderTrainer(config(data={"gan_share": 1.0}, init="gan"), None)


def test_previews_of_samples_leave_the_device_that_they_are_made_on(tmp_path, monkeypatch):
    """On a GPU the first preview of a run without captures ended the run."""
    network = small_network()
    options = config(
        data={"gan_share": 1.0},
        init="gan",
        model={"generator": config_json.to_dict(network.config)},
    )
    trainer = EncoderTrainer(options, None, init=network)
    make = trainer.samples.batch

    def elsewhere(*arguments):
        batch = make(*arguments)
        images = {
            name: getattr(batch, name).as_subclass(Elsewhere) for name in ("rgb", "target", "alpha")
        }
        return replace(batch, **images)

    monkeypatch.setattr(trainer.samples, "batch", elsewhere)
    with StatsWriter(tmp_path, tensorboard=False) as writer:
        _Run(options, tmp_path, trainer, writer, 0.0, None).save_preview(tmp_path, writer)
    assert (tmp_path / "preview000000.png").stat().st_size > 500
