"""What is measured on heads does not see the plane of Gaussians behind them."""

from dataclasses import replace

import pytest
import torch
from helpers.dense_reference import dense_rasterization
from helpers.small_gan import SIZE, batch_at, labels, tiny_config
from helpers.small_network import small_network

from gghead.cameras import Cameras
from gghead.models.config import BackgroundConfig
from gghead.training.encoder.config import EncoderStage
from gghead.training.encoder.data import SampledHeads
from gghead.training.gan.config import DataConfig, LossConfig, Stage
from gghead.training.gan.losses import beta_prior
from gghead.training.gan.run import _Run
from gghead.training.gan.trainer import Trainer

PLANE = BackgroundConfig(kind="gaussians", resolution=8, cbase=64, cmax=8)


def trainer_with_plane(opacity=0.9, **loss):
    config = tiny_config(
        data=DataConfig(background="image"),
        loss=LossConfig(r1_interval=2, blur_sigma=0, **loss),
        stages=(Stage(image_size=SIZE, grid=16, lambda_tv=1.0, lambda_beta=0.1),),
    )
    attributes = replace(config.generator.attributes, opacity_init=opacity)
    generator = replace(config.generator, background=PLANE, attributes=attributes)
    trainer = Trainer(replace(config, generator=generator), labels())
    with torch.no_grad():  # heads that are no smooth ball, and through which the plane is seen
        for name, value in trainer.G.named_parameters():
            if name.startswith("decoder.to_planes"):
                value.copy_(
                    torch.randn(value.shape, generator=torch.Generator().manual_seed(1)) * 0.4
                )
    return trainer


def head_images(model, gaussians, cameras):
    """UV coordinates, depth (both as sums of weights) and alpha of the head alone, float64 [B, C,
    S, S]."""
    head = gaussians.select(slice(0, model.attributes.num))
    viewmats = cameras.viewmats
    depth = (viewmats.double()[:, :, 2:3, :3] @ head.means.double().mT[:, None])[
        :, :, 0
    ] + viewmats[:, :, 2, 3:]
    channels = torch.cat([head.uv.double(), depth[:, 0, :, None]], -1)
    image, alpha = dense_rasterization(
        head.means,
        head.quats,
        head.scales,
        head.opacities,
        channels,
        viewmats,
        cameras.Ks(SIZE, SIZE),
        SIZE,
        SIZE,
    )
    image = image[:, 0].movedim(-1, 1)
    return image[:, :2], image[:, 2:], alpha[:, 0].movedim(-1, 1)


def total_variation(uv, alpha, depth, floor, edge):
    """GGHead's equation 8 in float64, pair by pair."""
    total = 0.0
    for down, right in ((1, 0), (0, 1)):
        sums, count = 0.0, 0
        for b, y, x in torch.ones(len(uv), SIZE - down, SIZE - right).nonzero().tolist():
            here, there = (b, 0, y, x), (b, 0, y + down, x + right)
            if min(alpha[here], alpha[there]) <= floor:
                continue
            if edge and abs(depth[here] / alpha[here] - depth[there] / alpha[there]) >= edge:
                continue
            a, c = uv[b, :, y, x] / alpha[here], uv[b, :, y + down, x + right] / alpha[there]
            sums, count = sums + float((a - c).abs().mean()), count + 1
        total += sums / max(count, 1)
    return total


@pytest.mark.parametrize("edge", [0.0, 0.03])
def test_uv_variation_is_that_of_the_head_alone_in_double_precision(edge, monkeypatch):
    trainer = trainer_with_plane(opacity=0.6, tv_depth_edge=edge)
    seen, draw = [], trainer.G.render
    monkeypatch.setattr(
        trainer.G, "render", lambda g, c, *a, **k: seen.append((g, c)) or draw(g, c, *a, **k)
    )
    with torch.no_grad():
        _, _, terms = trainer._fakes("G", slice(0, 2), regularize=True)
    ((gaussians, cameras),) = seen
    uv, depth, alpha = head_images(trainer.G, gaussians, cameras)
    floor = trainer.config.loss.tv_alpha_floor
    # the plane shows through pixels that count
    assert bool(((alpha > floor) & (alpha < 0.95)).any())
    expected = total_variation(uv, alpha, depth, floor, edge)
    assert expected > 0.01 and float(terms["uv_tv"][1]) == pytest.approx(expected, rel=1e-4)
    assert float(terms["beta"][1]) == pytest.approx(
        float(beta_prior(gaussians.opacities[:, : trainer.G.attributes.num]))
    )


def test_alpha_of_a_generator_is_that_of_the_head_and_colors_are_those_of_both():
    model = small_network(background=PLANE)
    ws = model.mapping(torch.zeros(2, model.z_dim))
    gaussians, cameras = model.gaussians(ws), Cameras.orbit(torch.tensor([0.0, 0.3]))
    bare = small_network()
    head = replace(gaussians.select(slice(0, model.attributes.num)), features=None)
    out, alone = model.render(gaussians, cameras, uv=True), bare.render(head, cameras, uv=True)
    torch.testing.assert_close(out.alpha, alone.alpha, atol=1e-5, rtol=0)
    torch.testing.assert_close(out.uv, alone.uv, atol=1e-5, rtol=0)
    assert float((out.color - alone.color).abs().max()) > 0.1  # the gray plane, not white
    image = model.render(gaussians, cameras, background=torch.rand(2, 3, 24, 24))
    # the plane hides what is behind it
    torch.testing.assert_close(image.color, out.color, atol=0.02, rtol=0)
    torch.testing.assert_close(image.alpha, alone.alpha, atol=1e-5, rtol=0)


def test_the_watchdog_sees_holes_in_front_of_the_plane(monkeypatch):
    trainer = trainer_with_plane()
    trainer.step(batch_at(0))
    run = _Run(trainer.config, None, trainer, None, None, None)
    make = trainer.G_ema.gaussians

    def with_holes(ws):
        gaussians = make(ws)
        gaussians.opacities = torch.where(gaussians.features[..., 0] > 0, 0.05, gaussians.opacities)
        return gaussians

    run._check_health()
    whole = run.watchdog.values["uncovered"]
    monkeypatch.setattr(trainer.G_ema, "gaussians", with_holes)
    sentences = run._check_health()
    assert whole < 0.5 < run.watchdog.values["uncovered"]
    assert any("let the background through" in sentence for sentence in sentences)


def test_masks_of_samples_are_those_of_the_heads():
    model = small_network(background=PLANE)
    batch = SampledHeads(model, 24).batch(
        EncoderStage(image_size=24, views=(1,), targets=2), 0, 0, slice(0, 2)
    )
    head = model.attributes.activate(model.decode(batch.z, batch.ws))
    alone = small_network().render(head, batch.target_cameras, 24)
    # From the side the plane's edge hides a bit of the head.
    assert (
        float((batch.alpha - alone.alpha).abs().mean()) < 0.01 and float(batch.alpha.amin()) < 0.01
    )
