import math
from dataclasses import replace

import pytest
import torch
from helpers.example_gaussians import make

from gghead.cameras import Cameras
from gghead.gaussians import Gaussians
from gghead.rendering import render
from gghead.rendering.projection import quat_to_rotmat
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.rng import generator


def rigid(seed: int, scale: float = 1.0) -> torch.Tensor:
    rng = generator(seed, "rigid")
    matrix = torch.eye(4)
    matrix[:3, :3] = scale * quat_to_rotmat(torch.randn(4, generator=rng))
    matrix[:3, 3] = 0.2 * torch.randn(3, generator=rng)
    return matrix


def covariances(gaussians: Gaussians) -> torch.Tensor:
    axes = quat_to_rotmat(gaussians.quats) * gaussians.scales[..., None, :]
    return axes @ axes.mT


def test_shape_and_batch_indexing():
    gaussians = make((2, 3), extras=True)
    assert gaussians.shape == (2, 3) and gaussians.num == 40
    one = gaussians[1, 2]
    assert one.shape == () and torch.equal(one.uv, gaussians.uv[1, 2])
    assert (
        gaussians[0].shape == (3,)
        and gaussians[None].shape == (1, 2, 3)
        and gaussians[:, 1:].shape == (2, 2)
    )
    with pytest.raises(IndexError):
        one[0]


def test_select_by_mask_list_and_slice():
    gaussians = make(extras=True)
    mask = torch.arange(40) % 3 == 0
    by_mask, by_list = gaussians.select(mask), gaussians.select(mask.nonzero()[:, 0].tolist())
    assert by_mask.num == 14 and torch.equal(by_mask.features, by_list.features)
    assert torch.equal(gaussians.select(slice(0, None, 3)).means, by_mask.means)
    assert gaussians.select([]).num == 0 and gaussians.select([]).features.shape == (
        *gaussians.shape,
        0,
        5,
    )


def test_merging_keeps_the_order_and_what_all_have():
    first, second = make(extras=True), make(n=7, seed=1)
    both = Gaussians.merge([first, second])
    assert both.num == 47 and both.uv is None
    assert torch.equal(both.select(slice(40, None)).colors, second.colors)
    assert Gaussians.merge([first, first]).uv.shape == (2, 80, 2)
    with pytest.raises(ValueError, match="batch shape"):
        Gaussians.merge([make((2,)), make((3,))])


def test_merged_rgb_and_harmonics_render_the_same():
    first, second = make((), degree=1), make((), n=10, seed=1)
    both = Gaussians.merge([first, second])
    assert both.sh_degree == 1
    lifted = second.with_sh(1)
    camera = Cameras.orbit(0.3)
    assert torch.allclose(
        render(second, camera, 16).color, render(lifted, camera, 16).color, atol=1e-6
    )
    with pytest.raises(ValueError, match="choose a higher one"):
        first.with_sh(0)


def test_heads_are_stacked_to_a_batch_and_not_into_one_scene():
    heads = [make((1,), seed=seed) for seed in range(3)] + [make((), seed=3)]
    batch = Gaussians.stack(heads)
    assert batch.shape == (4,) and batch.num == 40
    assert torch.equal(render(batch, size=16).color[3], render(heads[3], size=16).color[0])
    assert Gaussians.stack([make((), degree=1), make(())]).sh_degree == 1
    with pytest.raises(ValueError, match="same number of Gaussians"):
        Gaussians.stack([make(()), make((), n=7)])
    with pytest.raises(ValueError, match="batch shape"):
        Gaussians.stack([make((2, 2))])
    with pytest.raises(ValueError, match="no heads"):
        Gaussians.stack([])


def test_what_is_shown_of_gaussians_is_one_short_line():
    text = repr(make((2,), extras=True))
    assert text == "Gaussians(batch [2], N 40, RGB, uv, 5 features, float32, cpu)"


@pytest.mark.parametrize("degree", [None, 0, 1, 2, 3])
def test_moving_gaussians_and_camera_together_changes_nothing(degree):
    gaussians, matrix = make((), degree=degree), rigid(3)
    camera = Cameras.orbit(torch.tensor([0.2, 2.0]), 0.1)
    moved = Cameras(matrix @ camera.cam2world, camera.intrinsics)
    before, after = render(gaussians, camera, 24), render(gaussians.transform(matrix), moved, 24)
    assert torch.allclose(before.color, after.color, atol=2e-5) and torch.allclose(
        before.depth, after.depth, atol=2e-4
    )


def test_transform_with_scale_moves_the_covariances():
    gaussians, matrix = make((2,)), rigid(4, scale=1.7)
    moved = gaussians.transform(matrix)
    linear = matrix[:3, :3]
    assert torch.allclose(
        covariances(moved), linear @ covariances(gaussians) @ linear.mT, atol=1e-6
    )
    assert torch.allclose(moved.means, gaussians.means @ linear.mT + matrix[:3, 3], atol=1e-6)


def test_transform_takes_a_matrix_per_head_and_undoes_itself():
    gaussians = make((2,), degree=1)
    matrices = torch.stack([rigid(5), rigid(6, scale=0.5)])
    moved = gaussians.transform(matrices)
    assert torch.allclose(moved[1].means, gaussians[1].transform(matrices[1]).means, atol=1e-6)
    back = moved.transform(torch.linalg.inv(matrices))
    assert torch.allclose(back.means, gaussians.means, atol=1e-5)
    assert torch.allclose(covariances(back), covariances(gaussians), atol=1e-5)
    assert torch.allclose(back.colors, gaussians.colors, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_half_turns_where_the_quaternion_has_no_real_part(axis):
    matrix = -torch.eye(4)
    matrix[axis, axis] = matrix[3, 3] = 1
    gaussians = make(())
    assert torch.allclose(
        covariances(gaussians.transform(matrix)),
        matrix[:3, :3] @ covariances(gaussians) @ matrix[:3, :3],
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("matrix", "sentence"),
    [
        (torch.diag(torch.tensor([-1.0, 1, 1, 1])), "mirrors"),
        (torch.diag(torch.tensor([2.0, 1, 1, 1])), "stretches"),
        (torch.eye(3), "matrix must have shape"),
    ],
)
def test_matrices_that_gaussians_cannot_follow_are_refused(matrix, sentence):
    with pytest.raises(ValueError, match=sentence):
        make().transform(matrix)


def test_to_and_detach():
    gaussians = make(extras=True)
    gaussians.means.requires_grad_()
    assert gaussians.to(torch.float64).features.dtype == torch.float64
    assert not gaussians.detach().means.requires_grad and gaussians.means.requires_grad
    assert gaussians.device == torch.device("cpu") and gaussians.dtype == torch.float32


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("means", math.nan, "means contains numbers that are not finite"),
        ("scales", 0.0, "scales must be positive"),
        ("opacities", 1.5, "opacities must lie"),
        ("quats", 0.0, "quaternion is zero"),
    ],
)
def test_impossible_values_are_named(field, value, sentence):
    gaussians = make()
    getattr(gaussians, field)[1, 3] = value
    with pytest.raises(UserError, match=sentence):
        gaussians.validate()
    assert make().validate().num == 40


def test_shapes_that_do_not_fit_are_refused():
    good = make((), n=4)
    with pytest.raises(ValueError, match="quats must have shape"):
        Gaussians(good.means, good.quats[:3], good.scales, good.opacities, good.colors)
    with pytest.raises(ValueError, match="colors must have shape"):
        Gaussians(good.means, good.quats, good.scales, good.opacities, good.colors, sh_degree=1)
    with pytest.raises(ValueError, match="batch shape"):
        Gaussians(good.means, good.quats, good.scales, good.opacities[None], good.colors)


def test_the_training_size_stays_with_the_head():
    head = replace(make((1,)), training_size=64)
    other = make((1,))
    for kept in (head[0], head.select([1, 2]), head.with_sh(1), head.transform(torch.eye(4))):
        assert kept.training_size == 64
    assert Gaussians.merge([other, head]).training_size == 64
    assert Gaussians.stack([head, replace(other, training_size=128)]).training_size == 128
    assert Gaussians.stack([other, other]).training_size is None
    with pytest.raises(UserError, match="training_size must be 1 or more, but it is 0"):
        replace(other, training_size=0)
