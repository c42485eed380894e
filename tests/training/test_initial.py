"""``train.py --init``: both networks of a run are taken, grow or turn to other images, and go on
where they were."""

import copy
import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from helpers.small_gan import BATCH, SIZE, SMALL, batch_at, labels, tiny_config, write_dataset

from gghead import checkpoints
from gghead.cameras import Cameras
from gghead.models.config import BackgroundConfig
from gghead.models.generator import Generator
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.ops.resample import downsample2x, fir_kernel
from gghead.training.cli.train_gan import main
from gghead.training.gan import config as schedule
from gghead.training.gan.config import PRESETS, LossConfig, OptimizerConfig, Stage
from gghead.training.gan.initial import follow_network, load_initial, plan_start, read_initial
from gghead.training.gan.trainer import Trainer
from gghead.training.run import run_folder

LARGER = (
    Stage(image_size=SIZE, grid=16, lambda_tv=1.0),
    Stage(start_kimg=3, image_size=2 * SIZE, grid=32, fade_kimg=1, lambda_tv=1.0),
)


def warm_config(**changes):
    return tiny_config(
        loss=LossConfig(r1_interval=2, blur_sigma=1.5, blur_fade_kimg=1.5, swap_fade_kimg=1.5),
        optimizer=OptimizerConfig(ema_kimg=0.05),
        kimg=5,
        **changes,
    )


def trained(folder, config, steps=2, kimg=None):
    """A run folder with a state and a snapshot after ``steps`` steps, which count as ``kimg``."""
    trainer = Trainer(config, labels())
    for step in range(steps):
        trainer.step(batch_at(step, size=trainer.stage.image_size))
    if kimg is not None:
        trainer.begin_at(round(kimg * 1000 / config.batch))
    folder.mkdir(exist_ok=True)
    run_folder.write_options(folder, config)
    run_folder.save_state(folder, trainer.nimg / 1000, {"trainer": trainer.state_dict()})
    checkpoints.save(
        trainer.G_ema,
        run_folder.snapshot_path(folder, trainer.nimg / 1000),
        done=trainer.nimg / 1000,
    )
    return trainer


def started(config, init):
    initial = read_initial(init)
    config, step = plan_start(config, initial)
    trainer = Trainer(config, labels())
    return trainer, load_initial(trainer, initial, step)


def same(a, b, names=None):
    return all(torch.equal(a[name], b[name]) for name in names or a)


# ------------------------------------------------------------------------------------------ growing
def test_a_finished_run_grows_and_its_discriminator_judges_at_first_as_it_did(tmp_path):
    old = trained(tmp_path / "run", warm_config(), kimg=2)
    new, said = started(warm_config(stages=LARGER), tmp_path / "run")
    assert same(old.G.state_dict(), new.G.state_dict()) and same(
        old.G_ema.state_dict(), new.G_ema.state_dict()
    )
    assert not same(new.G.state_dict(), new.G_ema.state_dict())
    assert same(old.D.state_dict(), new.D.state_dict(), list(old.D.state_dict()))
    assert new.nimg == 3000 and new.stage.image_size == 2 * SIZE and new.fade == 0.0
    assert "new are blocks.32, from_rgb.32" in said and "begins at 3 kimg with 32 pixels" in said
    images, c = torch.rand(4, 3, 2 * SIZE, 2 * SIZE) * 2 - 1, labels(4)
    with torch.no_grad():
        torch.testing.assert_close(
            new.D(images, c, new.fade), old.D(downsample2x(images, fir_kernel()), c)
        )
        assert not torch.allclose(new.D(images, c, 1.0), new.D(images, c, 0.0))


def test_the_first_image_of_a_grown_network_is_the_last_one_at_twice_the_size(tmp_path):
    old = trained(tmp_path / "run", warm_config(), kimg=2)
    new, _ = started(warm_config(stages=(LARGER[0], replace(LARGER[1], grid=16))), tmp_path / "run")
    ws = old.G_ema.mapping(torch.randn(2, 8, generator=torch.Generator().manual_seed(0)))
    before, after = (t.G_ema.images(ws, Cameras.orbit(0.2)).color[:, 0] for t in (old, new))
    assert after.shape[-1] == 2 * before.shape[-1]
    # Splats keep their low-pass filter in pixels, so that outlines are as crisp as the larger size
    # allows.
    assert float((F.avg_pool2d(after, 2) - before).abs().mean()) < 0.02
    assert float((before - 1).abs().mean()) > 0.1


def test_warm_ups_are_over_and_go_on_when_they_were_not(tmp_path):
    trained(tmp_path / "warm", warm_config(), kimg=2)
    new, said = started(warm_config(), tmp_path / "warm")
    assert new.nimg == 0 and new.config.init_kimg == 2 and "go on from 2 kimg" in said
    loss, optimizer = new.config.loss, new.config.optimizer
    assert (
        schedule.blur_sigma(loss, new.seen) == 0
        and schedule.swap_probability(loss, new.seen) == loss.swap_end
    )
    assert schedule.ema_beta(optimizer, new.seen, BATCH) == pytest.approx(0.5 ** (BATCH / 50))
    trained(tmp_path / "half", warm_config(), kimg=0.75)
    new, _ = started(warm_config(), tmp_path / "half")
    assert schedule.blur_sigma(loss, new.seen) == pytest.approx(loss.blur_sigma / 2, rel=0.02)
    again = trained(tmp_path / "again", new.config, kimg=1)  # what had been seen adds up
    assert read_initial(tmp_path / "again").kimg == pytest.approx(again.config.init_kimg + 1)


def test_a_step_of_a_grown_run_uses_what_the_schedule_says(tmp_path, monkeypatch):
    trained(tmp_path / "run", warm_config(), kimg=2)
    new, _ = started(warm_config(stages=LARGER), tmp_path / "run")
    blurs = []
    monkeypatch.setattr(
        "gghead.training.gan.losses.gaussian_blur", lambda x, sigma: blurs.append(sigma) or x
    )
    new.step(batch_at(0, size=2 * SIZE))
    assert blurs and set(blurs) == {0.0} and new.nimg == 3000 + BATCH


def test_planes_may_grow_and_the_head_stays(tmp_path):
    config = warm_config()
    old = trained(tmp_path / "run", config)
    finer = replace(config, generator=replace(config.generator, plane_resolution=32))
    new, said = started(finer, tmp_path / "run")
    assert "new are decoder.blocks.1, decoder.to_planes.2" in said
    z = torch.randn(1, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        a, b = (t.G_ema.images(t.G_ema.mapping(z), Cameras.orbit(0.0)).color for t in (old, new))
    assert float((a - b).abs().mean()) < 0.02


def test_a_background_may_be_new(tmp_path):
    config = warm_config()
    trained(tmp_path / "run", config)
    plane = BackgroundConfig(kind="gaussians", resolution=8, cbase=64, cmax=8)
    new, said = started(
        replace(config, generator=replace(config.generator, background=plane)), tmp_path / "run"
    )
    assert "new are background_network" in said
    new.step(batch_at(0))


def test_a_discriminator_of_other_channels_is_taken_as_far_as_it_fits(tmp_path):
    config = warm_config()
    old = trained(tmp_path / "run", config)
    new, said = started(
        replace(config, discriminator=replace(config.discriminator, alpha=True)), tmp_path / "run"
    )
    assert "new are from_rgb.16" in said and torch.equal(new.D.fc.weight, old.D.fc.weight)


# ---------------------------------------------------------------------------------- where it begins
@pytest.mark.parametrize(
    ("source", "preset", "kimg"),
    [
        ("ffhq256", "ffhq512", 6400),
        ("ffhq512", "ffhq1024", 25_000),
        ("ffhq512", "afhq512", 0),
        ("ffhq512", "ffhq256", 0),
        ("ffhq512", "ffhq512", 7400),
        ("ffhq1024", "ffhq1024", 26_000),
        ("tiny", "tiny", 0),
        ("small", "ffhq512", 0),
    ],
)
def test_presets_begin_where_the_run_before_ended(source, preset, kimg):
    class Seen:
        name, kimg, image_size, discriminator = (
            "run",
            PRESETS[source].kimg,
            PRESETS[source].stages[-1].image_size,
            {},
        )

    config, step = plan_start(PRESETS[preset], Seen())
    assert step * config.batch == kimg * 1000 and config.init_kimg == Seen.kimg
    stage, fade = schedule.stage_at(config.stages, step * config.batch)
    larger = stage.image_size > Seen.image_size and len(config.stages) > 1
    assert (fade == 0.0) == (larger and kimg > 0)
    assert schedule.blur_sigma(config.loss, step * config.batch + Seen.kimg * 1000) == 0


def test_an_end_before_the_beginning_is_one_sentence(tmp_path):
    trained(tmp_path / "run", warm_config(), kimg=2)
    with pytest.raises(
        UserError, match="`kimg=1` ends before the stage .* at 3 kimg .*; raise `kimg`"
    ):
        plan_start(replace(warm_config(stages=LARGER), kimg=1), read_initial(tmp_path / "run"))


# ---------------------------------------------------------------------------------------- snapshots
def test_a_snapshot_gives_the_generator_and_says_that_it_has_no_discriminator(tmp_path):
    old = trained(tmp_path / "run", warm_config(), kimg=2)
    new, said = started(warm_config(stages=LARGER), checkpoints.latest_snapshot(tmp_path / "run"))
    assert same(old.G_ema.state_dict(), new.G.state_dict()) and "a snapshot holds none" in said
    assert new.nimg == 0 and new.config.init_kimg == 0
    assert not torch.equal(new.D.fc.weight, old.D.fc.weight)


def test_broken_states_and_other_networks_are_one_sentence(tmp_path):
    trained(tmp_path / "run", warm_config())
    wider = replace(warm_config(), generator=replace(warm_config().generator, w_dim=16))
    with pytest.raises(UserError, match=r"another architecture \(it differs in w_dim\)"):
        started(wider, tmp_path / "run")
    for state in (tmp_path / "run").glob("training-state-*.pt"):
        state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(
        UserError, match="No state in `init=.*` can be read; name one of its snapshots"
    ):
        read_initial(tmp_path / "run")


# -------------------------------------------------------------------------------------- the command
def test_train_grows_a_run_and_resumes_it(tmp_path):
    data, run = write_dataset(tmp_path / "faces"), tmp_path / "run"
    common = [f"--data={data}", "--metrics=none", *SMALL]
    first = CliRunner().invoke(main, [*common, f"--outdir={run}", "--kimg=0.008"])
    assert first.exit_code == 0, first.output
    grown = CliRunner().invoke(
        main,
        [
            *common,
            f"--outdir={tmp_path / 'grown'}",
            f"--init={next(run.iterdir())}",
            "--kimg=0.008",
            "--mbstd-group=2",
        ],
    )
    assert grown.exit_code == 0, grown.output
    assert "init: generator of" in grown.output and "go on from 0.008 kimg" in grown.output
    (folder,) = (tmp_path / "grown").iterdir()
    assert run_folder.read_options(folder).init_kimg == 0.008
    again = CliRunner().invoke(main, [f"--resume={folder}", "--kimg=0.012", "--device=cpu"])
    assert again.exit_code == 0 and run_folder.load_state(folder)["trainer"]["step"] == 3


# ----------------------------------------------------------------------------------- after captures
ANCHORED = LossConfig(r1_interval=2, lambda_anchor=2.0, anchor_fade_kimg=0.024)


def decoded(path, **changes):
    """A snapshot as ``train_decoder.py`` leaves it, of a generator that no preset has."""
    config = replace(tiny_config().generator, uv_maps=True, map_depth=3, **changes)
    torch.manual_seed(0)
    model = Generator(config).requires_grad_(False)
    for value in model.decoder.to_planes.parameters():
        value.normal_(0, 0.1)
    checkpoints.save(model, path, provenance=run_folder.FROM_CAPTURES)
    return model


def test_the_generator_is_taken_as_it_is_with_rates_for_learned_shapes(tmp_path):
    data = write_dataset(tmp_path / "faces")
    decoded(tmp_path / "heads.safetensors", image_size=32)
    options = [f"--data={data}", f"--init={tmp_path / 'heads.safetensors'}", "--device=cpu"]
    options += ["--preset=tiny", "--set=stages.image_size=32", "--fp32=1", "--glr=0.002"]
    result = CliRunner().invoke(main, [*options, "--dry-run"])
    assert result.exit_code == 0, result.output
    config = json.loads(result.output[result.output.index("\n{") :])
    generator = config["generator"]
    assert (generator["uv_maps"], generator["map_depth"], generator["cbase"]) == (True, 3, 128)
    assert generator["template"] == "sphere" and generator["plane_resolution"] == 64  # it grows
    assert config["loss"]["lambda_anchor"] == 1 and config["optimizer"]["g_lr"] == 0.002
    assert "it has learned shapes from captures" in " ".join(result.output.split())


def test_shapes_are_held_to_those_of_the_start_until_that_fades(tmp_path):
    decoded(tmp_path / "heads.safetensors")
    initial = read_initial(tmp_path / "heads.safetensors")
    config = replace(follow_network(tiny_config(), initial), loss=ANCHORED)
    trainer = Trainer(config, labels())
    load_initial(trainer, initial, 0)
    trainer.step(batch_at(0))
    assert float(trainer.stats.collect()["Loss/G/anchor"]["mean"]) < 3e-6  # nothing has moved yet
    trainer.step(batch_at(1))
    assert float(trainer.stats.collect()["Loss/G/anchor"]["mean"]) > 1e-4
    second = Trainer(config, labels())
    second.load_state_dict(copy.deepcopy(trainer.state_dict()))
    for one in (trainer, second):
        one.step(batch_at(2))
    assert same(trainer.G.state_dict(), second.G.state_dict()), "a resumed run has the same anchor"
    trainer.step(batch_at(3))
    assert trainer.anchor is None  # 24 images have been seen


def test_the_weight_of_the_anchor_falls_to_nothing():
    weights = [schedule.anchor_weight(ANCHORED, nimg) for nimg in (0, 12, 24, 100)]
    assert weights == [2.0, 1.0, 0.0, 0.0]
    assert schedule.anchor_weight(replace(ANCHORED, anchor_fade_kimg=0.0), 10**6) == 2.0
