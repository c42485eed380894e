"""Views as they are given to a reconstruction: what they may be, cameras against the template, odd
ones out."""

import numpy as np
import pytest
import torch
from helpers.capture_zip import write_captures
from helpers.small_network import small_network

from gghead.cameras import Cameras
from gghead.data import formats
from gghead.models.attributes import GaussianAttributes
from gghead.models.config import AttributeConfig
from gghead.reconstruction import InputViews, compare, from_captures
from gghead.reconstruction.refine import RefineConfig, refine
from gghead.reconstruction.report import check_views, odd_views, orbit_like
from gghead.rendering import render
from gghead.template import load_template
from gghead.torch_utils.errors import UserError

FLIP = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))


def template_head():
    attributes = GaussianAttributes(
        AttributeConfig(rotation_frame="surface", opacity_init=0.99), load_template("head"), 48
    )
    return attributes.activate(
        {
            name: torch.zeros(1, attributes.num, channels)
            for name, channels in AttributeConfig().channels.items()
        }
    )


def seen(yaws=(-0.6, 0.0, 0.5), size=48, **changes):
    """The template from some sides, by its own cameras unless ``changes`` names others."""
    cameras = Cameras.orbit(torch.tensor(yaws), 0.1, focal=2.9)
    out = render(template_head(), cameras, size, background=1.0)
    given = {
        "rgb": out.color[0],
        "alpha": out.alpha[0],
        "cameras": cameras,
        "names": tuple(f"v{index}" for index in range(len(yaws))),
    }
    return InputViews(**{**given, **changes})


# ------------------------------------------------------------------------------------------- inputs
def test_broken_views_are_refused():
    given = seen()
    empty = {
        "rgb": given.rgb[:0],
        "alpha": given.alpha[:0],
        "cameras": given.cameras[:0],
        "names": (),
    }
    with pytest.raises(UserError, match="no views to reconstruct a head from"):
        seen(**empty)
    with pytest.raises(
        ValueError, match="3 views, but cameras of the shape \\[2\\].*every view needs its camera"
    ):
        seen(cameras=given.cameras[:2])
    with pytest.raises(ValueError, match="Views must be images"):
        seen(alpha=given.alpha[..., :-1])
    rgb = given.rgb.clone()
    rgb[1, 0, 3, 3] = float("nan")
    with pytest.raises(UserError, match="image of view v1 holds NaN"):
        seen(rgb=rgb)
    pose = given.cameras.cam2world.clone()
    pose[2, 0, 3] = float("nan")
    with pytest.raises(UserError, match="camera of view 2 contains numbers that are not finite"):
        seen(cameras=Cameras(pose, given.cameras.intrinsics))


def test_names_may_be_numbers_and_a_folder_with_one_zip_is_that_zip(tmp_path):
    write_captures(tmp_path / "balls.zip", subjects=1)
    (tmp_path / "README.md").write_text("what it is")
    captures = formats.read(tmp_path).resize(24)
    views = from_captures(captures, "0", "0", ["2", "04"])
    assert (
        views.names == ("02", "04") and len(views) == 2 and views.size == (24, 24) and views.masked
    )
    by_image = from_captures(captures, views=["images/000/e0_c02.png", "e0_c04"][:1])
    torch.testing.assert_close(by_image.rgb[0], views.rgb[0])
    outside = views.rgb[:, :, 0, 0]
    torch.testing.assert_close(outside, torch.ones_like(outside), atol=1e-3, rtol=0)
    assert views.pick(["04"]).names == ("04",)
    (tmp_path / "other.zip").write_bytes((tmp_path / "balls.zip").read_bytes())
    with pytest.raises(UserError, match="is of no known format"):
        formats.read(tmp_path)


# ------------------------------------------------------------------------------- the template check
def test_right_cameras_pass():
    assert check_views(seen(), "here") == []


@pytest.mark.parametrize("yaws", [(0.2,), (-0.6, 0.0, 0.5)])
@pytest.mark.parametrize(
    "code, wrong",
    [
        ("opengl-axes", lambda pose: pose @ FLIP),
        ("world-to-camera", torch.linalg.inv),
        ("upside-down", lambda pose: FLIP @ pose),
    ],
)
def test_wrong_axes_are_named(yaws, code, wrong):
    given = seen(yaws)
    views = seen(yaws, cameras=Cameras(wrong(given.cameras.cam2world), given.cameras.intrinsics))
    with pytest.raises(UserError, match=f"folder: {code}: .*Remedy: .*check=0"):
        check_views(views, "folder")


def test_a_single_view_from_behind_is_only_warned_about():
    (warning,) = check_views(seen((3.0,)), "here")
    assert warning.startswith("from-behind")
    with pytest.raises(UserError, match="here: from-behind"):
        check_views(seen((3.0, -2.9)), "here")


def test_cameras_of_another_crop_are_found_by_the_masks():
    given = seen((-0.6, -0.3, 0.0, 0.4))
    shifted = given.cameras.intrinsics.clone()
    shifted[:, 0, 2] += 0.24
    with pytest.raises(UserError, match="silhouette: .*do not lie where the template stands"):
        check_views(
            seen((-0.6, -0.3, 0.0, 0.4), cameras=Cameras(given.cameras.cam2world, shifted)), "here"
        )
    zoomed = given.cameras.intrinsics * torch.tensor([[0.6, 1, 1], [1, 0.6, 1], [1, 1, 1]])
    with pytest.raises(UserError, match="silhouette-scale"):
        check_views(
            seen((-0.6, -0.3, 0.0, 0.4), cameras=Cameras(given.cameras.cam2world, zoomed)), "here"
        )


# -------------------------------------------------------------------------------- judging, refining
def test_comparison_of_a_head_with_itself_is_perfect():
    values, color = compare(template_head(), seen())
    assert (
        (values["psnr"] > 90).all()
        and (values["iou"] == 1).all()
        and (values["ssim"] > 0.999).all()
    )
    assert color.shape == (3, 3, 48, 48)


def test_a_view_of_someone_else_stands_out():
    figures = {
        name: {"psnr_mask": value}
        for name, value in zip("abcd", (24.0, 25.0, 12.0, 24.5), strict=True)
    }
    assert odd_views(figures) == ["c"]
    assert odd_views({name: figures[name] for name in "ac"}) == [], (
        "two views do not say which is wrong"
    )


def test_novel_views_are_framed_like_the_given_ones():
    around = orbit_like(seen())
    assert around["radius"] == pytest.approx(2.7, abs=1e-4) and around["focal"] == pytest.approx(
        2.9
    )


def test_refining_uses_all_views_and_never_ends_worse():
    from gghead.inversion.objective import ObjectiveConfig
    from gghead.latent import Latent

    model, other = small_network(), small_network(3)
    cameras = Cameras.orbit(torch.tensor([-0.5, 0.6]), focal=2.9)
    ws = other.mapping(torch.randn(1, 8, generator=torch.Generator().manual_seed(0)), None)
    out = render(other.gaussians(ws), cameras, 24, background=1.0)
    views = InputViews(out.color[0].clamp(0, 1), out.alpha[0], cameras, ("a", "b"))
    start = Latent(model.mapping.w_avg.expand(1, model.num_ws, -1).clone())
    losses = []
    found = refine(
        model, start, views, RefineConfig(steps=15), lambda step, loss: losses.append(loss)
    )
    assert len(losses) == 16 and min(losses) < 0.9 * losses[0]
    before, after = (
        compare(latent.gaussians(model), views)[0]["psnr"] for latent in (start, found)
    )
    assert (after > before).all()
    broken = ObjectiveConfig(l1=float("inf"))
    with pytest.raises(UserError, match="not finite at step 0"):
        refine(model, start, views, RefineConfig(steps=2, objective=broken))
    assert np.isfinite(losses).all() and found.residual is not None
