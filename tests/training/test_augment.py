"""Adaptive augmentation: nothing at p = 0, p-proportional otherwise, labels and alpha respected, R1
passes through."""

import math

import pytest
import torch

from gghead.torch_utils.errors import UserError
from gghead.torch_utils.rng import generator
from gghead.training.gan import augment
from gghead.training.gan import config as augment_config
from gghead.training.gan.augment import AdaController, AugmentConfig, AugmentPipe, recolor, warp


def pipe(p: float, *groups: str, **options) -> AugmentPipe:
    made = AugmentPipe(AugmentConfig(groups=groups or augment_config.GROUPS, **options))
    made.p = p
    return made


def smooth_images(batch: int, channels: int, size: int) -> torch.Tensor:
    x = torch.linspace(-1, 1, size)
    waves = [torch.sin(3 * x * (c + 1))[:, None] * torch.cos(2 * x)[None] for c in range(channels)]
    return torch.stack(waves).expand(batch, -1, -1, -1).contiguous() * 0.8


@pytest.mark.parametrize("channels", [3, 4])
def test_nothing_changes_at_zero(channels):
    images = torch.rand(2, channels, 16, 16) * 2 - 1
    draws = generator(0)
    before = draws.get_state()
    assert pipe(0.0)(images, draws) is images
    assert torch.equal(draws.get_state(), before)


def test_modes_start_where_they_should():
    assert float(AugmentPipe(AugmentConfig(mode="ada", p=0.3)).p) == 0.0
    assert float(AugmentPipe(AugmentConfig(mode="fixed", p=0.3)).p) == pytest.approx(0.3)
    assert float(AugmentPipe(AugmentConfig(mode="noaug", p=0.3)).p) == 0.0


def test_same_generator_same_images():
    images = torch.rand(4, 4, 16, 16) * 2 - 1
    one, two, other = (pipe(0.7)(images, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("group", augment_config.GROUPS)
def test_every_group_changes_its_share_of_images(group):
    images = torch.rand(300, 3, 40, 40, generator=generator(0)) * 2 - 1
    operations = {"geometry": 3, "color": 4, "noise": 1, "cutout": 1}[group]
    changed = (pipe(0.3, group)(images, generator(5)) - images).abs().amax((1, 2, 3)) > 1e-4
    assert float(changed.float().mean()) == pytest.approx(1 - 0.7**operations, abs=0.1)


def test_color_leaves_alpha_alone():
    images = torch.rand(16, 4, 8, 8) * 2 - 1
    result = pipe(1.0, "color")(images, generator(0))
    assert torch.equal(result[:, 3], images[:, 3])
    assert not torch.allclose(result[:, :3], images[:, :3])


def test_geometry_moves_alpha_with_the_colors():
    images = smooth_images(8, 1, 32).expand(-1, 4, -1, -1).contiguous()
    result = pipe(1.0, "geometry")(images, generator(0))
    torch.testing.assert_close(result[:, 3], result[:, 0])
    assert (result - images).abs().max() > 0.05


def test_geometry_is_small_enough_for_the_camera_label():
    config = AugmentConfig()
    draws = augment._Draws(2000, 1.0, generator(0))
    matrices = augment.random_warps(config, draws, 100, 100)
    zoom = 1 / matrices[:, :, :2].det().sqrt()
    angle = torch.atan2(matrices[:, 0, 1], matrices[:, 0, 0]).rad2deg()
    shift = -torch.linalg.solve(matrices[:, :, :2], matrices[:, :, 2:]).squeeze(-1)
    assert float(zoom.max()) == pytest.approx(1.08, abs=2e-3) and float(
        zoom.min()
    ) == pytest.approx(1 / 1.08, abs=2e-3)
    assert 4.9 < float(angle.abs().max()) <= 5.001
    assert float(shift.abs().max()) == pytest.approx(5.0, abs=1e-3)
    assert (matrices[:, :, :2].det() > 0).all()  # never mirrored


def test_warp_shifts_exactly_and_reflects_at_the_border():
    images = torch.rand(1, 2, 6, 5)
    right_by_two = torch.tensor([[[1.0, 0, -2], [0, 1, 0]]])
    moved = warp(images, right_by_two)
    torch.testing.assert_close(moved[..., 2:], images[..., :-2])
    torch.testing.assert_close(moved[..., :2], images[..., :2].flip(-1))


def test_warp_turns_as_its_matrix_says():
    images = torch.zeros(1, 1, 9, 9)
    images[..., 4, 7] = 1  # right of the center
    quarter = torch.tensor([[[0.0, 1, 0], [-1, 0, 0]]])  # target (0, 3) comes from source (3, 0)
    assert warp(images, quarter)[0, 0].argmax() == 7 * 9 + 4


@pytest.mark.parametrize("dtype, apart", [(torch.float32, 2e-6), (torch.float64, 1e-13)])
def test_both_samplers_agree(monkeypatch, dtype, apart):
    images = torch.rand(3, 4, 12, 10, dtype=dtype)
    matrices = torch.eye(2, 3) + 0.2 * torch.randn(3, 2, 3, generator=generator(0))
    native = warp(images, matrices)
    monkeypatch.setattr(augment, "sampler", lambda device: ("gather", "test"))
    torch.testing.assert_close(warp(images, matrices), native, atol=apart, rtol=0)


@pytest.mark.parametrize("sample", [augment.sample_gather, augment.sample_native])
def test_samplers_differentiate_twice(sample):
    if sample is augment.sample_native and augment.sampler("cpu")[0] != "grid_sample":
        pytest.skip("this torch cannot")
    x = torch.rand(1, 3, 3, dtype=torch.float64, generator=generator(0)) * 3
    y = torch.rand(1, 3, 3, dtype=torch.float64, generator=generator(1)) * 3
    images = torch.rand(1, 2, 4, 4, dtype=torch.float64, generator=generator(2)).requires_grad_()

    def curved(values):  # the sampling itself is linear, so square it
        return sample(values, x, y).square()

    assert torch.autograd.gradcheck(curved, (images,))
    assert torch.autograd.gradgradcheck(curved, (images,))


def test_sampler_says_why():
    name, reason = augment.sampler("cpu")
    assert name in ("grid_sample", "gather") and torch.__version__ in reason


def test_an_old_torch_gets_the_gather_sampler(monkeypatch):
    # Torch refuses the second derivative of pdist today as it once did that of grid_sample.
    monkeypatch.setattr(augment, "sample_native", lambda images, x, y: torch.pdist(images[0, 0]))
    augment.sampler.cache_clear()
    try:
        assert augment.sampler("cpu")[0] == "gather"
    finally:
        augment.sampler.cache_clear()


def test_gradient_penalty_passes_through_the_whole_pipe():
    images = (torch.rand(2, 4, 16, 16) * 2 - 1).requires_grad_()
    weight = torch.randn(4, 4, 3, 3).requires_grad_()
    score = torch.nn.functional.conv2d(pipe(1.0)(images, generator(0)), weight).tanh().sum()
    (gradient,) = torch.autograd.grad(score, images, create_graph=True)
    gradient.square().sum().backward()
    assert weight.grad.abs().max() > 0 and torch.isfinite(weight.grad).all()


def test_recolor_of_pure_brightness_and_hue():
    images = torch.rand(1, 3, 4, 4)
    brighter = torch.cat([torch.eye(3), torch.full((3, 1), 0.25)], 1)[None]
    torch.testing.assert_close(recolor(images, brighter), images + 0.25)
    draws = augment._Draws(500, 1.0, generator(0))
    hue_only = AugmentConfig(brightness=0, contrast=0, saturation=0)
    matrices = augment.random_recoloring(hue_only, draws)[:, :, :3]
    torch.testing.assert_close(
        matrices @ matrices.mT, torch.eye(3).expand(500, 3, 3), atol=1e-5, rtol=0
    )
    # gray stays gray
    torch.testing.assert_close(matrices.sum(2), torch.ones(500, 3), atol=1e-5, rtol=0)
    assert float(torch.linalg.det(matrices).min()) > 0.99


def test_color_statistics():
    draws = augment._Draws(4000, 1.0, generator(3))
    matrices = augment.random_recoloring(AugmentConfig(hue=0, saturation=0), draws)
    contrast = matrices[:, 0, 0]
    assert float(torch.log2(contrast).std()) == pytest.approx(0.5, rel=0.05)
    assert float((matrices[:, 0, 3] / contrast).std()) == pytest.approx(0.2, rel=0.05)


def test_noise_and_cutout_statistics():
    images = torch.zeros(500, 3, 16, 16)
    noise = pipe(1.0, "noise")(images, generator(0))
    half_normal_mean = 0.1 * math.sqrt(2 / math.pi)
    assert float(noise.std((1, 2, 3)).mean()) == pytest.approx(half_normal_mean, rel=0.1)
    cut = pipe(1.0, "cutout")(torch.ones(500, 4, 16, 16), generator(0))
    hidden = (cut == 0).float().mean((2, 3))
    assert torch.equal(hidden[:, 0], hidden[:, 3])
    # of each side; centers near the border let part of the rectangle hang out
    inside = 0.5 * (1 - 0.5 / 4)
    assert float(hidden.mean()) == pytest.approx(inside**2, rel=0.08)


def test_bfloat16_stays_bfloat16():
    images = (torch.rand(2, 3, 16, 16) * 2 - 1).bfloat16()
    assert pipe(1.0)(images, generator(0)).dtype == torch.bfloat16


def test_controller_moves_towards_its_target_and_is_bounded():
    controller = AdaController(AugmentConfig(kimg=1, target=0.6, max_p=0.8))
    assert controller.update(0.9, 100) == pytest.approx(0.1)
    assert controller.update(0.9, 100) == pytest.approx(0.2)
    assert controller.update(0.3, 50) == pytest.approx(0.15)
    assert controller.update(0.6, 100) == pytest.approx(0.15)
    assert controller.update(math.nan, 100) == pytest.approx(0.15)
    assert controller.update(-1, 1000) == 0.0
    assert controller.update(1, 5000) == 0.8


def test_controller_finds_the_p_at_which_the_signs_meet_the_target():
    controller = AdaController(AugmentConfig(kimg=10))
    for _ in range(400):  # a discriminator that overfits less the more is augmented
        controller.update(1 - controller.p, 64)
    assert controller.p == pytest.approx(0.4, abs=0.01)


def test_controller_resumes_exactly():
    first = AdaController(AugmentConfig())
    first.update(1, 12345)
    second = AdaController(AugmentConfig())
    second.load_state_dict(first.state_dict())
    assert second.update(1, 777) == first.update(1, 777)


@pytest.mark.parametrize("mode", ["fixed", "noaug"])
def test_other_modes_keep_p(mode):
    config = AugmentConfig(mode=mode, p=0.25)
    assert AdaController(config).update(1.0, 10**6) == config.start_p


@pytest.mark.parametrize(
    "options", [{"groups": ("flip",)}, {"p": 1.5}, {"kimg": 0.0}, {"scale": 1.0}, {"interval": 0}]
)
def test_wrong_options_are_named(options):
    with pytest.raises(UserError, match="augment"):
        AugmentConfig(**options)


def test_wrong_shape_is_named():
    with pytest.raises(ValueError, match="images"):
        pipe(0.5)(torch.zeros(1, 2, 8, 8), generator(0))


def test_reading_the_probability_waits_for_no_device():
    """As a tensor on the GPU it made every pass of the discriminator wait until the GPU had caught
    up."""
    images = torch.zeros(2, 3, 8, 8, device="meta")
    assert AugmentPipe(AugmentConfig(mode="noaug")).to("meta")(images, torch.Generator()) is images
