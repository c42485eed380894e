from dataclasses import replace

import pytest
import torch
from helpers.example_gaussians import make

from gghead.cameras import Cameras
from gghead.gaussians import Gaussians
from gghead.rendering import registry, render
from gghead.rendering.registry import Backend


def test_shapes_for_one_head_and_for_batches():
    cameras = Cameras.orbit(torch.tensor([-0.4, 0.0, 0.4]))
    one = render(make((), extras=True), cameras, 16, uv=True, features=True)
    assert one.color.shape == (1, 3, 3, 16, 16) and one.alpha.shape == (1, 3, 1, 16, 16)
    assert one.depth.shape == (1, 3, 1, 16, 16) and one.uv.shape == (1, 3, 2, 16, 16)
    assert one.features.shape == (1, 3, 5, 16, 16)
    two = render(make((2,)), cameras, (20, 12), depth=False)
    assert (
        two.color.shape == (2, 3, 3, 12, 20)
        and two.depth is None
        and two.uv is None
        and two.features is None
    )
    per_head = Cameras.orbit(torch.tensor([[0.1], [0.9]]))
    assert render(make((2,)), per_head, 16).color.shape == (2, 1, 3, 16, 16)
    assert render(make(()), Cameras.orbit(0.0)[0], 16).color.shape == (1, 1, 3, 16, 16)


def test_one_call_equals_a_loop_over_heads_and_cameras():
    gaussians = make((2,), extras=True)
    cameras = Cameras.orbit(torch.tensor([[0.1, -0.5, 2.0], [0.9, 0.0, -1.0]]), 0.2)
    together = render(gaussians, cameras, 20, uv=True, features=True, background=0.5)
    for b in range(2):
        for c in range(3):
            alone = render(
                gaussians[b], cameras[b, c : c + 1], 20, uv=True, features=True, background=0.5
            )
            for name in ("color", "alpha", "depth", "uv", "features"):
                assert torch.allclose(
                    getattr(together, name)[b, c], getattr(alone, name)[0, 0], atol=1e-5
                ), name


def test_background_fills_what_is_left():
    gaussians, cameras = make((2,)), Cameras.orbit(torch.tensor([0.0, 1.0]))
    black = render(gaussians, cameras, 16, background=None)
    white = render(gaussians, cameras, 16)
    assert torch.allclose(white.color, black.color + 1 - black.alpha, atol=1e-6)
    colors = torch.rand(2, 1, 3, generator=torch.Generator().manual_seed(0))
    random = render(gaussians, cameras, 16, background=colors, uv=False)
    assert torch.allclose(
        random.color, black.color + (1 - black.alpha) * colors[..., None, None], atol=1e-6
    )
    assert torch.equal(random.depth, black.depth)


def test_extras_are_weighted_by_alpha_and_leave_the_color_alone():
    gaussians, camera = make((), extras=True), Cameras.orbit(0.0)
    gaussians.uv[:] = torch.tensor([0.25, 0.75])
    with_extras = render(gaussians, camera, 16, uv=True, features=True, background=1.0)
    assert torch.allclose(with_extras.uv[0, 0, 0], 0.25 * with_extras.alpha[0, 0, 0], atol=1e-6)
    assert torch.allclose(with_extras.uv[0, 0, 1], 0.75 * with_extras.alpha[0, 0, 0], atol=1e-6)
    assert torch.allclose(
        with_extras.color, render(gaussians, camera, 16, background=1.0).color, atol=1e-6
    )


def test_harmonics_ride_with_extras():
    gaussians = make((2,), degree=1, extras=True)
    cameras = Cameras.orbit(torch.tensor([0.0, 1.0, -1.0]))
    plain, extras = (
        render(gaussians, cameras, 16),
        render(gaussians, cameras, 16, uv=True, features=True),
    )
    assert torch.allclose(plain.color, extras.color, atol=1e-6)
    assert (
        plain.color[:, 0] - render(gaussians.with_sh(1), cameras[:1], 16).color[:, 0]
    ).abs().max() < 1e-6


def test_depth_is_the_distance_along_the_viewing_direction():
    gaussians = make((), n=1)
    gaussians.means[:] = torch.tensor([0.0, 0.0, 0.3])
    gaussians.scales[:] = 0.1
    gaussians.opacities[:] = 1.0
    depth = render(gaussians, Cameras.orbit(0.0), 16).depth[0, 0, 0]
    assert depth[8, 8].item() == pytest.approx(2.4, abs=1e-4) and depth[0, 0] == 0


def test_a_head_stands_upright_with_its_left_at_the_right():
    """Four colored Gaussians: the subject's left (+x) is at the right, +y at the top, and the
    front hides the back."""
    means = torch.tensor([[0.2, 0.0, 0.0], [0.0, 0.2, 0.0], [0.0, 0.0, 0.2], [0.0, 0.0, -0.2]])
    gaussians = Gaussians(
        means,
        torch.tensor([[1.0, 0, 0, 0]] * 4),
        torch.full((4, 3), 0.03),
        torch.ones(4),
        torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [1.0, 1.0, 0]]),
    )
    front = render(gaussians, Cameras.orbit(0.0), 64, background=None).color[0, 0]
    assert (
        front[0, 32, 52] > 0.9
        and front[1, 12, 32] > 0.9
        and front[2, 32, 32] > 0.9
        and front[0, 32, 32] < 0.1
    )
    back = render(gaussians, Cameras.orbit(torch.pi), 64, background=None).color[0, 0]
    assert back[0, 32, 12] > 0.9 and back[1, 12, 32] > 0.9 and back[2, 32, 32] < 0.1
    # Seen from the subject's left, the red one is nearest and the front (blue) lies to the left of
    # the image.
    left = render(gaussians, Cameras.orbit(torch.pi / 2), 64, background=None).color[0, 0]
    assert left[0, 32, 32] > 0.9 and left[2, 32, 12] > 0.9
    # Rolled, the top of the head leans to the right; from above, the front of it sinks.
    rolled = render(gaussians, Cameras.orbit(0.0, roll=0.5), 64, background=None).color[0, 0, 1]
    assert rolled[:, 34:].sum() > 3 * rolled[:, :30].sum()
    above = render(gaussians, Cameras.orbit(0.0, pitch=0.5), 64, background=None).color[0, 0, 2]
    assert above[34:].sum() > 3 * above[:30].sum()


def test_mirrored_cameras_see_the_mirrored_image_of_the_mirrored_head():
    gaussians = make((2,))
    cameras = Cameras.orbit(torch.tensor([0.3, -1.2, 2.5]), torch.tensor([0.2, -0.3, 0.1]), 0.3)
    cameras = Cameras(
        cameras.cam2world, cameras.intrinsics + 0.02 * torch.eye(3)[[0, 2, 1]].tril(-1).T
    )
    flip = torch.tensor([-1.0, 1.0, 1.0])
    mirrored = Gaussians(
        gaussians.means * flip,
        # S R S turns about the mirrored axis the other way
        gaussians.quats * torch.tensor([1.0, 1.0, -1.0, -1.0]),
        gaussians.scales,
        gaussians.opacities,
        gaussians.colors,
    )
    there, here = render(mirrored, cameras.mirror(), (28, 20)), render(gaussians, cameras, (28, 20))
    for name in ("color", "alpha", "depth"):
        assert torch.allclose(getattr(there, name), getattr(here, name).flip(-1), atol=2e-4), name


def test_gradients_reach_gaussians_cameras_and_background():
    gaussians = make((2,), degree=1, extras=True)
    names = ("means", "quats", "scales", "opacities", "colors", "uv", "features")
    inputs = [getattr(gaussians, name).requires_grad_() for name in names]
    cameras = Cameras.orbit(torch.tensor([0.0, 0.5]))
    pose = cameras.cam2world.clone().requires_grad_()
    background = torch.full((2, 2, 3), 0.3, requires_grad=True)
    out = render(
        gaussians,
        Cameras(pose, cameras.intrinsics),
        16,
        uv=True,
        features=True,
        background=background,
    )
    loss = sum(x.square().sum() for x in (out.color, out.alpha, out.depth, out.uv, out.features))
    for gradient in torch.autograd.grad(loss, [*inputs, pose, background]):
        assert gradient.isfinite().all() and gradient.abs().max() > 0


def test_everything_is_rendered_in_one_rasterizer_call(monkeypatch):
    calls = []
    original = registry.resolve("torch").backend.composite

    def counted(*args):
        calls.append(args[3].shape)
        return original(*args)

    monkeypatch.setitem(
        registry._backends,
        "counted",
        Backend("counted", lambda *_: (True, "for the test"), counted),
    )
    out = render(
        make((2,), extras=True),
        Cameras.orbit(torch.zeros(3)),
        8,
        uv=True,
        features=True,
        backend="counted",
    )
    assert calls == [(6, 40, 3 + 2 + 5 + 1)] and out.backend == "counted"


def test_batch_shapes_and_missing_extras_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match=r"need cameras of batch shape \[C\] or"):
        render(make((2,)), Cameras.orbit(torch.zeros(3, 1)), 8)
    with pytest.raises(ValueError, match="no uv"):
        render(make(()), Cameras.orbit(0.0), 8, uv=True)
    with pytest.raises(ValueError, match="no features"):
        render(make(()), Cameras.orbit(0.0), 8, features=True)


def test_a_head_alone_is_drawn_from_the_front_over_white():
    gaussians = make(())
    out = render(gaussians)
    assert out.color.shape == (1, 1, 3, 256, 256) and float(out.color[0, 0, :, 0, 0].min()) == 1.0
    assert torch.equal(out.color, render(gaussians, Cameras.orbit(0.0), 256, background=1.0).color)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((0.4,), "second argument of render is Cameras, such as Cameras.orbit.yaw=0.4., not 0.4"),
        ((Cameras.orbit(0.0), "256"), "number of pixels, or .width, height., not '256'"),
        ((Cameras.orbit(0.0), 25.6), "not 25.6"),
    ],
)
def test_arguments_of_other_types_are_named(arguments, sentence):
    with pytest.raises(TypeError, match=sentence):
        render(make(()), *arguments)
    with pytest.raises(TypeError, match="render draws Gaussians"):
        render(torch.zeros(3), *arguments)


def test_an_image_without_pixels_is_refused():
    with pytest.raises(ValueError, match="0x0 pixels"):
        render(make(()), size=0)


def test_above_the_training_size_the_low_pass_filter_grows_with_the_image():
    gaussians, camera = make((2,)), Cameras.orbit(0.3)
    trained = replace(gaussians, training_size=16)
    for size, eps2d in ((12, 0.3), (16, 0.3), (32, 1.2), ((20, 64), 4.8)):
        expected = render(gaussians, camera, size, eps2d=eps2d)
        assert torch.allclose(render(trained, camera, size).color, expected.color, atol=1e-6)
    sharp = render(trained, camera, 64, eps2d=0.3)
    assert torch.equal(sharp.color, render(gaussians, camera, 64).color)
    assert not torch.equal(sharp.color, render(trained, camera, 64).color)
