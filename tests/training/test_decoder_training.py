"""Training a decoder: batches, learning, exact resume, the style distribution, the command,
broken input."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers.capture_zip import write_captures
from helpers.small_network import small_network
from helpers.spoiled import check_one_bad_update

from gghead import checkpoints
from gghead.image_metrics import psnr
from gghead.torch_utils import config as config_json
from gghead.torch_utils.errors import UserError
from gghead.training.cli.train_decoder import main
from gghead.training.decoder.config import PRESETS, DecoderDataConfig, check
from gghead.training.decoder.data import HeadViews
from gghead.training.decoder.score import score_held_out
from gghead.training.decoder.styles import set_distribution
from gghead.training.decoder.trainer import DecoderTrainer
from gghead.training.encoder.data import read_captures

SMALL = {
    "generator": {
        "z_dim": 8,
        "w_dim": 8,
        "plane_resolution": 16,
        "latent_resolution": 8,
        "grid": 16,
        "image_size": 24,
        "cbase": 256,
        "cmax": 16,
    },
    "batch": 2,
    "views": 2,
    "steps": 6,
    "tick": 2,
    "snapshot_ticks": 1,
    "rates": {"warmup": 2, "ema_steps": 5.0},
    "loss": {"adversarial": 0.0},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_captures(tmp_path_factory.mktemp("captures") / "balls.zip", subjects=3)


@pytest.fixture(scope="module")
def heads(data):
    return HeadViews(read_captures(str(data)), DecoderDataConfig(), 24)


@pytest.fixture(scope="module")
def heads_32(data):
    return HeadViews(read_captures(str(data)), DecoderDataConfig(), 32)


def judged():
    return config(
        generator={"image_size": 32},
        discriminator={"cbase": 64, "cmax": 8, "map_depth": 1},
        loss={"adversarial": 0.1, "adversarial_from": 0.1},
    )


def config(data="captures.zip", **changes):
    small = config_json.replace(PRESETS["tiny"], SMALL)
    return config_json.replace(config_json.replace(small, {"data": {"path": str(data)}}), changes)


# ------------------------------------------------------------------------------------------ batches
def test_what_a_step_sees_follows_from_seed_and_step(heads):
    first, again = heads.batch(2, 3, 0, 5), heads.batch(2, 3, 0, 5)
    assert first.image.shape == (2, 3, 3, 24, 24) and first.head.unique().numel() == 2
    assert torch.equal(first.image, again.image) and torch.equal(first.head, again.head)
    assert not torch.equal(first.image, heads.batch(2, 3, 0, 6).image)
    outside = first.alpha.expand_as(first.image) == 0
    color = first.background[..., None, None].expand_as(first.image)
    assert outside.any() and torch.equal(first.image[outside], color[outside])


def test_held_out_views_are_never_trained_on(heads):
    for seen, held_out in zip(heads.heads, heads.held_out, strict=True):
        assert len(held_out) == 1 and not set(seen) & set(held_out)


def test_a_head_with_held_out_views_alone_is_refused(data):
    with pytest.raises(UserError, match=r"balls\.zip has no head with more than 99 views"):
        HeadViews(read_captures(str(data)), DecoderDataConfig(held_out_views=99), 24)


def test_a_score_compares_held_out_views_with_their_own_heads(heads, data):
    trainer = DecoderTrainer(config(), heads)
    values, pairs = score_held_out(trainer.ema, trainer.styles.weight, heads, [2, 0])
    assert values.shape == (2,) and pairs.shape == (2, 2, 3, 24, 24)
    truth = heads.read(np.array([2]), heads.held_out[2][None], torch.ones(1, 1, 3))
    assert torch.equal(pairs[0, 0], truth.image[0, 0])
    found = psnr(pairs[0, 1], truth.image[0, 0], truth.alpha[0, 0])
    assert float(values[0]) == pytest.approx(float(found), rel=1e-4)
    whole = HeadViews(read_captures(str(data)), DecoderDataConfig(held_out_views=0), 24)
    assert score_held_out(trainer.ema, trainer.styles.weight, whole, [0])[0].shape == (0,)


# -------------------------------------------------------------------------------------------- steps
def test_it_learns_heads_apart(heads):
    trainer = DecoderTrainer(config(steps=60, style_noise=0.0), heads)
    batch = heads.batch(3, 4, 1, 0)

    def loss(styles):
        with torch.no_grad():
            return float(trainer.terms(trainer.model, batch, styles)[0]["pixels"])

    before = loss(trainer.styles(batch.head))
    for _ in range(60):
        trainer.step()
    after = loss(trainer.styles(batch.head))
    exchanged = loss(trainer.styles(batch.head.roll(1)))
    assert after < 0.75 * before and after < 0.98 * exchanged
    assert "Loss/pixels" in trainer.stats.state_dict()


def test_a_resumed_run_is_the_same_run(heads_32):
    heads, options = heads_32, judged()
    whole, first = (DecoderTrainer(options, heads) for _ in range(2))
    for _ in range(4):
        whole.step()
    for _ in range(2):
        first.step()
    second = DecoderTrainer(options, heads)
    second.load_state_dict(first.state_dict())
    for _ in range(2):
        second.step()
    wanted = whole.state_dict()
    for name in ("model", "ema"):
        for key, value in second.state_dict()[name].items():
            assert torch.equal(value, wanted[name][key]), key
    assert torch.equal(second.state_dict()["styles"], wanted["styles"])
    for key, value in second.judge.network.state_dict().items():
        assert torch.equal(value, wanted["judge"]["network"][key]), key


def test_the_discriminator_waits_for_its_step_and_then_moves(heads_32):
    trainer = DecoderTrainer(judged(), heads_32)
    start = {name: value.clone() for name, value in trainer.judge.network.state_dict().items()}

    def has_moved():
        now = trainer.judge.network.state_dict()
        return any(not torch.equal(now[name], value) for name, value in start.items())

    trainer.step()
    assert not has_moved()
    trainer.step()
    assert has_moved() and "Loss/adversarial" in trainer.stats.state_dict()


def test_one_bad_update_is_counted_and_spoils_nothing(heads):
    trainer = DecoderTrainer(config(), heads)
    check_one_bad_update(trainer, trainer.model.synthesis.const)


# --------------------------------------------------------------------------- the style distribution
@pytest.mark.parametrize("depth", (1, 2, 3))
def test_the_mapping_draws_mean_plus_directions_times_z(depth):
    model = small_network(map_depth=depth)
    width = model.mapping.w_dim
    scales = torch.linspace(2, 0.1, width)
    styles = 3 + torch.randn(4000, width, generator=torch.Generator().manual_seed(0)) * scales
    before = model.raw_attributes(styles[:2, None].expand(-1, model.num_ws, -1), "none")
    changed = small_network(map_depth=depth)
    set_distribution(changed, styles)
    # The same heads at the shifted place in the latent space …
    shift = changed.mapping.w_avg - styles.mean(0)
    moved = (styles[:2] + shift)[:, None].expand(-1, model.num_ws, -1)
    for name, value in changed.raw_attributes(moved, "none").items():
        assert torch.allclose(value, before[name], atol=2e-4), name
    # … and z draws from the distribution.
    z = torch.randn(20000, model.z_dim, generator=torch.Generator().manual_seed(1))
    drawn = changed.mapping(z)[:, 0] - shift
    assert torch.allclose(drawn.mean(0), styles.mean(0), atol=0.1)
    assert torch.allclose(drawn.std(0), styles.std(0), rtol=0.1)


def test_a_single_head_is_what_every_seed_draws():
    model = small_network()
    set_distribution(model, torch.ones(1, model.mapping.w_dim))
    first, second = model.sample([0, 1], noise_mode="none").means
    assert torch.allclose(first, second, atol=1e-5)


# ---------------------------------------------------------------------------------------- commands
def test_the_command_trains_resumes_and_its_network_draws_seeds(data, tmp_path):
    options = [f"--data={data}", f"--outdir={tmp_path}", "--device=cpu", "--precision=fp32"]
    options += ["--adversarial=0", "--batch=2", "--views=2", "--steps=4", "--tick=2", "--snap=1"]
    for key, value in SMALL["generator"].items():
        options.append(f"--set=generator.{key}={value}")
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 0, result.output
    assert "3 subjects" in result.output and "views never trained on" in result.output
    (folder,) = tmp_path.iterdir()
    assert folder.name == "00000-decoder-tiny-balls"
    assert {"preview000004.png", "fakes000004.png"} <= {path.name for path in folder.iterdir()}
    made = checkpoints.read_info(folder).provenance
    assert made["yaw"] == [-57.3, 57.3] and made["stage"] == "decoder"
    model = checkpoints.load(folder, kind="generator")
    assert model.samples_seeds and bool(torch.isfinite(model.sample(0).means).all())
    resumed = CliRunner().invoke(main, [f"--resume={folder}", "--steps=6"])
    assert resumed.exit_code == 0, resumed.output
    assert (folder / "network-snapshot-000006.safetensors").exists()


def test_missing_data_and_camera_conditioning_are_refused():
    with pytest.raises(UserError, match="is missing: name captures"):
        check(config(""))
    with pytest.raises(UserError, match="images of a power of two, but they have 24"):
        check(config(loss={"adversarial": 0.1}))
    with pytest.raises(UserError, match="one style for all its cameras"):
        check(config(generator={"pose_cond": True}))
