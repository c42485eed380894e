"""Avatars that start from a head: the first image is that head, whatever the avatar is made
of."""

import pytest
import torch
from click.testing import CliRunner
from helpers.avatar_sequence import write_sequence
from helpers.painted_head import painted_head
from helpers.small_reconstructor import small_reconstructor

import gghead
from gghead import checkpoints
from gghead.animation.frames import Frames, read_sequence, split_or_all
from gghead.cameras import Cameras
from gghead.models.avatar import Avatar
from gghead.torch_utils import config as config_json
from gghead.torch_utils.errors import UserError
from gghead.training.avatar.config import ABLATIONS, PRESETS
from gghead.training.avatar.initial import calm_frames, copy_appearance, initial_head, thin_out
from gghead.training.avatar.trainer import AvatarTrainer, new_avatar
from gghead.training.cli.train_avatar import main

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_sequence(tmp_path_factory.mktemp("sequence") / "person", count=12)


@pytest.fixture(scope="module")
def frames(data):
    return Frames(split_or_all(read_sequence(data), "train"))


@pytest.fixture(scope="module")
def ply(tmp_path_factory):
    path = tmp_path_factory.mktemp("head") / "head.ply"
    painted_head(32)[0].save_ply(path)
    return path


def config(ply, **changes):
    small = {"init_head": str(ply), "points": 300, "motion": "features"}
    return config_json.replace(config_json.replace(PRESETS["tiny"], small), changes)


def shown(gaussians):
    return gghead.render(gaussians, Cameras.orbit(0.2), 48, background=1.0).color


@pytest.mark.parametrize("ablation", [None, "no-blending", "geometry", "everything", "no-mlp"])
def test_the_first_image_is_the_head(ablation, ply, frames):
    head = gghead.Gaussians.load_ply(ply)
    head = head.select(head.opacities > 0.05)
    plan = config_json.replace(config(ply, points=5000, seed=3), ABLATIONS.get(ablation, {}))
    avatar = new_avatar(plan, frames).requires_grad_(False)
    assert avatar.num == head.num
    first = avatar(torch.zeros(1, 3))
    head.opacities = head.opacities.clamp(0.05, 0.95)
    assert float((shown(first) - shown(head)).abs().max()) < 2e-3


def test_thinning_keeps_the_image_and_spreads_evenly():
    head = painted_head(32)[0]
    few = thin_out(head, 400)
    assert few.num == 400
    assert float((shown(few) - shown(head)).abs().mean()) < 0.5 * float(
        (1 - shown(head)).abs().mean()
    )
    area, covered = (float(part.scales.topk(2, dim=1).values.prod(1).sum()) for part in (head, few))
    assert covered >= 0.9 * area
    drawn = torch.randperm(head.num, generator=torch.Generator().manual_seed(0))[:400]
    gaps = [
        float(torch.cdist(head.means, means).amin(1).max())
        for means in (few.means, head.means[drawn])
    ]
    assert gaps[0] < 0.7 * gaps[1]
    assert (
        torch.equal(thin_out(head, 400).means, few.means) and thin_out(head, 10**6).num <= head.num
    )
    ghost = head.select(slice(0, 20))
    ghost.opacities = torch.zeros_like(ghost.opacities)
    with pytest.raises(UserError, match="at least 4 Gaussians to start with, but the head has 0"):
        thin_out(ghost, 10)


def test_calm_frames_come_from_everywhere_and_are_calm(frames):
    chosen = calm_frames(frames, 5)
    assert chosen == sorted(chosen) and len(set(chosen)) == 5
    yaw = frames.cameras.angles()[0]
    order = yaw.argsort().tolist()
    extent = frames.expression.amax(0) - frames.expression.amin(0)
    effort = (frames.expression / extent).square().sum(1)
    pairs = [order[first : first + 2] for first in range(0, 10, 2)]
    assert chosen == sorted(min(pair, key=lambda index: float(effort[index])) for pair in pairs)
    assert calm_frames(frames, 99) == list(range(len(frames)))


def test_an_encoder_makes_the_head_of_training_frames(frames, tmp_path):
    model = small_reconstructor()
    checkpoints.save(model, tmp_path / "encoder.safetensors")
    head = initial_head(str(tmp_path / "encoder.safetensors"), frames, CPU)
    chosen = calm_frames(frames, 8)
    rgb = torch.stack([frames.over(index) for index in chosen])
    size = model.generator.config.image_size
    if max(frames.size) <= size:  # small images are taken as they are
        expected = model.encode(rgb[None], frames.cameras[chosen][None]).gaussians(model.generator)[
            0
        ]
        torch.testing.assert_close(head.means, expected.means)
    assert head.means.isfinite().all() and len(head.shape) == 0


def test_training_goes_on_from_it_and_resumes_without_the_file(ply, data, tmp_path):
    copy = tmp_path / "copy.ply"
    copy.write_bytes(ply.read_bytes())
    options = [
        f"--data={data}",
        f"--outdir={tmp_path / 'runs'}",
        "--preset=tiny",
        "--resolution=24",
        "--points=60",
        f"--init-head={copy}",
        "--tick=4",
        "--snap=1",
        "--device=cpu",
        "--steps=8",
    ]
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 0, result.output
    assert "60 Gaussians to start with" in result.output
    folder = next((tmp_path / "runs").iterdir())
    copy.unlink()
    more = CliRunner().invoke(main, [f"--resume={folder}", "--steps=12"])
    assert more.exit_code == 0, more.output


def test_a_head_pays_off(ply, frames):
    """Nearer to the head than points on a gray template before the first step."""
    losses = []
    for start in (str(ply), None):
        trainer = AvatarTrainer(config(ply, init_head=start, background="white"), frames, CPU)
        look = shown(trainer.avatar(torch.zeros(1, 3)).detach())
        losses.append(float((look - shown(gghead.Gaussians.load_ply(ply))).abs().mean()))
    assert losses[0] < 0.5 * losses[1]


def test_wrong_heads_are_a_sentence(ply, data, frames, tmp_path):
    (tmp_path / "bad.ply").write_bytes(b"no head")
    for head, sentence in (
        (tmp_path / "bad.ply", "is not a .ply file"),
        (tmp_path / "no.ply", "cannot be read"),
        (tmp_path / "none", "does not exist"),
        ("demo", "reconstructor"),
    ):
        result = CliRunner().invoke(
            main,
            [
                f"--data={data}",
                f"--outdir={tmp_path / 'runs'}",
                f"--init-head={head}",
                "--resolution=24",
                "--device=cpu",
            ],
        )
        assert result.exit_code == 1 and sentence in result.output, result.output
    assert not (tmp_path / "runs").exists()
    narrow = Avatar(
        config_json.replace(config(ply).avatar, {"width": 3, "feature_dim": 2}), torch.zeros(300, 3)
    )
    with pytest.raises(
        UserError, match="at least 4 features and 8 hidden units, but it has 2 and 64"
    ):
        copy_appearance(narrow, thin_out(gghead.Gaussians.load_ply(ply), 300))
