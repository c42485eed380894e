"""Frame after frame: the same images as the plain way, evaluated again only where something
changed."""

import json

import pytest
import torch
from click.testing import CliRunner
from helpers.avatar_sequence import write_sequence
from helpers.small_avatar import VARIANTS, dense, expressions

from gghead import checkpoints, sh
from gghead.animation import player as player_module
from gghead.animation.player import Player
from gghead.cameras import Cameras
from gghead.models.compression import CompressionPlan, factorize
from gghead.rendering import render
from gghead.training.benchmarks.avatar import with_count
from gghead.training.cli.benchmark import main

SIZE = (24, 20)
CAMERAS = Cameras.orbit(torch.tensor([0.0, 0.4, 0.4, -0.7]), focal=2.9)


def plain(avatar, expression, camera):
    return (
        render(avatar(expression[None]), camera, SIZE, background=0.3, depth=False)
        .color[0, 0]
        .clamp(0, 1)
    )


def forms(**options):
    avatar = dense(still=20, **options)
    return {
        "dense": avatar,
        "compressed": factorize(avatar, expressions(), CompressionPlan(4, 3, 0.2)).quantize(8),
    }


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(player_module, "_BLOCK", 16)


@pytest.mark.parametrize("form", ["dense", "compressed"])
@pytest.mark.parametrize("options", [*VARIANTS, {"sh_degree": 0}, {"sh_degree": 3}])
def test_images_are_those_of_the_plain_way(options, form):
    avatar = forms(**options)[form]
    player = Player(avatar)
    for index, e in enumerate(2 * expressions(4) - 0.5):  # some beyond the range, so clamped
        expected = plain(avatar, e, CAMERAS[index : index + 1])
        shown = player.draw(e, CAMERAS[index : index + 1], SIZE, background=0.3)
        torch.testing.assert_close(shown, expected, rtol=1e-4, atol=2e-5)
    free = player.draw(torch.full((3,), 1.5), CAMERAS[:1], SIZE, clamp=False)
    assert not torch.equal(free, player.draw(torch.full((3,), 1.5), CAMERAS[:1], SIZE))


def test_harmonics_along_another_dimension():
    directions = torch.nn.functional.normalize(torch.randn(5, 3), dim=-1)
    assert torch.equal(sh.basis(3, directions.T, 0), sh.basis(3, directions).T)


def test_broken_options_are_a_sentence():
    with pytest.raises(ValueError, match="takes 3 expression coefficients"):
        Player(dense()).draw(torch.zeros(4), CAMERAS[:1], SIZE)


def test_more_or_fewer_gaussians_look_about_the_same():
    avatar = dense(count=300)
    for count in (200, 900):
        made = with_count(avatar, count, 0)
        assert made.num == count
        area = (
            made.log_scales.exp().square().mean()
            * count
            / (avatar.log_scales.exp().square().mean() * 300)
        )
        assert float(area) == pytest.approx(1, abs=0.05)
    assert torch.equal(with_count(avatar, 900, 0).means, with_count(avatar, 900, 0).means)


def test_the_benchmark_times_all_forms(tmp_path):
    path, avatar = tmp_path / "avatar.json", tmp_path / "avatar-000001.safetensors"
    checkpoints.save(dense(count=100), avatar)
    data = write_sequence(tmp_path / "person")
    options = [
        f"--avatar={avatar}",
        f"--data={data}",
        "--gaussians=80,150",
        "--size=16,24",
        "--repeats=2",
    ]
    result = CliRunner().invoke(main, ["avatar", *options, f"--json={path}"])
    assert result.exit_code == 0, result.output
    rows = json.loads(path.read_text())["rows"]
    assert [(row["gaussians"], row["form"], row["size"]) for row in rows] == [
        (count, form, size)
        for count in (80, 150)
        for form in ("dense", "compressed")
        for size in (16, 24)
    ]
    assert all(
        min(row[f"{part}_ms"] for part in ("blend", "network", "raster", "frame")) > 0
        for row in rows
    )
    small = tmp_path / "small.safetensors"
    checkpoints.save(factorize(dense(), None, CompressionPlan(4, 2)).quantize(8), small)
    moving = tmp_path / "moving.safetensors"
    checkpoints.save(dense(changes="everything"), moving)
    for changed, sentence in (
        (f"--avatar={small}", "is compressed"),
        (f"--avatar={moving}", "move, so that"),
        ("--forms=sparse", "there is no 'sparse'; choose from dense, compressed"),
    ):
        wrong = CliRunner().invoke(main, ["avatar", *options, changed])
        assert wrong.exit_code == 1 and sentence in wrong.output
