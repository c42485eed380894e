"""The per-subject fit: it starts at the template in the views' colors and gets nearer to them."""

from dataclasses import replace

import pytest
import torch
from head_fit import PLAIN, BaselineConfig, fit, project_colors, template_head

from gghead.cameras import Cameras
from gghead.gaussians import Gaussians
from gghead.image_metrics import psnr
from gghead.models.attributes import GaussianAttributes
from gghead.rendering import render
from gghead.template import load_template
from gghead.torch_utils.errors import UserError

SIZE = 32
SMALL = BaselineConfig(grid=24, max_steps=25, levels=(4,))


def head(size: float = 1.0) -> Gaussians:
    """The template, larger by a factor, red on the left half (x > 0), blue on the right."""
    attributes = GaussianAttributes(SMALL.attributes, load_template("head"), 24)
    raw = {
        name: torch.zeros(1, attributes.num, channels)
        for name, channels in SMALL.attributes.channels.items()
    }
    made = attributes.activate(raw)
    made.means, made.opacities = made.means * size, torch.full_like(made.opacities, 0.999)
    made.colors = torch.where(
        made.means[..., :1] > 0, torch.tensor([0.9, 0.1, 0.1]), torch.tensor([0.1, 0.1, 0.9])
    )
    return made


def views(made: Gaussians, yaws: list[float]):
    cameras = Cameras.orbit(torch.tensor(yaws), focal=2.9)
    out = render(made, cameras, SIZE, background=1.0)
    return out.color[0].clamp(0, 1), out.alpha[0], cameras


def test_start_has_the_colors_that_the_views_show():
    rgb, alpha, cameras = views(head(), [-0.4, 0.4])
    start = template_head(rgb, alpha, cameras, SMALL)
    left = (start.means[0, :, 0] > 0.1) & (start.means[0, :, 2] > 0.1)
    right = (start.means[0, :, 0] < -0.1) & (start.means[0, :, 2] > 0.1)
    assert start.colors[0, left].mean(0) == pytest.approx([0.9, 0.1, 0.1], abs=0.12)
    assert start.colors[0, right].mean(0) == pytest.approx([0.1, 0.1, 0.9], abs=0.12)


def test_unseen_half_takes_the_colors_of_the_seen_one():
    rgb, alpha, cameras = views(head(), [1.4])  # sees the left side only
    start = template_head(rgb, alpha, cameras, SMALL)
    right = (start.means[0, :, 0] < -0.15) & (start.means[0, :, 2] > 0)
    assert start.colors[0, right].mean(0) == pytest.approx([0.9, 0.1, 0.1], abs=0.15)


def test_nothing_known_is_gray():
    attributes = GaussianAttributes(SMALL.attributes, load_template("head"), 24)
    rgb, alpha, cameras = views(head(), [0.0])
    colors = project_colors(attributes, head(), rgb, torch.zeros_like(alpha), cameras)
    assert torch.equal(colors, torch.full_like(colors, 0.5))


@pytest.mark.parametrize("options", [SMALL, replace(PLAIN, grid=24, max_steps=25)])
def test_fit_improves_on_its_start_also_where_it_has_not_looked(options):
    made = head(1.1)
    rgb, alpha, cameras = views(made, [-0.5, 0.0, 0.5])
    found = fit(rgb, alpha, cameras, options)
    assert found.steps == 25 and found.processor_seconds > 0
    truth, mask, others = views(made, [-0.25, 0.25])
    before, after = (
        psnr(render(which, others, SIZE, background=1.0).color[0], truth, mask).mean()
        for which in (template_head(rgb, alpha, cameras, options), found.head)
    )
    # every Gaussian for itself moves slowly
    assert after > before + (2 if options is SMALL else 0.3)
    found.head.validate()


def test_steps_decide_the_result_and_the_clock_ends_it():
    rgb, alpha, cameras = views(head(), [0.0])
    first, second = (
        fit(rgb, alpha, cameras, BaselineConfig(grid=24, max_steps=3)).head for _ in range(2)
    )
    assert torch.equal(first.means, second.means) and torch.equal(first.colors, second.colors)
    assert fit(rgb, alpha, cameras, BaselineConfig(grid=24, seconds=1e-6)).steps == 1


def test_what_cannot_be_fitted_is_refused():
    rgb, alpha, cameras = views(head(), [0.0])
    with pytest.raises(UserError, match="no view at all"):
        fit(rgb[:0], alpha[:0], cameras[:0], SMALL)
