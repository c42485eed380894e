"""Attribute heads: what raw zero renders, ranges, rotations, sampling of planes at another grid."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from gghead.models.attributes import (
    GaussianAttributes,
    matrix_to_quaternion,
    quaternion_multiply,
    rotation_6d_to_matrix,
)
from gghead.models.config import AttributeConfig
from gghead.template import load_template
from torch_utils.errors import UserError


def quaternion_to_matrix(q):
    w, x, y, z = F.normalize(q, dim=-1).unbind(-1)
    rows = [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
            2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
            2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def make(grid=16, template="sphere", **options):
    return GaussianAttributes(AttributeConfig(**options), load_template(template), grid)


def zero_planes(attributes, batch=2):
    return torch.zeros(batch, sum(attributes.config.channels.values()), attributes.grid, attributes.grid)


@pytest.mark.parametrize("options", [{}, {"rotation": "6d"}, {"rotation_frame": "world"}, {"scale_mode": "absolute"},
                                     {"sh_degree": 1}])
def test_raw_zero_is_the_plain_template(options):
    attributes = make(**options)
    g = attributes.activate(attributes.sample(zero_planes(attributes)))
    torch.testing.assert_close(g.means, attributes.position.expand(2, -1, -1))
    torch.testing.assert_close(g.opacities, torch.full_like(g.opacities, 0.9))
    frames = quaternion_to_matrix(attributes.quats)
    torch.testing.assert_close(quaternion_to_matrix(g.quats), frames.expand(2, -1, -1, -1))
    if options.get("scale_mode") == "absolute":
        torch.testing.assert_close(g.scales, torch.full_like(g.scales, 0.005935), rtol=1e-3, atol=0)
    else:
        torch.testing.assert_close(attributes.scale_ratio(g), torch.full_like(g.scales, 0.75))
    if not options.get("sh_degree"):
        torch.testing.assert_close(g.colors, torch.full_like(g.colors, 0.5))


def test_ranges_hold_for_any_raw_value():
    attributes = make()
    planes = torch.randn(3, 14, 16, 16, generator=torch.Generator().manual_seed(0)) * 20
    g = attributes.activate(attributes.sample(planes))
    ratio = attributes.scale_ratio(g)
    assert ratio.min() >= 0.4 - 1e-5 and ratio.max() <= 5.0 + 1e-4
    assert (g.means - attributes.position).abs().max() <= 0.25 + 1e-6
    assert g.colors.min() >= -0.0011 and g.colors.max() <= 1.0011
    assert g.opacities.min() >= 0 and g.opacities.max() <= 1


def test_log_scale_has_unit_slope_at_zero():
    attributes = make()
    raw = torch.full((1, attributes.num, 3), 1e-3)
    rise = attributes._log_scale(raw) - attributes._log_scale(torch.zeros_like(raw))
    torch.testing.assert_close(rise / 1e-3, torch.ones_like(rise), rtol=0, atol=5e-3)


def test_rotations_agree_with_matrices():
    generator = torch.Generator().manual_seed(1)
    a, b = (F.normalize(torch.randn(50, 4, generator=generator), dim=-1) for _ in range(2))
    product = quaternion_to_matrix(quaternion_multiply(a, b))
    torch.testing.assert_close(product, quaternion_to_matrix(a) @ quaternion_to_matrix(b), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(quaternion_to_matrix(matrix_to_quaternion(product)), product, atol=1e-5, rtol=1e-5)
    half_turns = torch.stack([torch.diag(torch.tensor(d)) for d in ([1.0, -1, -1], [-1.0, 1, -1], [-1.0, -1, 1])])
    torch.testing.assert_close(quaternion_to_matrix(matrix_to_quaternion(half_turns)), half_turns)
    matrix = rotation_6d_to_matrix(torch.randn(20, 6, generator=generator))
    torch.testing.assert_close(matrix @ matrix.mT, torch.eye(3).expand(20, 3, 3), atol=1e-5, rtol=0)
    assert (torch.linalg.det(matrix) > 0.99).all()


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
