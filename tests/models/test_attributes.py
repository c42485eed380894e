"""Attribute heads: what raw zero renders, ranges, rotations, sampling of planes at another grid."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from gghead.models.attributes import GaussianAttributes
from gghead.models.config import AttributeConfig
from gghead.rendering.projection import quat_to_rotmat
from gghead.template import load_template
from gghead.template.texels import texel_maps
from gghead.torch_utils.errors import UserError


def make(grid=16, template="sphere", **options):
    return GaussianAttributes(AttributeConfig(**options), load_template(template), grid)


def zero_planes(attributes, batch=2):
    return torch.zeros(
        batch, sum(attributes.config.channels.values()), attributes.grid, attributes.grid
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rotation": "6d"},
        {"rotation_frame": "world"},
        {"rotation_frame": "surface"},
        {"scale_mode": "absolute"},
        {"sh_degree": 1},
    ],
)
def test_raw_zero_is_the_plain_template(options):
    attributes = make(**options)
    g = attributes.activate(attributes.sample(zero_planes(attributes)))
    torch.testing.assert_close(g.means, attributes.position.expand(2, -1, -1))
    torch.testing.assert_close(g.opacities, torch.full_like(g.opacities, 0.9))
    frames = quat_to_rotmat(attributes.quats)
    torch.testing.assert_close(quat_to_rotmat(g.quats), frames.expand(2, -1, -1, -1))
    if options.get("scale_mode") == "absolute":
        torch.testing.assert_close(g.scales, torch.full_like(g.scales, 0.005935), rtol=1e-3, atol=0)
    else:
        torch.testing.assert_close(
            g.scales / attributes.log_spacing.exp(), torch.full_like(g.scales, 0.85)
        )
    if not options.get("sh_degree"):
        torch.testing.assert_close(g.colors, torch.full_like(g.colors, 0.5))


def test_surface_frame_puts_the_thin_axis_along_the_normal():
    for template in ("head", "sphere"):
        attributes = make(template=template, rotation_frame="surface")
        axes = quat_to_rotmat(attributes.quats)  # columns
        normal = texel_maps(load_template(template), 16).normal.flatten(1).T[attributes.valid]
        torch.testing.assert_close(axes[:, :, 2], normal, atol=1e-5, rtol=0)
        # networks are trained with it, so it stays
        older = quat_to_rotmat(make(template=template).quats)
        torch.testing.assert_close(older, axes.mT, atol=1e-5, rtol=0)


def test_ranges_hold_for_any_raw_value():
    attributes = make()
    planes = torch.randn(3, 14, 16, 16, generator=torch.Generator().manual_seed(0)) * 20
    g = attributes.activate(attributes.sample(planes))
    ratio = g.scales / attributes.log_spacing.exp()
    assert ratio.min() >= 0.6 - 1e-5 and ratio.max() <= 5.0 + 1e-4
    assert (g.means - attributes.position).abs().max() <= 0.25 + 1e-6
    assert g.colors.min() >= -0.0011 and g.colors.max() <= 1.0011
    assert g.opacities.min() >= 0 and g.opacities.max() <= 1


def test_log_scale_has_unit_slope_at_zero():
    attributes = make()
    raw = torch.full((1, attributes.num, 3), 1e-3)
    rise = attributes._log_scale(raw) - attributes._log_scale(torch.zeros_like(raw))
    torch.testing.assert_close(rise / 1e-3, torch.ones_like(rise), rtol=0, atol=5e-3)


def test_finer_grid_interpolates_the_same_planes():
    coarse, fine = make(16), make(32)
    assert fine.num == 4 * coarse.num
    ramp = torch.linspace(-1, 1, 16).expand(1, 14, 16, 16)
    values = fine.sample(ramp)["position"].unflatten(1, (32, 32))[0, :, :, 0]
    expected = F.interpolate(ramp, size=(32, 32), mode="bilinear", align_corners=False)[0, 0]
    torch.testing.assert_close(values, expected)


def test_faults_name_the_option():
    with pytest.raises(UserError, match="sh_degree"):
        make(sh_degree=2)
    with pytest.raises(UserError, match="scale_init"):
        GaussianAttributes(replace(AttributeConfig(), scale_init=9.0), load_template("sphere"), 8)


def test_smoothed_geometry_follows_block_means_and_leaves_colors_alone():
    attributes = make(geometry_smoothing=4)
    planes = torch.randn(1, 14, 16, 16, generator=torch.Generator().manual_seed(0))
    checkers = (torch.arange(16)[:, None] + torch.arange(16)) % 2 * 2.0 - 1.0
    planes[:, :3] = checkers + 0.5  # every 4x4 block has the mean 0.5
    raw, plain = attributes.sample(planes), make().sample(planes)
    torch.testing.assert_close(raw["position"], torch.full_like(raw["position"], 0.5))
    for name in ("color", "opacity"):
        assert torch.equal(raw[name], plain[name])
    for name in ("scale", "rotation"):
        rough, smooth = (v[name].reshape(16, 16, -1).diff(dim=0).abs().mean() for v in (plain, raw))
        assert smooth < 0.3 * rough


def test_position_gain_scales_the_raw_offset():
    planes = torch.randn(1, 14, 16, 16, generator=torch.Generator().manual_seed(0))
    slow, plain = make(position_gain=0.02).sample(planes), make().sample(planes)
    torch.testing.assert_close(slow["position"], 0.02 * plain["position"])
    assert torch.equal(slow["scale"], plain["scale"])


def test_smoothing_must_divide_the_planes():
    with pytest.raises(UserError, match="geometry_smoothing"):
        make(geometry_smoothing=3).sample(torch.zeros(1, 14, 16, 16))
