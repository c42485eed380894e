"""Eyeballs and mouths of avatars: where they are, what moves them and what does not, and how far beyond training."""

import pytest
import torch
from click.testing import CliRunner
from helpers.avatar_sequence import write_sequence
from helpers.small_avatar import small_config

from gghead.animation.frames import Frames, read_sequence, split_or_all
from gghead.animation.insides import has_insides, insides, over_eyes
from gghead.animation.player import Player
from gghead.models.avatar import Avatar
from gghead.models.avatar_config import AvatarConfig
from gghead.models.motion import displaced
from gghead.rendering import render
from gghead.template import load_template
from torch_utils.errors import UserError
from training.avatar.cli import main
from training.avatar.config import PRESETS
from training.avatar.trainer import new_avatar
from training.avatar.variants import variant_config

TEMPLATE = load_template("head")
NAMES = ("jawOpen", "mouthSmile_L", "eyeBlink_L", "eyeLookIn_L", "eyeLookIn_R", "eyeLookUp_R")
COUNT = 160  # 30 points in each eyeball, 100 in the mouth
LEFT, RIGHT, MOUTH = slice(0, 30), slice(30, 60), slice(60, None)


@pytest.fixture(scope="module")
def moved():
    """Points at rest [N, 3] and where each coefficient alone brings them at weight one [B, N, 3]."""
    made = insides(TEMPLATE, NAMES, COUNT, seed=0)
    assert made.motion.shape == (len(NAMES), COUNT, 6)
    places, _ = displaced(made.points, torch.tensor([1.0, 0, 0, 0]).expand(COUNT, 4), made.motion)
    return made.points, dict(zip(NAMES, places, strict=True))


def mark(name):
    return torch.from_numpy(TEMPLATE.landmarks[name]).float()


def apart(points):  # [N, 3] -> [N, N]
    return torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")


def test_an_eye_turns_about_its_centre_by_its_own_gaze_alone(moved):
    points, at = moved
    for part, side, name, inward in ((LEFT, "Left", "eyeLookIn_L", -1), (RIGHT, "Right", "eyeLookIn_R", 1)):
        centre = mark("eyeCentre" + side)
        radius = (points[part] - centre).norm(dim=1)
        torch.testing.assert_close(radius, radius[:1].expand(30))  # a ball, turned as one body
        torch.testing.assert_close((at[name][part] - centre).norm(dim=1), radius)
        torch.testing.assert_close(apart(at[name][part]), apart(points[part]), atol=1e-5, rtol=0)
        front = points[part, 2].argmax()
        assert float((at[name] - points)[part][front, 0]) * inward > 0.01
    up = (at["eyeLookUp_R"] - points)[RIGHT]
    assert float(up[points[RIGHT, 2].argmax(), 1]) > 0.01
    for name in ("jawOpen", "mouthSmile_L", "eyeBlink_L"):
        assert torch.equal(at[name][:60], points[:60])
    assert torch.equal(at["eyeLookIn_L"][30:], points[30:]) and torch.equal(at["eyeLookIn_R"][LEFT], points[LEFT])


def test_the_lower_half_of_a_mouth_goes_with_the_jaw_and_the_upper_stays(moved):
    points, at = moved
    rest, wide = points[MOUTH], at["jawOpen"][MOUTH]
    lower = rest[:, 1] < TEMPLATE.landmarks["mouthCornerLeft"][1]
    assert 30 < int(lower.sum()) < 70
    assert torch.equal(wide[~lower], rest[~lower]) and float((wide - rest)[lower, 1].max()) < -0.01
    # With the chin, as one body: distances among themselves and from it stay.
    posed = torch.from_numpy(TEMPLATE.posed({"jawOpen": 1.0})).float()
    chin = (torch.from_numpy(TEMPLATE.vertices).float() - mark("chin")).norm(dim=1).argmin()
    before = torch.cat([rest[lower], torch.from_numpy(TEMPLATE.vertices[chin]).float()[None]])
    after = torch.cat([wide[lower], posed[chin][None]])
    torch.testing.assert_close(apart(after), apart(before), atol=3e-3, rtol=0)
    for name in NAMES[1:]:
        assert torch.equal(at[name][MOUTH], rest)
    assert float(rest[:, 2].max()) < TEMPLATE.landmarks["mouthCentre"][2] - 0.01  # behind the lips


def test_seeds_draw_other_points_and_numbers_are_kept():
    one, two = (insides(TEMPLATE, NAMES, 40, seed) for seed in (0, 1))
    assert torch.equal(one.points, insides(TEMPLATE, NAMES, 40, 0).points) and not torch.equal(one.points, two.points)
    for count in (0, 1, 5):
        assert insides(TEMPLATE, NAMES, count, 0).motion.shape == (6, count, 6)
    assert not insides(TEMPLATE, ("expr0",), 40, 0).motion.any()
    assert has_insides(TEMPLATE) and not has_insides(load_template("sphere"))


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    folder = write_sequence(tmp_path_factory.mktemp("sequence") / "person", names=NAMES)
    return Frames(split_or_all(read_sequence(folder), "train"))


def test_avatars_begin_with_them_in_place_of_the_open_eyes_skin(frames):
    avatar, without, paper = (new_avatar(small_config(points=2000, **changes), frames) for changes in (
        {}, {"insides": 0.0}, {"motion": "features"}))  # fmt: skip
    assert avatar.num == without.num == paper.num == 2000
    gaze = avatar.reach[NAMES.index("eyeLookIn_L")] > 0
    assert 40 < int(gaze.sum()) < 60 and not without.reach[3:].any()
    assert not avatar.reach[NAMES.index("eyeBlink_L"), gaze].any()
    assert torch.equal(without.means, paper.means)  # the paper's has no insides
    assert bool(over_eyes(TEMPLATE, without.means.detach()).any())
    of_eyes = gaze | (avatar.reach[NAMES.index("eyeLookIn_R")] > 0)
    assert not bool((over_eyes(TEMPLATE, avatar.means.detach()) & ~of_eyes).any())
    assert new_avatar(small_config(points=40, template="sphere"), frames).num == 40
    with pytest.raises(UserError, match="--insides is a share of the points from 0 to 0.5, but it is 2"):
        new_avatar(variant_config(PRESETS["tiny"], "insides=2"), frames)


def test_motions_go_on_where_looks_stay():
    """As far again as was seen, within [0, 1]; colours keep to what was seen, and the player agrees."""
    random = torch.Generator().manual_seed(0)
    avatar = Avatar(AvatarConfig(width=3, feature_dim=4, hidden=8, sh_degree=1, motion="blendshapes"),
                    torch.randn(30, 3, generator=random) * 0.1, spacing=0.05)  # fmt: skip
    for parameter in avatar.parameters():
        if parameter.ndim != 2 or parameter.shape[1] != 3:
            parameter.data.normal_(std=0.5, generator=random)
    avatar.coefficient_min.copy_(torch.tensor([0.1, 0.0, -0.5]))
    avatar.coefficient_max.copy_(torch.tensor([0.3, 0.8, 1.5]))
    wild = torch.tensor([[0.5, 0.9, 1.4], [9.0, 9.0, 9.0], [-9.0, -9.0, -9.0]])
    expected = torch.tensor([[0.5, 0.9, 1.4], [0.6, 1.0, 1.5], [0.0, 0.0, -0.5]])
    assert torch.equal(avatar.moving(wild), expected) and torch.equal(avatar.moving(wild, clamp=False), wild)
    with torch.no_grad():
        gaussians, seen = avatar(wild), avatar(avatar.clamp(wild))
        free = avatar(expected, clamp=False)
    assert torch.equal(gaussians.colors, seen.colors) and torch.equal(gaussians.opacities, seen.opacities)
    torch.testing.assert_close(gaussians.means, free.means)
    assert not torch.equal(gaussians.means, seen.means)
    player, camera = Player(avatar), avatar.camera()
    for frame in range(3):
        picture = render(gaussians[frame : frame + 1], camera, 24, background=1.0).color[0, 0].clamp(0, 1)
        torch.testing.assert_close(player.draw(wild[frame], camera, (24, 24)), picture, atol=1e-5, rtol=0)


def test_the_command_says_what_eyeballs_do_and_refuses_what_does_not_go_together(tmp_path):
    folder = write_sequence(tmp_path / "person", names=NAMES)
    small = ["--resolution=24", "--points=100", "--iterations=2", "--device=cpu", f"--outdir={tmp_path / 'runs'}"]

    def run(*options):
        return CliRunner().invoke(main, [f"--data={folder}", *options])

    done, without = run(*small), run(*small, "--insides=0")
    assert "blendshapes for 3 of 6 coefficients, eyeballs for 3" in done.output and done.exit_code == 0, done.output
    assert "for 3 of 6 coefficients, none for eyeLookIn_L, eyeLookIn_R, eyeLookUp_R" in without.output
    for option, sentence in (("--motion=features", "--motion=features does not move them"),
                             ("--preset=headgas", "--motion=features does not move them"),
                             ("--init-head=head.ply", "--init-head gives the points")):  # fmt: skip
        result = run("--insides=0.2", option)
        assert result.exit_code == 1 and sentence in result.output and "Traceback" not in result.output
