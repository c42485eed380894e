"""Nothing of the models is left on the CPU when they are moved, for machines without a GPU.

torch's device "meta" stands for the GPU: tensors there have no values, but are refused beside those
of another device where they are added, joined, blended or chosen from, as CUDA's are. What asks for
values (checks, the rasterizer) is replaced.
"""

import contextlib
import sys

import pytest
import torch
from helpers.small_network import small_network
from helpers.small_reconstructor import small_reconstructor

from gghead.animation.player import Player
from gghead.animation.surface import moving_surface
from gghead.cameras import Cameras
from gghead.editing import blend_latents, blend_planes, mix_layers
from gghead.inversion import Latent
from gghead.inversion.cameras import CameraRefinement, turn_cameras
from gghead.inversion.objective import Objective, ObjectiveConfig
from gghead.models import reconstructor as reconstructor_module
from gghead.models.avatar import Avatar
from gghead.models.avatar_config import AvatarConfig
from gghead.models.config import BackgroundConfig
from gghead.models.expression import ExpressionModel
from gghead.models.expression_config import ExpressionConfig
from gghead.models.prior import Prior
from gghead.models.prior_config import DiTConfig, PriorConfig, TokenShape
from gghead.networks.discriminator import Discriminator
from gghead.perceptual import LPIPS, DiscriminatorDistance
from gghead.perceptual.backbones import ALEXNET, Backbone
from gghead.template import load_template
from gghead.template.sliders import Sliders

GPU = torch.device("meta")
AVATAR = {"width": 2, "coefficient_names": ("eyeBlinkLeft", "eyeBlinkRight")}


def rasterization(
    means,
    quats,
    scales,
    opacities,
    colors,
    viewmats,
    Ks,
    width,
    height,
    *,
    backgrounds=None,  # noqa: N803
    render_mode="RGB",
    **_,
):
    """Of the right shape, and only for what is all in one place."""
    given = [means, quats, scales, opacities, colors, viewmats, Ks] + (
        [] if backgrounds is None else [backgrounds]
    )
    assert {tensor.device for tensor in given} == {GPU}
    shape = (*means.shape[:-2], viewmats.shape[-3], height, width)
    depth = render_mode.endswith("D")
    return (
        means.new_empty(*shape, colors.shape[-1] + depth),
        means.new_empty(*shape, 1),
        {"backend": "none"},
    )


@pytest.fixture(autouse=True)
def without_values(monkeypatch):
    for module in ("gghead.rendering.render", "gghead.animation.player"):
        monkeypatch.setattr(sys.modules[module], "rasterization", rasterization)
    # not known for this device
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(reconstructor_module, "_check", lambda *_: None)
    monkeypatch.setattr(ExpressionModel, "check", lambda *_: None)
    monkeypatch.setattr(
        Avatar, "check", lambda self, expression, clamp=True: self.clamp(expression)
    )


def on_gpu(*shape):
    return torch.rand(*shape).to(GPU)


def test_the_device_that_stands_for_a_gpu_refuses_the_cpu():
    for mix in (
        lambda a, b: a + b,
        lambda a, b: torch.cat([a, b]),
        lambda a, b: torch.where(a > 0, a, b),
    ):
        with pytest.raises(RuntimeError, match="device"):
            mix(on_gpu(4), torch.rand(4))


@pytest.mark.parametrize("background", ["none", "gaussians", "cnn"])
def test_a_generator_and_what_edits_its_latents(background):
    model = small_network(
        background=BackgroundConfig(kind=background, resolution=8, cbase=64, cmax=8)
    ).to(GPU)
    # on the CPU
    ws, cameras = model.mapping(model.seed_to_z(3), None, 0.7), Cameras.orbit(torch.tensor([0.1]))
    assert model.images(ws, cameras).color.device == GPU and model.sample(3).means.device == GPU
    residual = on_gpu(1, model.synthesis.out_channels, 4, 4)
    delta = {name: on_gpu(1, *value.shape) for name, value in model.decoder.named_parameters()}
    plain, full = Latent(ws), Latent(ws, residual, delta)
    heads = (
        full,
        mix_layers(model, plain, full, [0, 1], 0.5),
        blend_latents(model, plain, full, torch.ones(1, 4, 4)),
        blend_planes(model, plain, full, torch.ones(1, 8, 8), fit=False),
        full.truncate(model, 0.7),
    )
    for head in heads:
        assert model.render(head.gaussians(model), cameras).color.device == GPU
    objective = Objective(model, on_gpu(1, 3, 24, 24), on_gpu(1, 1, 24, 24), ObjectiveConfig())
    assert objective(on_gpu(1, 3, 24, 24), on_gpu(1, 1, 24, 24)).device == GPU
    backdrop = torch.rand(1, 3, 24, 24)  # on the CPU
    assert model.render(model.gaussians(ws), cameras, background=backdrop).color.device == GPU
    refined = CameraRefinement(cameras.to(GPU).label(), 0.1, 0.1).cameras()
    assert turn_cameras(refined, [-25.0, 25.0]).device == GPU


def test_encoders_and_expressions():
    encoder = small_reconstructor().to(GPU)
    model = encoder.generator
    cameras = Cameras.orbit(torch.tensor([[0.0, 0.1, 0.2]]))
    latent = encoder.encode(torch.rand(1, 3, 3, 24, 24), cameras)  # both on the CPU
    assert latent.gaussians(model).device == GPU
    config = ExpressionConfig(
        coefficient_names=("a", "b"),
        channels=latent.residual.shape[1],
        side=4,
        num_ws=model.num_ws,
        w_dim=model.config.w_dim,
        width=16,
        layers=1,
        heads=2,
    )
    moved = ExpressionModel(config).to(GPU)(latent, torch.zeros(2, 2), model)
    assert moved.gaussians(model).device == GPU


def test_the_moving_surface():
    surface = moving_surface(load_template("head")).to(GPU)
    weights = torch.zeros(2, len(surface.names), device=GPU)
    motion = surface.motion_of(surface.below(on_gpu(1, 5, 3), on_gpu(1, 5, 2)), weights)
    assert motion.rotation().device == GPU and motion.stretch().device == GPU


def test_weights_that_are_there_already_stand_beside_plain_numbers(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "isfinite", lambda self: torch.ones(1))
    table, _ = Sliders(("jawOpen", "cheekPuff")).table({"jawOpen": on_gpu(3), "cheekPuff": 0.5})
    assert table.shape == (3, 2) and table.device == GPU


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"motion": "blendshapes"},
        {"mirrored_grid": 4},
        {"mlp": False},
        {"blend": False},
        {"changes": "everything"},
        {"changes": "geometry"},
    ],
)
def test_avatars_and_their_player(options):
    avatar = Avatar(AvatarConfig(**AVATAR, **options), torch.zeros(5, 3)).to(GPU)
    assert avatar(on_gpu(3, 2)).device == GPU
    assert Player(avatar).draw(torch.zeros(2), Cameras.orbit(0.0), (16, 9)).device == GPU


@pytest.mark.parametrize(
    "tokens",
    [
        TokenShape(3, 8, 3, 4),
        TokenShape(3, 8, 1, 4, 4, 4, 2, 2),
        TokenShape(3, 8, 3, 0, 4, 4, components=5),
    ],
)
def test_priors(tokens):
    prior = Prior(PriorConfig(tokens, DiTConfig(16, 1, 2), 3)).to(GPU)
    latent = prior.sample(3, steps=2, cond=torch.zeros(1, 3), guidance=2.0)
    assert prior.tokens.encode(latent).device == GPU and latent.ws.device == GPU


def test_networks_that_judge_images():
    discriminator = Discriminator((16, 32), cbase=64, cmax=8, map_depth=1)
    backbone = Backbone(ALEXNET)
    lpips = LPIPS(backbone, [torch.ones(channels) for channels in backbone.channels])
    images = on_gpu(4, 3, 32, 32)
    assert discriminator.to(GPU)(images, on_gpu(4, 25), 0.5).device == GPU
    for distance in (DiscriminatorDistance(discriminator), lpips):
        assert distance.to(GPU)(images, images).device == GPU
