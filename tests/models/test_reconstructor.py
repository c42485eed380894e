"""Views to latent: rays, look-ups, order and number of views, files, broken input."""

import math

import pytest
import torch
from helpers.small_network import small_network
from helpers.small_reconstructor import reconstructor_config, small_reconstructor

import gghead
from gghead import checkpoints
from gghead import latent as latents
from gghead.cameras import Cameras
from gghead.models.reconstructor import Reconstructor, with_background
from gghead.models.reconstructor_config import RigBackgroundConfig
from gghead.networks.uv_transformer import fourier
from gghead.networks.view_encoder import ViewEncoder, ViewLookup, plucker_rays
from gghead.rendering import render
from gghead.template import load_template
from gghead.template.texels import texel_maps
from gghead.torch_utils.errors import UserError


def views(heads=1, count=3, height=24, width=24, seed=0, focal=2.9):
    random = torch.Generator().manual_seed(seed)
    cameras = Cameras.orbit(torch.linspace(-0.9, 0.8, count), 0.1, focal=focal)
    cameras = Cameras(
        cameras.cam2world.expand(heads, -1, -1, -1), cameras.intrinsics.expand(heads, -1, -1, -1)
    )
    return torch.rand(heads, count, 3, height, width, generator=random), cameras


# --------------------------------------------------------------------------------------------- rays
def test_rays_go_through_their_pixels():
    cameras = Cameras.orbit(torch.tensor([0.3, -1.2]), 0.2, 0.1, focal=1.7)
    rays = plucker_rays(cameras, 6, 10)
    assert rays.shape == (2, 6, 6, 10)
    direction, moment = rays[:, :3], rays[:, 3:]
    torch.testing.assert_close(direction.norm(dim=1), torch.ones(2, 6, 10))
    # A point on the ray is seen at the pixel's center, and every point of the ray has the same
    # moment.
    for away in (1.0, 2.5):
        point = cameras.position[:, :, None, None] + away * direction
        torch.testing.assert_close(torch.cross(point, direction, dim=1), moment, atol=1e-5, rtol=0)
        view = cameras.viewmats
        local = torch.einsum("mij,mjhw->mihw", view[:, :3, :3], point) + view[:, :3, 3, None, None]
        seen = torch.einsum("mij,mjhw->mihw", cameras.intrinsics, local / local[:, 2:])
        torch.testing.assert_close(
            seen[0, 0] * 10, torch.arange(10.0).expand(6, 10) + 0.5, atol=1e-4, rtol=0
        )
        torch.testing.assert_close(seen[1, 1, :, 0] * 6, torch.arange(6.0) + 0.5, atol=1e-4, rtol=0)


def test_encoder_takes_any_size_and_says_what_is_image():
    encoder = ViewEncoder((4, 4, 8), 1)
    _, cameras = views(1, 2)
    features = encoder(torch.rand(2, 3, 21, 30), cameras.reshape(2))
    assert [tuple(level.shape[1:]) for level in features] == [(4, 12, 16), (4, 6, 8), (8, 3, 4)]
    assert encoder.extent(21, 30) == (30 / 32, 21 / 24)


# ------------------------------------------------------------------------------------------ look-up
def test_lookup_finds_the_pixels_that_the_template_projects_to():
    template, size = load_template("head"), 64
    lookup = ViewLookup(template, tokens=8, detail=4, features=2)
    cameras = Cameras.orbit(torch.tensor([0.4, -0.2]), 0.1, focal=2.2)[None]
    x = (torch.arange(size) + 0.5) / size  # images whose colors say where they were looked up
    ramp = torch.stack(
        [x.expand(size, size), x[:, None].expand(size, size), torch.zeros(size, size)]
    )
    rgb = ramp.expand(1, 2, 3, size, size)
    features = torch.nn.functional.avg_pool2d(ramp[:2], 4).expand(2, 2, 16, 16)
    offset = torch.zeros(1, 64, 3)
    samples, inside = lookup(offset, rgb, features, (1.0, 1.0), cameras)
    assert samples.shape == (1, 2, 64, lookup.channels) and bool((inside == 1).all())
    points = texel_maps(template, 32).position.flatten(1).T.double()
    for view in range(2):
        camera = cameras[0, view].to(torch.float64)
        local = (points - camera.position) @ camera.cam2world[:3, :3]
        place = (local @ camera.intrinsics.T)[:, :2] / local[:, 2:]
        by_token = place.reshape(8, 4, 8, 4, 2).permute(0, 2, 4, 1, 3).reshape(64, 2, 16)
        got = (samples[0, view, :, :32].reshape(64, 2, 16).double() + 1) / 2
        torch.testing.assert_close(got, by_token, atol=1e-4, rtol=0)
        at_center = samples[0, view, :, 48:50].double()
        torch.testing.assert_close(at_center, by_token.mean(2), atol=1e-3, rtol=0)


def test_lookup_knows_what_is_hidden_and_what_is_outside():
    lookup = ViewLookup(load_template("head"), tokens=16, detail=4, features=1)
    cameras = Cameras.orbit(torch.tensor([0.0, math.pi]), focal=2.9)[None]
    samples, _ = lookup(
        torch.zeros(1, 256, 3), torch.rand(1, 2, 3, 32, 32), torch.rand(2, 1, 8, 8), (1, 1), cameras
    )
    # along the normal; depth behind what is nearest
    facing, behind = samples[0, ..., -5].T, samples[0, ..., -3].T
    front, back = facing[:, 0] > 0.7, facing[:, 1] > 0.7
    assert behind[front, 0].median() < 0.4 < 3 < behind[front, 1].median()
    assert behind[back, 1].median() < 0.4 < 3 < behind[back, 0].median()
    close = Cameras.orbit(0.0, focal=20.0)[None]
    _, inside = lookup(
        torch.zeros(1, 256, 3), torch.rand(1, 1, 3, 32, 32), torch.rand(1, 1, 8, 8), (1, 1), close
    )
    assert 0 < inside.mean() < 0.3


def test_fourier_of_a_point():
    code = fourier(torch.tensor([[0.25, 0.0, -0.5]]), octaves=2)
    assert code.shape == (1, 15)
    torch.testing.assert_close(
        code[0, 3:5], torch.tensor([math.sin(math.pi / 4), math.sin(math.pi / 2)])
    )


# ---------------------------------------------------------------------------------------- the model
def test_untrained_gives_the_average_head():
    torch.manual_seed(0)
    model = Reconstructor(reconstructor_config()).eval()
    latent = model.encode(*views())
    assert not latent.residual.any() and torch.equal(latent.ws[0, 0], model.generator.mapping.w_avg)
    head = latent.gaussians(model.generator)
    torch.testing.assert_close(
        head.means[0], model.generator.attributes.position, atol=1e-6, rtol=0
    )


@pytest.mark.parametrize(
    "changes",
    [{}, {"guided": False}, {"mixing": "attention"}, {"styles": False}, {"corrections": 2}],
)
def test_order_of_the_views_does_not_matter(changes):
    model = small_reconstructor(**changes)
    rgb, cameras = views(heads=2, count=4)
    first, order = model.encode(rgb, cameras), torch.tensor([2, 0, 3, 1])
    second = model.encode(rgb[:, order], cameras[:, order])
    assert first.residual.std() > 0.01
    torch.testing.assert_close(first.residual, second.residual, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(first.ws, second.ws, atol=2e-5, rtol=1e-4)
    moved = bool((first.ws != model.generator.mapping.w_avg).any())
    assert moved == model.config.styles


@pytest.mark.parametrize("corrections", [0, 1])
def test_heads_of_a_batch_do_not_influence_each_other(corrections):
    model = small_reconstructor(corrections=corrections)
    rgb, cameras = views(heads=3, count=2)
    whole = model.encode(rgb, cameras)
    for index in range(3):
        alone = model.encode(rgb[index : index + 1], cameras[index : index + 1])
        torch.testing.assert_close(alone.residual[0], whole.residual[index], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("count", "height", "width"), [(1, 24, 24), (2, 17, 40), (7, 48, 33)])
def test_any_number_of_views_of_any_size(count, height, width):
    model = small_reconstructor(corrections=1)
    latent = model.encode(*views(1, count, height, width))
    assert latent.residual.shape == (1, model.generator.synthesis.out_channels, 4, 4)
    assert bool(torch.isfinite(latent.residual).all())


@pytest.mark.parametrize("corrections", [0, 2])
def test_gradients_reach_everything_that_encodes(corrections):
    model = small_reconstructor(corrections=corrections).requires_grad_(True)
    predicted = model.predict(*views(1, 2, focal=8.0))  # close, so that not every token is inside
    (
        predicted.latent.residual.square().sum()
        + predicted.latent.ws.sum()
        + predicted.offset.square().sum()
    ).backward()
    silent = {
        name
        for name, value in model.named_parameters()
        if not name.startswith("generator.") and (value.grad is None or not bool(value.grad.any()))
    }
    assert silent == set()


def test_a_new_correction_changes_nothing_and_a_trained_one_sees_the_error():
    plain, rgb, cameras = small_reconstructor(), *views(1, 2)
    first = plain.encode(rgb, cameras)
    torch.manual_seed(0)
    model = Reconstructor(reconstructor_config(corrections=2)).eval().requires_grad_(False)
    model.load_state_dict(model.state_dict() | plain.state_dict())
    torch.testing.assert_close(model.encode(rgb, cameras).residual, first.residual)
    torch.testing.assert_close(model.encode(rgb, cameras).ws, first.ws)
    # Images that are the rendering of the guess have no error, so colors looked up are zero;
    # others are not.
    seen = []
    model.correction.guided.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    guess = render(first.gaussians(plain.generator), cameras, 24, background=1.0, depth=False).color
    model.correction(
        torch.zeros(1, 16, 16),
        guess,
        guess,
        torch.ones(1, 2, 1, 24, 24),
        torch.zeros(1, 16, 3),
        cameras,
    )
    model.correction(
        torch.zeros(1, 16, 16),
        rgb,
        guess,
        torch.ones(1, 2, 1, 24, 24),
        torch.zeros(1, 16, 3),
        cameras,
    )
    colors = 3 * model.config.detail**2
    assert seen[0][..., :colors].abs().max() < 1e-5 and seen[1][..., :colors].abs().mean() > 0.5


def test_what_is_compared_is_the_guess_in_the_views():
    model = small_reconstructor(corrections=1)
    rgb, cameras = views(2, 2, height=20, width=28)
    compared = []
    model.correction.register_forward_pre_hook(lambda _, inputs: compared.append(inputs))
    model.encode(rgb, cameras)
    plain = small_reconstructor()
    plain.load_state_dict(
        {name: value for name, value in model.state_dict().items() if "correction" not in name}
    )
    head = plain.encode(rgb, cameras).gaussians(plain.generator)
    out = render(head, cameras, (28, 20), background=1.0, depth=False, eps2d=0.3)
    _, given, shown, alpha, offset, _ = compared[0]
    torch.testing.assert_close(shown, out.color, atol=1e-4, rtol=0)
    torch.testing.assert_close(alpha, out.alpha, atol=1e-4, rtol=0)
    assert torch.equal(given, rgb)
    attributes = plain.generator.attributes
    # all cells hold the same number of Gaussians here or none
    moved = (head.means - attributes.position).mean(1)
    assert offset.shape == (2, 16, 3) and (offset.mean(1) - moved).abs().max() < 0.02


def test_bf16_is_close_to_float32():
    model = small_reconstructor()
    rgb, cameras = views(1, 3)
    exact = model.encode(rgb, cameras).residual
    model.dtype = torch.bfloat16
    assert (
        model.encode(rgb, cameras).residual - exact
    ).abs().max() < 0.05 * exact.abs().max() + 0.02


def test_background_surrounds_the_rig_and_is_told_from_the_head():
    model = small_reconstructor(
        background=RigBackgroundConfig(kind="sphere", channels=(4, 4), resolution=32)
    )
    rgb, cameras = views(heads=2, count=3)
    predicted = model.predict(rgb, cameras)
    back = predicted.background
    assert back.means.shape == (2, 32 * 64, 3)
    assert (back.means.norm(dim=-1) > cameras.position.norm(dim=-1).max()).all()
    head = predicted.latent.gaussians(model.generator)
    whole = with_background(head, back)
    out = render(whole, cameras, 24, features=True)
    assert out.alpha.min() > 0.9  # the sphere closes behind the head
    alone = render(head, cameras, 24)
    torch.testing.assert_close(out.features, alone.alpha, atol=0.02, rtol=0)
    other = model.predict(
        rgb.flip(1), Cameras(cameras.cam2world.flip(1), cameras.intrinsics.flip(1))
    )
    torch.testing.assert_close(other.background.colors, back.colors, atol=1e-5, rtol=1e-4)


# -------------------------------------------------------------------------------------------- files
def test_snapshot_round_trip_and_the_generator_inside(tmp_path):
    model = small_reconstructor()
    path = tmp_path / "reconstructor-000010.safetensors"
    checkpoints.save(model, path, done=10, provenance={"preset": "test"})
    again = gghead.load(tmp_path)
    assert isinstance(again, Reconstructor) and again.config == model.config
    rgb, cameras = views()
    latent = model.encode(rgb, cameras)
    assert torch.equal(again.encode(rgb, cameras).residual, latent.residual)
    latents.save(tmp_path / "head.safetensors", latent, model.generator)
    generator = gghead.load(path, kind="generator")
    head = latents.load(tmp_path / "head.safetensors", generator).gaussians(generator)
    torch.testing.assert_close(
        head.means, latent.to_file_precision().gaussians(model.generator).means
    )
    assert checkpoints.read_info(path).config == model.config.generator
    with pytest.raises(UserError, match="never trained on seeds"):
        generator.sample(seed=0)
    model.generator.mapping.w_avg += 0.1
    checkpoints.save(model, path)
    assert gghead.load(path, kind="generator").sample(seed=0).shape == (1,)
    with pytest.raises(UserError, match="of another architecture"):
        latents.load(tmp_path / "head.safetensors", small_network(latent_resolution=8))


def test_wrong_kinds_are_named(tmp_path):
    checkpoints.save(small_network(), tmp_path / "gan.safetensors")
    with pytest.raises(
        UserError, match="a generator of heads, but a reconstructor from views is needed"
    ):
        gghead.load(tmp_path / "gan.safetensors", kind="reconstructor")
    checkpoints.save(small_reconstructor(), tmp_path / "rec.safetensors")
    with pytest.raises(
        UserError, match="a reconstructor from views, but an avatar of one person is needed"
    ):
        gghead.load(tmp_path / "rec.safetensors", kind="avatar")


# ------------------------------------------------------------------------------------- broken input
def test_broken_input():
    model = small_reconstructor()
    rgb, cameras = views(1, 2)
    with pytest.raises(ValueError, match="at least one view"):
        model.encode(rgb[:, :0], cameras[:, :0])
    with pytest.raises(ValueError, match="Every view needs a camera"):
        model.encode(rgb, cameras[:, :1])
    with pytest.raises(ValueError, match=r"must have the shape \[heads, views"):
        model.encode(rgb[0], cameras)
    broken = rgb.clone()
    broken[0, 1, 0, 3, 3] = float("nan")
    with pytest.raises(UserError, match="View 1 of head 0"):
        model.encode(broken, cameras)
    pose = cameras.cam2world.clone()
    pose[0, 1, 0, 0] = float("nan")
    with pytest.raises(UserError, match="camera of view 1 contains numbers that are not finite"):
        model.encode(rgb, Cameras(pose, cameras.intrinsics))
    with pytest.raises(UserError, match="fine_level must name one of the 3 levels"):
        small_reconstructor(fine_level=3)
