"""The watchdog: holes and stripes count, soft outlines do not, and collapse is put into words."""

import math

import pytest
import torch

from gghead.training.gan import watchdog
from gghead.training.gan.watchdog import Watchdog, WatchdogConfig


def head(size: int = 64) -> torch.Tensor:
    """A head with soft hair and a neck that runs out of the image, [1, 1, S, S]."""
    y, x = torch.meshgrid(*[(torch.arange(size) + 0.5) / size] * 2, indexing="ij")
    skull = torch.sigmoid((0.33 - torch.hypot(x - 0.5, (y - 0.45) * 0.85)) * 40)
    neck = torch.sigmoid((0.14 - (x - 0.5).abs()) * 40) * (y > 0.6)
    return torch.maximum(skull, neck)[None, None]


@pytest.mark.parametrize("size", [64, 128, 256])
def test_a_solid_head_is_covered(size):
    mask = watchdog.head_mask(head(size))
    assert mask.sum() > 0.5 * (head(size) > 0.5).sum()
    assert watchdog.uncovered_share(head(size)) < 0.02
    assert watchdog.stripes(head(size)) < 0.03


def test_a_hole_counts_by_its_area():
    alpha = head()
    alpha[..., 20:26, 28:34] = 0.1
    mask = watchdog.head_mask(alpha)
    assert mask[..., 20:26, 28:34].all()
    assert watchdog.uncovered_share(alpha) == pytest.approx(36 / int(mask.sum()), abs=0.01)


@pytest.mark.parametrize("rows", [True, False])
def test_stripes_through_the_whole_head_count(rows):
    alpha = head()
    lines = alpha[..., ::4, :] if rows else alpha[..., ::4]
    lines *= 0.3
    assert watchdog.uncovered_share(alpha) == pytest.approx(0.25, abs=0.05)
    assert watchdog.stripes(alpha) > 0.2


def test_stripes_grow_with_their_depth():
    def score(depth):
        alpha = head()
        alpha[..., ::2, :] *= 1 - depth
        return watchdog.stripes(alpha)

    scores = [score(depth) for depth in (0, 0.1, 0.2, 0.4)]
    assert scores == sorted(scores) and scores[1] > 2 * scores[0]


def test_a_thin_or_missing_head_is_uncovered():
    assert watchdog.uncovered_share(head() * 0.7) == 1.0
    assert watchdog.uncovered_share(torch.zeros(2, 1, 32, 32)) == 1.0
    assert watchdog.uncovered_share(torch.full((1, 1, 32, 32), math.nan)) == 1.0


def test_extent_is_relative_to_the_texel_and_ignores_thinness():
    scales = torch.tensor([[0.02, 0.001, 0.01], [0.03, 0.03, 0.03]])
    extent = watchdog.relative_extent(scales, torch.tensor([0.02, 0.01]))
    torch.testing.assert_close(extent, torch.tensor([0.5, 3.0]))
    found = watchdog.quantiles(torch.linspace(0, 1, 1001))
    assert list(found) == ["q01", "q10", "q50", "q90", "q99"]
    assert found["q10"] == pytest.approx(0.1, abs=1e-3) and found["q99"] == pytest.approx(
        0.99, abs=1e-3
    )


def test_quantiles_of_very_many_values():
    found = watchdog.quantiles(torch.arange(3 << 20))
    assert found["q50"] == pytest.approx(1.5 * 2**20, rel=1e-3)


def test_diversity_is_zero_for_copies():
    image = torch.rand(1, 3, 32, 32)
    assert watchdog.diversity(image.expand(4, -1, -1, -1)) == 0
    levels = torch.tensor([-1.0, 0.0, 1.0])[:, None, None, None].expand(3, 3, 32, 32)
    assert watchdog.diversity(levels) == pytest.approx((1 + 1 + 2) / 3)


def sound() -> dict:
    return {
        "alpha": head(),
        "scales": torch.full((100, 3), 0.01),
        "spacing": torch.tensor(0.01),
        "sign_real": 0.4,
        "opacities": torch.full((100,), 0.8),
        "fakes": torch.rand(6, 3, 16, 16),
        "sign_fake": -0.4,
    }


def test_a_sound_run_raises_no_warning():
    dog = Watchdog()
    values = dog.observe(**sound())
    assert dog.verdict() == []
    assert {
        "Watchdog/uncovered",
        "Watchdog/stripes",
        "Watchdog/scale/q10",
        "Watchdog/opacity/q50",
        "Watchdog/diversity",
        "Watchdog/sign_real",
        "Watchdog/sign_fake",
    } <= set(values)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"alpha": head() * 0.6}, "background"),
        ({"scales": torch.full((100, 3), 0.001)}, "smaller than 0.10 texel"),
        ({"scales": torch.full((100, 3), 0.2)}, "larger"),
        ({"scales": torch.full((100, 3), math.nan)}, "not a number"),
        ({"opacities": torch.full((100,), 0.01)}, "dissolving"),
    ],
)
def test_each_fault_is_named(change, word):
    dog = Watchdog()
    dog.observe(**{**sound(), **change})
    (sentence,) = dog.verdict()
    assert word in sentence and sentence.endswith(".")


def test_stripes_are_named():
    dog = Watchdog()
    alpha = head()
    alpha[..., ::2] *= 0.5
    dog.observe(alpha=alpha)
    assert any("stripes" in sentence for sentence in dog.verdict())


def test_a_winning_discriminator_is_named_after_some_ticks():
    dog = Watchdog(WatchdogConfig(sign_ticks=3))
    for tick in range(3):
        assert dog.verdict() == []
        dog.observe(sign_real=0.97)
        assert dog.sign_ticks == tick + 1
    assert "winning" in dog.verdict()[0]
    dog.observe(sign_real=0.5)
    assert dog.verdict() == []


def test_falling_diversity_is_named_even_after_a_resume():
    fakes = torch.rand(6, 3, 16, 16)
    before = Watchdog()
    before.observe(fakes=fakes)
    dog = Watchdog()
    dog.load_state_dict(before.state_dict())
    dog.observe(fakes=fakes * 0.8)
    assert dog.verdict() == []
    dog.observe(fakes=fakes * 0.3)
    assert "collapsing" in dog.verdict()[0]


def test_scales_need_their_spacing():
    with pytest.raises(ValueError, match="spacing"):
        Watchdog().observe(scales=torch.ones(4, 3))
