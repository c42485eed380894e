"""Regularizers and losses against closed forms."""

import math

import pytest
import torch

from gghead.training.gan import losses
from gghead.training.gan import losses as regularizers


def uv_ramp(slope=0.1, size=6):
    u = torch.arange(size).float() * slope
    return torch.stack([u.expand(size, size), torch.zeros(size, size)])[None]


def test_tv_of_a_ramp_is_its_slope():
    alpha = torch.ones(1, 1, 6, 6)
    # Mean over (u, v): horizontally slope / 2, vertically nothing.
    assert float(regularizers.uv_total_variation(uv_ramp(), alpha)) == pytest.approx(0.05)


def test_tv_undoes_alpha_and_ignores_silhouettes():
    alpha = torch.full((1, 1, 6, 6), 0.8)
    assert float(regularizers.uv_total_variation(uv_ramp() * alpha, alpha)) == pytest.approx(0.05)
    alpha[..., 3:] = 0.01
    jump = uv_ramp()
    jump[..., 3:] = 50.0
    assert float(regularizers.uv_total_variation(jump * alpha, alpha)) == pytest.approx(0.05)


def test_tv_leaves_out_true_occlusion_edges_only_if_asked():
    alpha, uv, depth = torch.ones(1, 1, 6, 6), uv_ramp(), torch.ones(1, 1, 6, 6)
    uv[..., 3:] += 1.0
    depth[..., 3:] = 2.0
    with_edge = float(regularizers.uv_total_variation(uv, alpha, depth))
    without = float(regularizers.uv_total_variation(uv, alpha, depth, depth_edge=0.5))
    assert with_edge == pytest.approx(0.05 + 0.2) and without == pytest.approx(0.05)


def test_tv_gradients_are_finite_where_nothing_is_seen():
    alpha = torch.zeros(1, 1, 4, 4, requires_grad=True)
    uv = torch.zeros(1, 2, 4, 4, requires_grad=True)
    value = regularizers.uv_total_variation(uv, alpha)
    value.backward()
    assert float(value.detach()) == 0 and torch.isfinite(uv.grad).all()
    assert alpha.grad is None or torch.isfinite(alpha.grad).all()


def test_beta_prior_values_of_gghead():
    assert float(regularizers.beta_prior(torch.tensor([[0.0, 1.0]]))) == pytest.approx(
        0.0, abs=1e-4
    )
    assert float(regularizers.beta_prior(torch.tensor([[0.5]]))) == pytest.approx(1.186, abs=1e-3)


def test_mean_length_is_not_squared_and_has_a_gradient_at_zero():
    raw = torch.tensor([[[3.0, 4.0, 0.0], [0.0, 0.0, 0.0]]], requires_grad=True)
    value = regularizers.mean_length(raw)
    value.backward()
    assert float(value.detach()) == pytest.approx(2.5, abs=1e-5) and torch.isfinite(raw.grad).all()


def test_adversarial_losses():
    fake, real = torch.tensor([0.3, -1.0]), torch.tensor([1.5, 0.2])
    torch.testing.assert_close(losses.generator_loss(fake), (1 + (-fake).exp()).log())
    torch.testing.assert_close(losses.generator_loss(fake, real), (1 + (real - fake).exp()).log())
    logistic = (1 + fake.exp()).log() + (1 + (-real).exp()).log()
    torch.testing.assert_close(losses.discriminator_loss(fake, real), logistic)
    torch.testing.assert_close(
        losses.discriminator_loss(fake, real, True), (1 + (fake - real).exp()).log()
    )


def test_gradient_penalty_of_a_linear_score():
    weight = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0))
    images = torch.randn(2, 3, 4, 4, requires_grad=True)
    penalty = losses.gradient_penalty((images * weight).sum((1, 2, 3)), images)
    torch.testing.assert_close(penalty, weight.square().sum().expand(2))


def test_blur_keeps_constants_inside_and_vanishes():
    image = torch.zeros(1, 1, 21, 21)
    image[..., 10, 10] = 1.0
    assert losses.gaussian_blur(image, 0.3) is image
    blurred = losses.gaussian_blur(image, 1.5)
    assert float(blurred.sum()) == pytest.approx(1.0, abs=1e-5)
    ratio = float(blurred[0, 0, 10, 11] / blurred[0, 0, 10, 10])
    assert ratio == pytest.approx(2 ** -((1 / 1.5) ** 2), rel=1e-4) and not math.isnan(ratio)


def test_composite():
    rgb, alpha = torch.ones(1, 3, 2, 2), torch.tensor([[[[0.0, 1.0], [0.5, 0.25]]]])
    over = losses.composite(rgb, alpha, torch.zeros(1, 3))
    torch.testing.assert_close(over, alpha.expand(1, 3, 2, 2))
