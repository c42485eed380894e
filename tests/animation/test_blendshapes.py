"""Blendshapes that move Gaussians: against the deformed mesh, by symmetry, by numbers, and by what
images show."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.painted_head import painted_head
from helpers.small_network import small_network

import gghead
from gghead.animation.blendshapes import pose
from gghead.animation.surface import Places, moving_surface
from gghead.gaussians import Gaussians
from gghead.inversion import Latent
from gghead.rendering.projection import quat_to_rotmat
from gghead.template import load_template, rasterize_triangles
from gghead.torch_utils.errors import UserError

TEMPLATE = load_template("head")
FIELDS = ("means", "quats", "scales", "opacities", "colors", "uv")


def surface(dtype=torch.float32):
    return moving_surface(TEMPLATE).to(dtype=dtype)


def row(*frames, dtype=torch.float32):
    names = surface().names
    table = torch.zeros(len(frames), len(names), dtype=dtype)
    for index, weights in enumerate(frames):
        for name, value in weights.items():
            table[index, names.index(name)] = value
    return table


def some_faces(count=400, seed=0):
    """Places inside faces of the front of the head, where the shapes are."""
    centers = TEMPLATE.vertices[TEMPLATE.faces].mean(1)
    front = np.flatnonzero((centers[:, 2] > 0.1) & (np.abs(centers[:, 0]) < 0.15))
    random = np.random.RandomState(seed)
    face = torch.from_numpy(random.choice(front, count))
    bary = torch.from_numpy(random.dirichlet([2, 2, 2], count))
    return Places(face, bary, torch.ones(count, 1, dtype=torch.float64))


# ------------------------------------------------------------------------ identity
def test_zero_weights_change_no_bit():
    model = gghead.load("demo")
    head = model.sample(seed=3, psi=0.7)
    for still in (
        gghead.animate(head, {}, model=model),
        gghead.animate(head, {"jawOpen": 0.0}, model=model),
    ):
        assert still.num == head.num
        for name in FIELDS:
            assert torch.equal(getattr(still, name), getattr(head, name)), name


def test_a_batch_of_frames_is_its_frames_one_by_one():
    head, weights = (
        painted_head(32),
        row({"eyeBlinkLeft": 1.0}, {"mouthSmileLeft": 0.7, "browInnerUp": 0.4}, {}),
    )
    together = pose(head, weights, surface())
    alone = [pose(head, weights[index : index + 1], surface()) for index in range(3)]
    both = pose(head[[0, 0, 0]], weights, surface())
    own = slice(0, head.num)
    for index in range(3):
        for name in FIELDS:
            torch.testing.assert_close(
                getattr(together[index].select(own), name),
                getattr(alone[index][0].select(own), name),
            )
            torch.testing.assert_close(getattr(together[index], name), getattr(both[index], name))
    # The inside of the mouth is there for all frames if one needs it; where lips are shut nobody
    # sees it.
    assert alone[2].num == head.num < together.num
    assert not together.opacities[2, head.num :].any() and together.opacities[1, head.num :].any()


def test_the_background_stays():
    head = painted_head(24)
    wall = replace(head, means=head.means.clone(), features=torch.zeros(1, head.num, 1))
    front = replace(head, features=torch.ones(1, head.num, 1))
    moved = pose(
        Gaussians.merge([front, wall]), row({"jawOpen": 1.0, "mouthSmileLeft": 1.0}), surface()
    )
    assert torch.equal(moved.means[:, head.num : 2 * head.num], wall.means)
    assert not torch.equal(moved.means[:, : head.num], front.means)
    # the mouth's inside
    assert bool((moved.features[:, 2 * head.num :] == 1).all()) and moved.num > 2 * head.num


# ------------------------------------------------------------------------ the mesh
@pytest.mark.parametrize(
    "weights", [{"jawOpen": 0.7, "eyeWideLeft": 1.0}, {"mouthSmileLeft": 1.0, "browDownRight": 1}]
)
def test_gaussians_on_the_template_go_where_the_posed_mesh_goes(weights):
    resolution = 64
    face, bary = rasterize_triangles(
        TEMPLATE.uvs * resolution, None, TEMPLATE.uv_faces, resolution, resolution
    )
    posed = (bary[..., None] * TEMPLATE.pose(weights)[TEMPLATE.faces[face]]).sum(2).reshape(-1, 3)
    head = painted_head(resolution)
    moved = pose(head, row(weights), surface())
    error = (moved.means[0, : head.num] - torch.from_numpy(posed)).norm(dim=1)
    assert float(error.max()) < 5e-4 and float(error.mean()) < 1e-5  # offsets are up to 0.06


def test_gradient_rotation_stretch_and_area_are_those_of_the_faces():
    places, weights = (
        some_faces(),
        {
            "jawOpen": 0.4,
            "mouthSmileLeft": 0.8,
            "eyeWideRight": 1.0,
            "browInnerUp": 1.0,
        },
    )
    motion = surface(torch.float64).motion_of(places, row(weights, dtype=torch.float64)[0])
    # Differentiate the surface numerically: the mesh before and after, along two edges and across.
    corners = TEMPLATE.faces[places.face.numpy()]

    def axes(vertices):
        a, b, c = np.moveaxis(vertices[corners], 1, 0)
        normal = np.cross(b - a, c - a)
        return np.stack([b - a, c - a, normal / np.linalg.norm(normal, axis=1, keepdims=True)], -1)

    expected = axes(TEMPLATE.pose(weights)) @ np.linalg.inv(axes(TEMPLATE.vertices))
    np.testing.assert_allclose(motion.gradient.numpy(), expected, atol=2e-4)
    u, s, vt = np.linalg.svd(expected)
    np.testing.assert_allclose(quat_to_rotmat(motion.rotation()).numpy(), u @ vt, atol=2e-4)
    # something does turn
    assert float((quat_to_rotmat(motion.rotation()) - torch.eye(3)).abs().max()) > 0.2
    # One of the three singular values is the normal's, exactly 1; the others are the surface's.
    pairs = np.array([np.delete(values, np.abs(values - 1).argmin()) for values in s])
    np.testing.assert_allclose(motion.stretch()[:, 0].numpy(), pairs.max(1), atol=2e-3)
    np.testing.assert_allclose(motion.area[:, 0].numpy(), s.prod(1), rtol=1e-3)


def test_gaussians_turn_and_stretch_with_the_surface():
    head, weights = painted_head(48), row({"mouthSmileLeft": 1.0, "jawOpen": 0.2})
    own = surface()
    motion = own.motion_of(own.below(head.means, head.uv), weights)
    moved = pose(head, weights, own)
    before, after = (quat_to_rotmat(gaussians.quats[0, : head.num]) for gaussians in (head, moved))
    torch.testing.assert_close(
        after, quat_to_rotmat(motion.rotation())[0] @ before, atol=1e-5, rtol=0
    )
    expected = head.scales[0] * (motion.gradient[0] @ before).norm(dim=-2).clamp(0.1, 2.5)
    torch.testing.assert_close(moved.scales[0, : head.num], expected)
    assert float((moved.scales[0, : head.num] / head.scales[0]).max()) > 1.2


def test_points_are_looked_up_where_they_lie():
    head, own = painted_head(64), surface()
    front = (head.means[0, :, 2] > 0.15) & (head.means[0, :, 0].abs() < 0.1)
    points, uv = head.means[0, front], head.uv[0, front]
    true = own.point(own.at(uv))
    assert float((true - points).norm(dim=1).max()) < 6e-4
    # Gaussians that a network slid along the surface: they start at a wrong texel, three texels
    # off.
    slid = own.below(points, uv + 3 * 2 / 64)
    distance = (own.point(slid) - points).norm(dim=1)
    assert float(distance.median()) < 1e-4 and float(distance.quantile(0.95)) < 0.01
    assert float((own.point(own.at(uv + 3 * 2 / 64)) - points).norm(dim=1).median()) > 0.02
    # far away: stays
    assert float(own.below(points + torch.tensor([0.0, 0.0, 0.3]), uv).follows.max()) == 0


# ------------------------------------------------------------------------- numbers
def test_linear_in_small_weights():
    head, own = painted_head(32), surface(torch.float64)
    head = head.to(torch.float64)
    start, step, twice = (
        pose(
            head,
            row(
                dict.fromkeys(("jawOpen", "mouthSmileLeft", "eyeBlinkLeft"), value),
                dtype=torch.float64,
            ),
            own,
        )
        for value in (0.0, 1e-4, 2e-4)
    )
    torch.testing.assert_close(
        twice.means - start.means, 2 * (step.means - start.means), atol=1e-12, rtol=1e-6
    )
    for name in ("quats", "scales"):
        first, second = (getattr(other, name) - getattr(start, name) for other in (step, twice))
        assert float(first.abs().max()) > 1e-6
        assert float((second - 2 * first).abs().max()) < 2e-2 * float(second.abs().max())


def test_left_and_right_are_mirror_images():
    head, own = painted_head(64), surface()
    flip = torch.tensor([-1.0, 1.0, 1.0])
    left = pose(head, row({"mouthSmileLeft": 1.0, "eyeBlinkLeft": 0.5, "jawLeft": 0.5}), own)
    right = pose(head, row({"mouthSmileRight": 1.0, "eyeBlinkRight": 0.5, "jawRight": 0.5}), own)
    assert left.num == right.num

    def mirrored(values):  # texel columns in the other order
        return values[0, : head.num].reshape(64, 64, -1).flip(1).reshape(head.num, -1)

    torch.testing.assert_close(
        mirrored(left.means) * flip, right.means[0, : head.num], atol=2e-3, rtol=0
    )
    assert float((mirrored(left.means) * flip - right.means[0, : head.num]).abs().mean()) < 1e-5
    assert float((left.means - right.means).abs().max()) > 0.02
    torch.testing.assert_close(
        mirrored(left.scales).prod(1), right.scales[0, : head.num].prod(1), atol=1e-6, rtol=0.5
    )


def test_gradients_are_those_of_finite_differences():
    own = surface(torch.float64)
    chosen = [own.names.index(name) for name in ("jawOpen", "mouthSmileLeft", "browInnerUp")]
    head = painted_head(64).to(torch.float64)
    near = ((head.means[0] - torch.tensor([0.04, -0.06, 0.24])).norm(dim=1) < 0.03).nonzero()[:6, 0]
    head = head.select(near)

    def output(values, quats, scales, opacities):
        weights = torch.zeros(1, len(own.names), dtype=torch.float64)
        weights[0, chosen] = values
        moved = pose(replace(head, quats=quats, scales=scales, opacities=opacities), weights, own)
        moved = moved.select(slice(0, head.num))
        return moved.means, moved.quats, moved.scales, moved.opacities

    inputs = [
        torch.tensor([0.1, 0.3, 0.2], dtype=torch.float64),
        head.quats,
        head.scales,
        head.opacities,
    ]
    assert torch.autograd.gradcheck(
        output, [value.clone().requires_grad_() for value in inputs], atol=1e-6, fast_mode=True
    )


# ------------------------------------------------------------------------ images
def draw_head(gaussians, size=160):
    camera = gghead.Cameras.orbit(0.0, focal=4.6)
    return gghead.render(gaussians, camera, size, background=1.0).color[0, 0]


def test_eyes_close_and_mouths_open():
    head, own = painted_head(128), surface()
    shut, neutral, wide = (
        draw_head(pose(head, row(weights), own))
        for weights in ({"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0}, {}, {"jawOpen": 0.8})
    )

    def dark(image, top, bottom):  # share of pixels without much light
        part = image[:, int(top * 160) : int(bottom * 160), 50:110]
        return float((part.mean(0) < 0.3).float().mean())

    eyes, mouth = (0.28, 0.40), (0.6, 0.9)
    assert dark(neutral, *eyes) > 0.01 and dark(shut, *eyes) < 0.3 * dark(neutral, *eyes)
    assert dark(neutral, *mouth) < 0.001 and dark(wide, *mouth) > 0.02
    # brows and eyes stay
    assert torch.equal(wide[:, : int(0.4 * 160)], neutral[:, : int(0.4 * 160)])


def test_the_inside_of_the_mouth_lies_behind_the_lips_and_has_their_color():
    head, own = painted_head(64), surface()
    head.colors = torch.full_like(head.colors, 0.5)
    moved = pose(
        replace(head, means=head.means + torch.tensor([0.0, 0.0, 0.02])), row({"jawOpen": 0.6}), own
    )
    inside = moved.select(slice(head.num, None))
    assert (
        inside.num > 100
        and bool((inside.opacities >= 0).all())
        and float(inside.opacities.max()) == 1
    )
    # of lips of 0.5
    assert 0.1 < float(inside.colors.min()) < 0.2 < float(inside.colors.max()) < 0.35
    plain = pose(head, row({"jawOpen": 0.6}), own).select(slice(head.num, None))
    shift = (inside.means - plain.means)[0].mean(0)
    # it goes where the lips are
    torch.testing.assert_close(shift, torch.tensor([0.0, 0.0, 0.02]), atol=4e-3, rtol=0)
    lifted = replace(head, colors=head.with_sh(1).colors, sh_degree=1)
    harmonic = pose(lifted, row({"jawOpen": 0.6}), own)
    assert harmonic.sh_degree == 1 and harmonic.num == moved.num


# ------------------------------------------------------------------------ sentences
def test_wrong_heads_are_a_sentence():
    head = painted_head(16)
    with pytest.raises(UserError, match="have no UV places"):
        gghead.animate(replace(head, uv=None), {"jawOpen": 1.0})
    with pytest.raises(ValueError, match=r"Weights of 2 frames move one head .* is \[3\]"):
        gghead.animate(head[[0, 0, 0]], {"jawOpen": [0.0, 1.0]})
    with pytest.raises(ValueError, match=r"batch shape of these Gaussians is \[\]"):
        gghead.animate(head[0], {"jawOpen": 1.0})
    with pytest.raises(UserError, match="template 'sphere' has no blendshapes"):
        gghead.animate(head, {"jawOpen": 1.0}, model=small_network())
    with pytest.raises(ValueError, match="A latent needs its network"):
        gghead.animate(Latent(torch.zeros(1, 2, 4)), {"jawOpen": 1.0})


@pytest.mark.parametrize(
    "dtype, becomes", [(torch.float64, torch.float64), (torch.bfloat16, torch.float32)]
)
def test_heads_of_any_precision(dtype, becomes):
    head = painted_head(16).to(dtype)
    moved = gghead.animate(head, {"jawOpen": [0.5, 1.0]})
    assert moved.dtype == becomes and moved.shape == (2,)
    single = gghead.animate(head.to(torch.float32), {"jawOpen": [0.5, 1.0]})
    apart = (moved.means.float() - single.means).norm(dim=-1).flatten()
    # places on the borders of faces
    assert float(apart.median()) < 1e-6 and float(apart.max()) < 1e-3


def test_expressions_without_a_shape_are_left_out_aloud():
    head = painted_head(16)
    with pytest.warns(UserWarning, match="No shape for tongueOut, eyeLookIn_L"):
        moved = gghead.animate(head, {"tongueOut": 1.0, "eyeLookIn_L": 0.5, "cheekPuff_L": 1.0})
    torch.testing.assert_close(moved.means, gghead.animate(head, {"cheekPuffLeft": 1.0}).means)
