"""Avatars whose Gaussians move, and bases that both sides of a face share: against the template,
densified, resumed."""

import json
import math

import pytest
import torch
from click.testing import CliRunner
from helpers.avatar_sequence import write_sequence
from helpers.small_avatar import small_config

import gghead
from gghead.animation.blendshapes import names_without_shapes, template_motion, template_uv
from gghead.animation.frames import Frames, read_sequence, split_or_all
from gghead.animation.surface import moving_surface
from gghead.models import compression
from gghead.models.avatar import Avatar
from gghead.models.avatar_config import AvatarConfig
from gghead.models.mirrored_grid import MirroredGrid, mirror_order
from gghead.models.motion import as_motion, displace, split
from gghead.rendering.projection import quat_to_rotmat
from gghead.template import load_template
from gghead.torch_utils.errors import UserError
from gghead.training.avatar.config import DensifyConfig
from gghead.training.avatar.densify import Densifier
from gghead.training.avatar.initial import surface_points
from gghead.training.avatar.score import side_frames
from gghead.training.avatar.trainer import AvatarTrainer, make_optimizer, new_avatar
from gghead.training.cli.compress_avatar import main as compress_main
from gghead.training.cli.score_avatar import main as score_main
from gghead.training.cli.train_avatar import main

CPU = torch.device("cpu")
TEMPLATE = load_template("head")
NAMES = ("jawOpen", "mouthSmile_L", "mouthSmile_R", "eyeLookUp_L", "jaw0")
OPTIONS = {
    "blendshapes": {"motion": "blendshapes"},
    "grid": {"avatar": {"mirrored_grid": 4}},
    "both": {"motion": "blendshapes", "avatar": {"mirrored_grid": 4}},
}


def vertices(count=300):
    """Some vertices of the front of the head."""
    points = torch.from_numpy(TEMPLATE.vertices).float()
    front = ((points[:, 2] > 0.1) & (points[:, 0].abs() < 0.15)).nonzero()[:, 0]
    chosen = front[torch.randperm(len(front), generator=torch.Generator().manual_seed(0))[:count]]
    return chosen, points[chosen]


# ------------------------------------------------------------------------- motions
def test_motions_of_the_template_are_its_blendshapes():
    chosen, points = vertices()
    motion = template_motion(TEMPLATE, NAMES, points)
    assert motion.shape == (5, 300, 6) and not motion[3:].any()
    weights = torch.tensor([0.7, 0.5, 1.0, 1.0, 1.0])
    quats = torch.tensor([1.0, 0, 0, 0]).expand(300, 4)
    moved, _ = displace(points, quats, torch.einsum("b,bnc->nc", weights, motion))
    posed = TEMPLATE.pose({"jawOpen": 0.7, "mouthSmileLeft": 0.5, "mouthSmileRight": 1.0})[
        chosen.numpy()
    ]
    error = (moved - torch.from_numpy(posed)).norm(dim=1)
    # lids and lips are steep
    assert float(error.quantile(0.95)) < 2e-3 and float(error.median()) < 1e-5
    assert float((moved - points).norm(dim=1).max()) > 0.04


def test_turns_of_the_template_are_those_of_its_surface():
    points = surface_points(TEMPLATE, 400, seed=0)
    surface = moving_surface(TEMPLATE)
    places = surface.below(points, template_uv(TEMPLATE, points))
    row = torch.zeros(len(surface.names))
    row[surface.names.index("jawOpen")], row[surface.names.index("mouthSmileLeft")] = 0.5, 0.3
    expected = surface.motion_of(places, row).rotation()
    motion = torch.einsum(
        "b,bnc->nc", torch.tensor([0.5, 0.3]), template_motion(TEMPLATE, NAMES[:2], points)
    )
    _, turned = displace(points, torch.tensor([1.0, 0, 0, 0]).expand(400, 4), motion)
    off = 2 * (expected * turned).sum(-1).abs().clamp(max=1).acos()
    whole = 2 * expected[:, 0].abs().clamp(max=1).acos()
    assert math.degrees(float(whole.quantile(0.99))) > 5
    assert math.degrees(float(off.mean())) < 0.15 and float(off.mean()) < 0.15 * float(whole.mean())


def test_no_motion_changes_no_bit_and_a_motion_is_what_it_says():
    random = torch.Generator().manual_seed(0)
    means, quats = torch.randn(9, 3, generator=random), torch.randn(9, 4, generator=random)
    still = displace(means, quats, torch.zeros(2, 9, 6))
    assert all(torch.equal(a[1], b) for a, b in zip(still, (means, quats), strict=True))
    turn = torch.tensor([math.cos(0.3), 0.0, math.sin(0.3), 0.0]).expand(9, 4)
    for sign in (1, -1):  # two quaternions of one rotation
        motion = as_motion(torch.tensor([0.1, 0.0, -0.2]).expand(9, 3), sign * turn)
        moved, turned = displace(means, quats, motion[None])
        torch.testing.assert_close(moved[0], means + torch.tensor([0.1, 0.0, -0.2]))
        torch.testing.assert_close(
            quat_to_rotmat(turned[0]), quat_to_rotmat(turn) @ quat_to_rotmat(quats)
        )
    reach, multiples = split(torch.cat([motion, torch.zeros(1, 6)]))
    torch.testing.assert_close(reach[:-1, None] * multiples[:-1], motion)
    assert float(reach[-1]) == 0 and not multiples[-1].any()


def test_what_the_template_leaves_still_stays_still():
    """Gradients reach motions as far as their reach goes."""
    random = torch.Generator().manual_seed(0)
    avatar = Avatar(
        AvatarConfig(width=2, feature_dim=2, hidden=4, sh_degree=0, motion="blendshapes"),
        torch.randn(5, 3, generator=random),
    )
    with torch.no_grad():
        avatar.reach[0, :3], avatar.reach[1, :3] = 2.0, 1.0
    gaussians = avatar(torch.tensor([[0.5, 0.0]]))
    (
        gaussians.means.sum() + (gaussians.quats * torch.randn(5, 4, generator=random)).sum()
    ).backward()
    assert bool((avatar.motion.grad[0, :3] != 0).all())
    assert (
        not avatar.motion.grad[0, 3:].any()
        and not avatar.motion.grad[1].any()
        and avatar.reach.grad is None
    )


def test_coefficients_without_a_shape_are_named_and_foreign_ones_refused():
    assert names_without_shapes(TEMPLATE, NAMES) == ("eyeLookUp_L", "jaw0")
    for names, said in (
        (("expr0", "expr1"), "has the coefficients expr0, expr1 …"),
        ((), "does not name its"),
    ):
        with pytest.raises(
            UserError, match=f"names of ARKit or ICT-FaceKit .*{said}.*motion='features'"
        ):
            template_motion(TEMPLATE, names, torch.zeros(2, 3))
    with pytest.raises(UserError, match="template 'sphere' has no blendshapes"):
        template_motion(load_template("sphere"), NAMES, torch.zeros(2, 3))


# ---------------------------------------------------------------------- both sides
def test_what_one_side_learns_the_other_knows():
    names = (
        "mouthSmile_L",
        "jawOpen",
        "mouthSmile_R",
        "eyeLookIn_L",
        "eyeLookIn_R",
        "jawLeft",
        "jawRight",
    )
    grid = MirroredGrid(names, 3, 8).requires_grad_(False)
    grid.values.normal_(generator=torch.Generator().manual_seed(0))
    swapped = [2, 1, 0, 4, 3, 6, 5]
    assert mirror_order(names) == swapped
    e, places = torch.rand(4, 7), 2 * torch.rand(50, 2) - 1
    here, there = grid(e, places), grid(e[:, swapped], places * torch.tensor([-1.0, 1.0]))
    torch.testing.assert_close(here, there)
    assert float((here - grid(e, places * torch.tensor([-1.0, 1.0]))).abs().max()) > 0.1
    # linear
    torch.testing.assert_close(
        grid(e[:1] + e[1:2], places), grid(e, places)[:1] + grid(e, places)[1:2]
    )
    with pytest.raises(UserError, match="a left and a right side in their names"):
        mirror_order(("jawOpen", "expr1"))
    with pytest.raises(UserError, match="ablation='no-blending'"):
        Avatar(
            AvatarConfig(
                width=2, coefficient_names=("jawLeft", "jawRight"), blend=False, mirrored_grid=4
            )
        )


def test_mirrored_places_of_the_template_have_mirrored_anchors():
    _, points = vertices()
    flip = torch.tensor([-1.0, 1.0, 1.0])
    torch.testing.assert_close(
        template_uv(TEMPLATE, points * flip),
        template_uv(TEMPLATE, points) * flip[:2],
        atol=2e-3,
        rtol=0,
    )


# ------------------------------------------------------------------------ training
@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_sequence(
        tmp_path_factory.mktemp("sequence") / "person",
        names=("jawOpen", "eyeBlink_L", "eyeBlink_R"),
    )


@pytest.fixture(scope="module")
def frames(data):
    return Frames(split_or_all(read_sequence(data), "train"))


def config(**changes):
    return small_config(**{"motion": "features", **changes})


def test_at_birth_gaussians_go_where_the_template_goes(frames):
    avatar = new_avatar(config(motion="blendshapes", points=300), frames)
    avatar.coefficient_min.fill_(0)
    avatar.coefficient_max.fill_(1)
    with torch.no_grad():
        rest, wide = (avatar(torch.tensor([[value, 0.0, 0.0]])).means[0] for value in (0.0, 1.0))
    chin = (rest - torch.from_numpy(TEMPLATE.landmarks["chin"]).float()).norm(dim=1).argmin()
    assert float((wide - rest)[chin, 1]) < -0.04
    high = rest[:, 1] > 0.1
    assert torch.equal(wide[high], rest[high])


def test_the_preset_moves_what_the_template_has_shapes_for(frames, data, tmp_path):
    other = Frames(
        read_sequence(
            write_sequence(tmp_path / "flame", names=("expr0", "tongueOut", "eyeLookUp_L"))
        )
    )
    assert new_avatar(config(motion="auto"), frames).config.motion == "blendshapes"
    assert new_avatar(config(motion="auto"), other).config.motion == "features"
    assert new_avatar(config(motion="auto", template="sphere"), frames).config.motion == "features"

    def asked(*options):
        return json.loads(run(main, f"--data={data}", "--dry-run=1", *options).output)["motion"]

    assert (asked(), asked("--preset=headgas"), asked("--ablation=geometry")) == (
        "auto",
        "features",
        "features",
    )
    assert asked("--ablation=geometry", "--motion=blendshapes") == "blendshapes"


def test_children_inherit_motion_and_anchor(frames):
    avatar = new_avatar(config(**OPTIONS["both"]), frames)
    optimizer = make_optimizer(avatar, config())
    (
        avatar(torch.rand(1, 3)).means.square().sum() + avatar(torch.rand(1, 3)).colors.sum()
    ).backward()
    optimizer.step()
    motion, reach, anchors = (
        avatar.motion.detach().clone(),
        avatar.reach.clone(),
        avatar.anchors.clone(),
    )
    memory = optimizer.state[avatar.motion]["exp_avg"].clone()
    with torch.no_grad():
        avatar.log_scales[0] = math.log(0.5)
        avatar.log_scales[1] = math.log(0.001)
    densifier = Densifier(DensifyConfig(), 40, 1.0, 5, CPU)
    pixels = torch.zeros(40, 2)
    pixels[:2] = 1.0
    densifier.observe(pixels, torch.ones(40, 2), torch.ones(40), (32, 32))
    done = densifier.refine(avatar, optimizer, 100, torch.Generator().manual_seed(0))
    assert (done.cloned, done.split, avatar.num) == (1, 1, 42)
    parents = [*range(1, 40), 1, 0, 0]
    assert torch.equal(avatar.motion, motion[:, parents]) and torch.equal(
        avatar.reach, reach[:, parents]
    )
    assert torch.equal(avatar.anchors, anchors[parents])
    assert avatar.motion.requires_grad and not avatar.anchors.requires_grad
    assert torch.equal(optimizer.state[avatar.motion]["exp_avg"][:, :39], memory[:, 1:])
    assert not optimizer.state[avatar.motion]["exp_avg"][:, 39:].any()


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_resume_is_bit_for_bit(options, frames):
    plain, first = (AvatarTrainer(config(**options), frames, CPU) for _ in range(2))
    for _ in range(18):
        plain.step()
    for _ in range(13):  # between two refinements, after one
        first.step()
    second = AvatarTrainer(config(**options), frames, CPU)
    second.load_state_dict(first.state_dict())
    for _ in range(5):
        second.step()
    assert plain.avatar.num > 40
    for (name, a), b in zip(
        plain.avatar.state_dict().items(), second.avatar.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name


def test_what_is_learnt_and_what_stays(frames):
    still = AvatarTrainer(
        config(**OPTIONS["both"], rates={"motion": 0.0}, densify={"until": 0}), frames, CPU
    )
    learned = AvatarTrainer(config(**OPTIONS["both"], densify={"until": 0}), frames, CPU)
    before = still.avatar.motion.detach().clone()
    for _ in range(3):
        still.step()
        learned.step()
    assert torch.equal(still.avatar.motion, before) and not torch.equal(
        learned.avatar.motion, before
    )
    assert learned.avatar.grid.values.abs().max() > 0
    assert torch.equal(learned.avatar.anchors, still.avatar.anchors)


# ------------------------------------------------------------------------ commands
def run(command, *arguments):
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


@pytest.mark.parametrize("options", [["--mirrored-grid=4"], ["--ablation=everything"]])
def test_commands_take_them_like_any_avatar(options, data, tmp_path):
    small = [
        "--preset=tiny",
        "--resolution=24",
        "--points=40",
        "--feature-dim=4",
        "--tick=4",
        "--snap=1",
        "--device=cpu",
        f"--outdir={tmp_path}",
        f"--data={data}",
    ]
    result = run(main, *small, "--steps=6", "--motion=blendshapes", *options)
    assert result.exit_code == 0, result.output
    assert "blendshapes for 3 of 3 coefficients" in result.output
    folder = next(tmp_path.glob("0*"))
    again = run(main, f"--resume={folder}", "--steps=8", "--device=cpu")
    assert again.exit_code == 0, again.output
    avatar = gghead.load(folder, kind="avatar")
    moved = avatar(torch.tensor([[0.0, 0, 0], [1, 0, 0]]), clamp=False).means
    assert float((moved[1] - moved[0])[:, 1].min()) < -0.04
    small_file = tmp_path / "small.safetensors"
    assert (
        run(compress_main, f"--avatar={folder}", f"--dest={small_file}", "--rank=3").exit_code == 0
    )
    scores = []
    for file in (folder, small_file):
        result = run(
            score_main, f"--avatar={file}", f"--data={data}", f"--outdir={tmp_path / 'scores'}"
        )
        assert result.exit_code == 0, result.output
        scores.append(
            json.loads((tmp_path / "scores/scores.json").read_text())["results"]["avatar"]["psnr"]
        )
    assert scores[1] == pytest.approx(scores[0], abs=0.1)


@pytest.mark.parametrize(("motion", "rank"), [("features", 128), ("blendshapes", 256)])
def test_compressing_keeps_more_movements_where_gaussians_move(
    motion, rank, data, tmp_path, monkeypatch
):
    result = run(
        main,
        f"--data={data}",
        f"--outdir={tmp_path}",
        "--resolution=24",
        "--points=40",
        "--feature-dim=4",
        "--steps=1",
        "--device=cpu",
        f"--motion={motion}",
    )
    assert result.exit_code == 0, result.output
    folder, ranks, made = next(tmp_path.glob("0*")), [], compression.factorize

    def factorize(avatar, expression, plan):
        ranks.append(plan.movements(avatar.config.motion))
        return made(avatar, expression, plan)

    monkeypatch.setattr(compression, "factorize", factorize)
    for option in ([], ["--rank=5"]):
        result = run(
            compress_main,
            f"--avatar={folder}",
            f"--dest={tmp_path / 'x.safetensors'}",
            "--overwrite",
            *option,
        )
        assert result.exit_code == 0, result.output
    assert ranks == [rank, 5]


def test_demo_is_the_shipped_network_and_no_avatar_whatever_folder_is_here(tmp_path, monkeypatch):
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path)
    shipped = run(compress_main, "--avatar=demo", "--dest=small.safetensors", "--data=box")
    assert (
        shipped.exit_code == 1
        and "is a generator of heads, but an avatar of one person is needed" in shipped.output
    )
    folder = run(compress_main, "--avatar=./demo", "--dest=small.safetensors", "--data=box")
    assert folder.exit_code == 1 and "demo holds no" in folder.output


def test_sequences_that_do_not_fit_are_a_sentence(tmp_path):
    folder = write_sequence(tmp_path / "flame", names=("expr0", "expr1"))
    for option, sentence in (
        ("--motion=blendshapes", "use --motion=features"),
        ("--mirrored-grid=4", "leave it out"),
    ):
        result = run(
            main, f"--data={folder}", f"--outdir={tmp_path / 'runs'}", "--device=cpu", option
        )
        assert (
            result.exit_code == 1 and sentence in result.output and "Traceback" not in result.output
        )
        assert not (tmp_path / "runs").exists()


def test_a_rate_for_motions_that_there_are_not_is_refused(data, tmp_path):
    for options in (["--preset=headgas"], ["--preset=tiny", "--motion=features"]):
        result = run(
            main, f"--data={data}", f"--outdir={tmp_path / 'runs'}", "--motion-lr=0.01", *options
        )
        assert result.exit_code == 1 and "--motion=features has none" in result.output
    assert not (tmp_path / "runs").exists()
    assert (
        run(main, f"--data={data}", "--preset=tiny", "--motion-lr=0.01", "--dry-run=1").exit_code
        == 0
    )


def test_side_frames_are_those_seen_from_the_side():
    yaw = torch.tensor([0.1, -0.5, 0.2, 0.0, 0.4, -0.1, 0.3, -0.2])
    assert side_frames(gghead.Cameras.orbit(yaw, pitch=0.3)) == {1, 4}
    assert side_frames(gghead.Cameras.orbit(yaw[:1])) == {0}
