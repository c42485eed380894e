"""Every trainer, every preset, every change of its schedule: what is used afterwards is still
trained.

Presets are shrunk to networks of a few channels; which losses are on, when, and between which sizes
a stage switches stays as it is in the preset.
"""

from dataclasses import replace

import pytest
import torch
from helpers.avatar_sequence import write_sequence
from helpers.capture_zip import write_captures
from helpers.prior_latents import some_latents
from helpers.small_gan import batch_at, labels
from helpers.small_network import small_network
from helpers.small_reconstructor import TINY, small_reconstructor

from gghead.animation.frames import Frames, read_sequence, split_or_all
from gghead.models.reconstructor import Reconstructor
from gghead.rendering import render
from gghead.torch_utils import config as config_json
from gghead.training.avatar.config import PRESETS as AVATARS
from gghead.training.avatar.trainer import AvatarTrainer
from gghead.training.encoder.config import PRESETS as ENCODERS
from gghead.training.encoder.config import stage_at
from gghead.training.encoder.data import CaptureHeads, read_captures
from gghead.training.encoder.losses import total
from gghead.training.encoder.trainer import EncoderTrainer
from gghead.training.expression.config import PRESETS as EXPRESSIONS
from gghead.training.expression.data import Triplets
from gghead.training.expression.trainer import ExpressionTrainer
from gghead.training.gan import config as schedule
from gghead.training.gan.config import PRESETS as GANS
from gghead.training.gan.trainer import Trainer
from gghead.training.prior.config import PRESETS as PRIORS
from gghead.training.prior.data import Heads
from gghead.training.prior.trainer import PriorTrainer, new_prior

CPU = torch.device("cpu")
SMALL_GENERATOR = {
    "z_dim": 8,
    "w_dim": 8,
    "cbase": 64,
    "cmax": 8,
    "latent_resolution": 4,
    "plane_resolution": 8,
    "grid": 12,
    "image_size": 32,
    "template": "sphere",
}


def awake(module, seed=0):
    """Give numbers to what starts at zero: behind a layer of zeros nothing has a gradient in the
    first step."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in module.parameters():
            if not bool(value.any()):
                value.copy_(torch.randn(value.shape, generator=random) * 0.1)


def record(monkeypatch, optimizer):
    """Names of parameters are the caller's; here: which gradients reach the optimizer, before it
    clears them."""
    found, step = {}, optimizer.step

    def keep(*args, **kwargs):
        for group in optimizer.param_groups:
            for value in group["params"]:
                strength = 0.0 if value.grad is None else float(value.grad.abs().sum())
                found[id(value)] = found.get(id(value), 0.0) + strength
        return step(*args, **kwargs)

    monkeypatch.setattr(optimizer, "step", keep)
    return found


def untrained(module, found, but=()):
    return [
        name
        for name, value in module.named_parameters()
        if not found.get(id(value), 0.0) > 0 and not name.startswith(tuple(but))
    ]


# --------------------------------------------------------------------------------------------- GANs
@pytest.mark.parametrize(
    ("preset", "number"),
    [(name, number) for name, config in GANS.items() for number in range(len(config.stages))],
)
def test_gans(preset, number, monkeypatch):
    whole = GANS[preset]
    shrink = 16 / whole.stages[0].image_size  # the first stage has 16 pixels
    first = whole.stages[0].grid
    stages = tuple(
        replace(stage, image_size=int(stage.image_size * shrink), grid=12 * stage.grid // first)
        for stage in whole.stages
    )
    config = replace(
        config_json.replace(
            whole,
            {
                "generator": {
                    **SMALL_GENERATOR,
                    "attributes": {
                        "geometry_smoothing": min(whole.generator.attributes.geometry_smoothing, 2)
                    },
                },
                "discriminator": {"cbase": 64, "cmax": 8, "map_depth": 1},
                "loss": {"r1_interval": 1},
            },
        ),
        stages=stages,
        batch=4,
    )
    trainer = Trainer(config, labels())
    awake(trainer.G)
    trainer.begin_at(
        round((stages[number].start_kimg + stages[number].fade_kimg / 2) * 1000 / config.batch)
    )
    found = [
        record(monkeypatch, optimizer) for optimizer in (trainer.g_optimizer, trainer.d_optimizer)
    ]
    trainer.step(batch_at(0, size=trainer.stage.image_size, count=4) | {"label": labels(4)})
    assert trainer.stage == stages[number]
    assert untrained(trainer.G, found[0]) == []
    later = {stage.image_size for stage in stages[number + 1 :]}
    # the fade's other input is the stage before
    gone = {stage.image_size for stage in stages[: max(number - 1, 0)]}
    others = [
        f"{part}.{size}."
        for part in ("blocks", "from_rgb")
        for size in later
        if size > trainer.stage.image_size
    ]
    assert untrained(trainer.D, found[1], others + [f"from_rgb.{size}." for size in gone]) == []
    assert schedule.stage_at(stages, trainer.nimg)[0] == trainer.stage


# ----------------------------------------------------------------------------------------- encoders
@pytest.fixture(scope="module")
def captures(tmp_path_factory):
    return read_captures(
        str(write_captures(tmp_path_factory.mktemp("captures") / "balls.zip", subjects=3))
    )


def encoder_moments():
    """One step in every stage of every preset, and one after the discriminator has come in."""
    for name, config in ENCODERS.items():
        starts = {stage.start for stage in config.stages}
        if config.loss.adversarial > 0:
            starts.add(config.loss.adversarial_from)
        yield from ((name, start) for start in sorted(starts))


def encoder(preset, step, captures):
    whole = ENCODERS[preset]
    first = whole.stages[0].image_size
    stages = [
        {
            "start": stage.start,
            "image_size": 16 * stage.image_size // first,
            "views": [2],
            "targets": 2,
            "batch": 2,
            "region": stage.region,
        }
        for stage in whole.stages
    ]
    background = {"channels": [4, 4], "resolution": 32, "code": 4}
    config = config_json.replace(
        whole,
        {
            "stages": stages,
            "discriminator": {"cbase": 64, "cmax": 8, "map_depth": 1},
            "model": {
                **{key: value for key, value in TINY.items() if key != "mixing"},
                "channels": [8, 8, 8],
                "generator": {**SMALL_GENERATOR, "template": "head"},
                "background": background,
                "correction_features": 4,
            },
            "loss": {"perceptual": 0.0},
        },
    )  # a network of the user's
    stage = stage_at(config.stages, step)
    trainer = EncoderTrainer(config, CaptureHeads(captures, config.data, stage.image_size))
    awake(trainer.model)
    trainer.step_index = step
    return trainer, stage


@pytest.mark.parametrize(("preset", "step"), list(encoder_moments()))
def test_encoders(preset, step, captures, monkeypatch):
    trainer, stage = encoder(preset, step, captures)
    found = record(monkeypatch, trainer.optimizer)
    if trainer.judge is not None and step >= trainer.config.loss.adversarial_from:
        judge = record(monkeypatch, trainer.judge.optimizer)
        trainer.step()
        others = [
            f"{part}.{other.image_size}."
            for part in ("blocks", "from_rgb")
            for other in trainer.config.stages
            if other.image_size > stage.image_size or (part == "from_rgb" and other != stage)
        ]
        assert untrained(trainer.judge.network, judge, others) == []
    else:
        trainer.step()
    # the latent space stays that of the generator
    frozen = ("generator.mapping.", "generator.synthesis.")
    # ``unseen`` stands for texels that lie in no view; here all do.
    assert [
        name for name in untrained(trainer.model, found, frozen) if not name.endswith(".unseen")
    ] == []


@pytest.mark.parametrize(("preset", "step"), list(encoder_moments()))
def test_encoders_compare_like_with_like(preset, step, captures):
    """Images of what the encoder itself predicts, rig included, cost nothing in any stage."""
    trainer, stage = encoder(preset, step, captures)
    batch = trainer.captures.batch(stage, 0, step, slice(0, stage.batch))
    model: Reconstructor = trainer.model
    with torch.no_grad():
        predicted = model.predict(batch.rgb, batch.cameras)
        head = predicted.latent.gaussians(model.generator)
        alone = render(head, batch.target_cameras, stage.image_size, background=1.0)
        shown = alone.color
        if predicted.background is not None:
            whole = type(head).merge(
                [replace(head, uv=None), replace(predicted.background, uv=None)]
            )
            shown = render(whole, batch.target_cameras, stage.image_size, background=1.0).color
            assert float((shown - alone.color).abs().max()) > 0.05  # the rig is seen
        batch = replace(batch, target=shown, alpha=alone.alpha)
        parts, _, _ = trainer.terms(model, batch, stage.region)
    assert float(parts["pixels"]) < 1e-3 and float(parts["silhouette"]) < 5e-3
    assert float(total(parts, trainer.config.loss)) > float(parts["pixels"])


# ------------------------------------------------------------------------------------------ avatars
def avatar_moments():
    for name, config in AVATARS.items():
        steps = {
            0,
            config.densify.start + 1,
            config.densify.until,
            config.loss.perceptual_from,
            *(config.sh_every * degree for degree in range(1, config.avatar.sh_degree + 1)),
        }
        yield from ((name, step) for step in sorted(steps) if step < config.iterations)


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    sequence = write_sequence(
        tmp_path_factory.mktemp("sequence") / "person", names=("jawOpen", "eyeBlink_L", "x")
    )
    return Frames(split_or_all(read_sequence(sequence), "train"))


@pytest.mark.parametrize(("preset", "step"), list(avatar_moments()))
def test_avatars(preset, step, frames, monkeypatch):
    config = config_json.replace(
        AVATARS[preset],
        {"resolution": None, "points": 40, "avatar": {"feature_dim": 4, "hidden": 8}},
    )
    trainer = AvatarTrainer(config, frames, CPU)
    awake(trainer.avatar)
    trainer.iteration = step
    found = record(monkeypatch, trainer.optimizer)
    trainer.step()
    groups = {group["name"] for group in trainer.optimizer.param_groups}
    # Harmonics that have not come yet are rows of one layer, so that a layer is never without any
    # gradient.
    strengths = {
        group["name"]: sum(found[key] for key in map(id, group["params"]) if key in found)
        for group in trainer.optimizer.param_groups
    }
    assert groups and [name for name in groups if not strengths[name] > 0] == []


# --------------------------------------------------------------------------- expressions and priors
@pytest.mark.parametrize("preset", list(EXPRESSIONS))
def test_expressions(preset, captures, monkeypatch):
    network = small_reconstructor()
    whole = EXPRESSIONS[preset]
    config = config_json.replace(
        whole,
        {
            "model": {
                "width": 16,
                "layers": 1,
                "heads": 2,
                "mlp_ratio": 1.0,
                "tokens": 2,
                "dropout": 0.0,
            },
            "batch": 2,
            "data": {"views": 2, "subsets": 2, "targets": 2},
        },
    )
    triplets = Triplets(captures, config.data, 24, network, 0, wanted=config.loss.latent > 0)
    for step in sorted({0, config.loss.images_from}):
        trainer = ExpressionTrainer(config, triplets, network)
        awake(trainer.model)
        trainer.step_index = step
        found = record(monkeypatch, trainer.optimizer)
        trainer.step()
        assert untrained(trainer.model, found) == []


@pytest.mark.parametrize("preset", list(PRIORS))
def test_priors(preset, monkeypatch):
    config = config_json.replace(
        PRIORS[preset],
        {"dit": {"width": 32, "depth": 2, "heads": 2}, "batch": 8, "network": "given"},
    )
    heads = Heads([str(number) for number in range(60)], some_latents(60))
    trainer = PriorTrainer(
        config,
        new_prior(config, small_network(image_size=32), heads, None),
        heads,
        None,
        None,
        None,
        CPU,
    )
    awake(trainer.prior.flow)
    found = record(monkeypatch, trainer.optimizer)
    trainer.step()
    assert untrained(trainer.prior.flow, found) == []
