"""Eyeballs of avatars: where they are, what turns them and what does not; how far motions go on
beyond training."""

import pytest
import torch
from click.testing import CliRunner
from helpers.avatar_sequence import write_sequence
from helpers.small_avatar import small_config

from gghead.animation.eyeballs import eyeballs, has_eyeballs, over_eyes
from gghead.animation.frames import Frames, read_sequence, split_or_all
from gghead.animation.player import Player
from gghead.models.avatar import Avatar
from gghead.models.avatar_config import AvatarConfig
from gghead.models.motion import displace
from gghead.rendering import render
from gghead.template import load_template
from gghead.torch_utils import config as config_json
from gghead.torch_utils.errors import UserError
from gghead.training.avatar.config import PRESETS
from gghead.training.avatar.trainer import new_avatar
from gghead.training.cli.train_avatar import main

TEMPLATE = load_template("head")
NAMES = ("jawOpen", "mouthSmile_L", "eyeBlink_L", "eyeLookIn_L", "eyeLookIn_R", "eyeLookUp_R")
LEFT, RIGHT = slice(0, 30), slice(30, 60)


def apart(points):  # [N, 3] -> [N, N]
    return torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")


def test_an_eye_turns_about_its_center_by_its_own_gaze_alone():
    balls = eyeballs(TEMPLATE, NAMES, 60, seed=0)
    places, _ = displace(balls.points, torch.tensor([1.0, 0, 0, 0]).expand(60, 4), balls.motion)
    points, at = balls.points, dict(zip(NAMES, places, strict=True))
    for part, side, name, inward in (
        (LEFT, "Left", "eyeLookIn_L", -1),
        (RIGHT, "Right", "eyeLookIn_R", 1),
    ):
        center = torch.from_numpy(TEMPLATE.landmarks["eyeCentre" + side]).float()
        radius = (points[part] - center).norm(dim=1)
        torch.testing.assert_close(radius, radius[:1].expand(30))  # a ball, turned as one body
        torch.testing.assert_close((at[name][part] - center).norm(dim=1), radius)
        torch.testing.assert_close(apart(at[name][part]), apart(points[part]), atol=1e-5, rtol=0)
        front = points[part, 2].argmax()
        assert float((at[name] - points)[part][front, 0]) * inward > 0.01
    up = (at["eyeLookUp_R"] - points)[RIGHT]
    assert float(up[points[RIGHT, 2].argmax(), 1]) > 0.01
    for name in ("jawOpen", "mouthSmile_L", "eyeBlink_L"):
        assert torch.equal(at[name], points)
    assert torch.equal(at["eyeLookIn_L"][RIGHT], points[RIGHT]) and torch.equal(
        at["eyeLookIn_R"][LEFT], points[LEFT]
    )


def test_eyeballs_lie_where_the_skin_over_the_open_eye_would():
    points = eyeballs(TEMPLATE, NAMES, 60, seed=0).points
    skin = torch.from_numpy(TEMPLATE.vertices[TEMPLATE.regions["eyes"] > 0.9]).float()
    assert bool(over_eyes(TEMPLATE, skin).all())
    # the corners of the eye lie off the ball
    assert float(torch.cdist(skin, points).amin(1).quantile(0.9)) < 0.012
    assert not bool(
        over_eyes(TEMPLATE, torch.from_numpy(TEMPLATE.landmarks["chin"]).float()[None]).any()
    )


def test_seeds_draw_other_points_and_numbers_are_kept():
    one, two = (eyeballs(TEMPLATE, NAMES, 40, seed).points for seed in (0, 1))
    assert torch.equal(one, eyeballs(TEMPLATE, NAMES, 40, 0).points) and not torch.equal(one, two)
    for count in (0, 1, 5):
        assert eyeballs(TEMPLATE, NAMES, count, 0).motion.shape == (6, count, 6)
    assert has_eyeballs(TEMPLATE, NAMES) and has_eyeballs(TEMPLATE, ("eyeLookOutLeft",))
    assert not has_eyeballs(load_template("sphere"), NAMES) and not has_eyeballs(
        TEMPLATE, ("jawOpen", "eyeBlink_L")
    )


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    folder = write_sequence(tmp_path_factory.mktemp("sequence") / "person", names=NAMES)
    return Frames(split_or_all(read_sequence(folder), "train"))


def test_avatars_begin_with_them_in_place_of_the_open_eyes_skin(frames):
    avatar, without, paper = (
        new_avatar(small_config(points=2000, **changes), frames)
        for changes in ({}, {"eyeballs": 0.0}, {"motion": "features"})
    )
    assert avatar.num == without.num == paper.num == 2000
    left, right = (avatar.reach[NAMES.index(name)] > 0 for name in ("eyeLookIn_L", "eyeLookIn_R"))
    assert int((left | right).sum()) >= 0.048 * 2000 and not bool((left & right).any())
    assert not without.reach[3:].any() and not avatar.reach[:3, left | right].any()
    assert torch.equal(without.means, paper.means)  # the paper's has none
    assert bool(over_eyes(TEMPLATE, without.means.detach()).any())
    assert not bool((over_eyes(TEMPLATE, avatar.means.detach()) & ~(left | right)).any())
    assert new_avatar(small_config(points=40, template="sphere"), frames).num == 40
    with pytest.raises(UserError, match="eyeballs must lie between 0 and 0.5, but it is 2"):
        new_avatar(config_json.replace(PRESETS["tiny"], {"eyeballs": 2.0}), frames)


def test_motions_go_on_where_looks_stay():
    """As far again as was seen, within [0, 1]; colors keep to what was seen, and the player
    agrees."""
    random = torch.Generator().manual_seed(0)
    avatar = Avatar(
        AvatarConfig(width=3, feature_dim=4, hidden=8, sh_degree=1, motion="blendshapes"),
        torch.randn(30, 3, generator=random) * 0.1,
        spacing=0.05,
    )
    for parameter in avatar.parameters():
        if parameter.ndim != 2 or parameter.shape[1] != 3:
            parameter.data.normal_(std=0.5, generator=random)
    avatar.coefficient_min.copy_(torch.tensor([0.1, 0.0, -0.5]))
    avatar.coefficient_max.copy_(torch.tensor([0.3, 0.8, 1.5]))
    wild = torch.tensor([[0.5, 0.9, 1.4], [9.0, 9.0, 9.0], [-9.0, -9.0, -9.0]])
    expected = torch.tensor([[0.5, 0.9, 1.4], [0.6, 1.0, 1.5], [0.0, 0.0, -0.5]])
    assert torch.equal(avatar.clamp_motion(wild), expected) and torch.equal(
        avatar.clamp_motion(wild, clamp=False), wild
    )
    with torch.no_grad():
        gaussians, seen = avatar(wild), avatar(avatar.clamp(wild))
        free = avatar(expected, clamp=False)
    assert torch.equal(gaussians.colors, seen.colors) and torch.equal(
        gaussians.opacities, seen.opacities
    )
    torch.testing.assert_close(gaussians.means, free.means)
    assert not torch.equal(gaussians.means, seen.means)
    player, camera = Player(avatar), avatar.camera()
    for frame in range(3):
        image = (
            render(gaussians[frame : frame + 1], camera, 24, background=1.0).color[0, 0].clamp(0, 1)
        )
        torch.testing.assert_close(
            player.draw(wild[frame], camera, (24, 24)), image, atol=1e-5, rtol=0
        )


def test_the_command_says_what_eyeballs_do_and_refuses_what_does_not_go_together(tmp_path):
    folder = write_sequence(tmp_path / "person", names=NAMES)
    small = [
        "--resolution=24",
        "--points=100",
        "--steps=2",
        "--device=cpu",
        f"--outdir={tmp_path / 'runs'}",
    ]

    def run(*options):
        return CliRunner().invoke(main, [f"--data={folder}", *options])

    done, without = run(*small), run(*small, "--eyeballs=0")
    assert (
        "blendshapes for 3 of 6 coefficients, eyeballs for 3" in done.output and done.exit_code == 0
    ), done.output
    assert (
        "for 3 of 6 coefficients, none for eyeLookIn_L, eyeLookIn_R, eyeLookUp_R" in without.output
    )
    for option, sentence in (
        ("--motion=features", "--motion=features does not move them"),
        ("--preset=headgas", "--motion=features does not move them"),
        ("--init-head=head.ply", "--init-head gives the points"),
    ):
        result = run("--eyeballs=0.2", option)
        assert (
            result.exit_code == 1 and sentence in result.output and "Traceback" not in result.output
        )
