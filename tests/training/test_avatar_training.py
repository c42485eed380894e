"""Training avatars: densification and the optimizer's memory, losses, exact resume, the command end
to end."""

import dataclasses
import json
import math
import os
import re
import shutil
import signal
import threading
import time

import pytest
import torch
from click.testing import CliRunner
from helpers.avatar_sequence import write_sequence
from helpers.small_avatar import small_config
from helpers.spoiled import check_one_bad_update

import gghead
from gghead.animation.frames import Frames, read_sequence, split_or_all
from gghead.animation.show import avatar_images
from gghead.cameras import Cameras
from gghead.models.avatar import Avatar
from gghead.models.avatar_config import AvatarConfig
from gghead.template import load_template
from gghead.torch_utils.errors import UserError
from gghead.training.avatar.config import ABLATIONS, PRESETS, AvatarLossConfig, DensifyConfig
from gghead.training.avatar.densify import Densifier
from gghead.training.avatar.initial import neighbor_distance, surface_points
from gghead.training.avatar.losses import AvatarLoss, head_box
from gghead.training.avatar.trainer import AvatarTrainer, decay_rate, frame_at, make_optimizer
from gghead.training.cli.train_avatar import main

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_sequence(tmp_path_factory.mktemp("sequence") / "person")


@pytest.fixture(scope="module")
def frames(data):
    return Frames(split_or_all(read_sequence(data), "train"))


# ------------------------------------------------------------------- densification
def grown(count=20, seed=0, **plan):
    """An avatar that has made one optimizer step, so that Adam's averages are not zero."""
    random = torch.Generator().manual_seed(seed)
    points = torch.randn(count, 3, generator=random) * 0.2
    avatar = Avatar(
        AvatarConfig(width=3, feature_dim=4, hidden=8, sh_degree=1), points, spacing=0.03
    )
    with torch.no_grad():
        avatar.basis.copy_(torch.randn(avatar.basis.shape, generator=random))
    optimizer = make_optimizer(avatar, small_config())
    gaussians = avatar(torch.rand(1, 3, generator=random))
    sum(
        (value * torch.randn(value.shape, generator=random)).sum()
        for value in (gaussians.means, gaussians.scales, gaussians.quats, gaussians.colors)
    ).backward()
    optimizer.step()
    densifier = Densifier(DensifyConfig(**plan), avatar.num, 1.0, 5, CPU)
    return avatar, optimizer, densifier


def see(densifier, gradient, opacity=1.0, times=1):
    """Let the densifier observe gradients [N] in halves of the image."""
    count = len(densifier.gradient)
    for _ in range(times):
        pixels = torch.zeros(count, 2)
        pixels[:, 0] = gradient / 16
        densifier.observe(
            pixels, torch.ones(count, 2), torch.as_tensor(opacity).expand(count), (32, 24)
        )


def moments(avatar, optimizer, name):
    return optimizer.state[getattr(avatar, name)]["exp_avg"]


def test_gradients_are_means_over_the_frames_that_show_a_gaussian():
    densifier = Densifier(DensifyConfig(), 2, 1.0, 5, CPU)
    for radii in ([[1, 1], [1, 1]], [[1, 1], [0, 0]]):
        densifier.observe(
            torch.tensor([[3.0 / 16, 4.0 / 12], [1.0 / 16, 0.0]]),
            torch.tensor(radii),
            torch.ones(2),
            (32, 24),
        )
    assert (densifier.gradient / densifier.visible).tolist() == pytest.approx([5.0, 1.0])


def test_headgas_stops_growing_at_a_number_that_sixteen_gigabytes_hold():
    """Without a cap a refinement in which all want to grow doubles them, and the next one again."""
    config = PRESETS["headgas"]
    avatar, _, _ = grown(count=30_000)
    optimizer, densifier = (
        make_optimizer(avatar, config),
        Densifier(config.densify, avatar.num, 1.0, 5, CPU),
    )
    for refinement in range(2):
        see(densifier, torch.ones(avatar.num))
        densifier.refine(avatar, optimizer, 1000, torch.Generator().manual_seed(refinement))
    assert avatar.num == config.densify.max_gaussians
    # FLAME has 100
    wide = Avatar(dataclasses.replace(config.avatar, width=100), torch.rand(10, 3), spacing=0.1)
    each = sum(getattr(wide, name).numel() for name in wide.per_gaussian()) / 10 * 4
    # Values, gradient, two averages; values and averages once more while a refinement copies them.
    assert 7 * each * config.densify.max_gaussians < 8e9


def test_a_clone_is_a_second_one_and_nothing_else_changes():
    avatar, optimizer, densifier = grown(small=0.05)
    before = {name: parameter.detach().clone() for name, parameter in avatar.named_parameters()}
    memory = moments(avatar, optimizer, "basis").clone()
    gradient = torch.zeros(20)
    gradient[[3, 7]] = 1
    see(densifier, gradient)
    done = densifier.refine(avatar, optimizer, 100, torch.Generator())
    assert (done.cloned, done.split, done.pruned, avatar.num) == (2, 0, 0, 22)
    parents = [*range(20), 3, 7]
    for name, dim in avatar.per_gaussian().items():
        assert torch.equal(
            getattr(avatar, name), before[name].index_select(dim, torch.tensor(parents))
        )
    assert torch.equal(moments(avatar, optimizer, "basis")[:, :20], memory)
    assert not moments(avatar, optimizer, "basis")[:, 20:].any()
    # What is drawn is the parents drawn once more.
    expression, camera = torch.full((1, 3), 0.5), Cameras.orbit(0.2, focal=2.9)
    with torch.no_grad():
        gaussians = avatar(expression)
    twice = gaussians.select(list(range(20))), gaussians.select([3, 7])
    torch.testing.assert_close(
        gghead.render(gaussians, camera, 32).color,
        gghead.render(gghead.Gaussians.merge(twice), camera, 32).color,
        atol=1e-6,
        rtol=0,
    )


def test_a_split_puts_two_smaller_ones_in_its_place():
    avatar, optimizer, densifier = grown(small=0.001)
    before = {name: parameter.detach().clone() for name, parameter in avatar.named_parameters()}
    gradient = torch.zeros(20)
    gradient[5] = 1
    see(densifier, gradient)
    done = densifier.refine(avatar, optimizer, 100, torch.Generator().manual_seed(1))
    assert (done.cloned, done.split, avatar.num) == (0, 1, 21)
    kept = torch.tensor([index for index in range(20) if index != 5])
    for name, dim in avatar.per_gaussian().items():
        assert torch.equal(
            getattr(avatar, name).narrow(dim, 0, 19), before[name].index_select(dim, kept)
        )
    for name in ("basis", "bias"):  # children inherit the features
        dim = avatar.per_gaussian()[name]
        parent = before[name].select(dim, 5)
        assert all(
            torch.equal(getattr(avatar, name).select(dim, child), parent) for child in (19, 20)
        )
    torch.testing.assert_close(
        avatar.log_scales[19:].exp(), before["log_scales"][[5, 5]].exp() / 1.6
    )
    offsets = avatar.means[19:].detach() - before["means"][5]
    assert 0 < float(offsets.norm(dim=1).max()) < 5 * 0.03
    assert not torch.equal(*offsets)


def test_children_of_a_split_are_drawn_from_their_parent():
    """Means scatter with the parent's covariance, which is long in one turned direction."""
    count = 3000
    avatar = Avatar(
        AvatarConfig(width=1, feature_dim=1, hidden=2, sh_degree=0),
        torch.zeros(count, 3),
        spacing=0.1,
    )
    with torch.no_grad():
        avatar.log_scales[:] = torch.tensor([0.4, 0.1, 0.1]).log()
        # x becomes y
        avatar.quats[:] = torch.tensor([math.cos(math.pi / 4), 0, 0, math.sin(math.pi / 4)])
    densifier = Densifier(DensifyConfig(), count, 1.0, 5, CPU)
    see(densifier, torch.ones(count))
    densifier.refine(
        avatar, make_optimizer(avatar, small_config()), 100, torch.Generator().manual_seed(0)
    )
    assert avatar.num == 2 * count
    spread = avatar.means.detach().T.cov()
    torch.testing.assert_close(
        spread, torch.diag(torch.tensor([0.01, 0.16, 0.01])), atol=0.006, rtol=0.05
    )


def test_transparent_gaussians_go_and_the_image_stays():
    avatar, optimizer, densifier = grown()
    ghosts = torch.arange(20) % 4 == 0

    def shown():
        with torch.no_grad():
            gaussians = avatar(torch.full((1, 3), 0.5))
        number = len(avatar.means)
        opacities = gaussians.opacities.clone()
        if number == 20:
            opacities[:, ghosts] = 1e-4
        gaussians.opacities = opacities
        return gghead.render(gaussians, Cameras.orbit(0.2, focal=2.9), 32, background=1.0).color

    before = shown()
    opacity = torch.where(ghosts, 1e-4, 0.5)
    see(densifier, torch.zeros(20), opacity, times=4)
    # the window is 5 frames
    assert densifier.refine(avatar, optimizer, 100, torch.Generator()).pruned == 0
    see(densifier, torch.zeros(20), opacity, times=1)
    memory = moments(avatar, optimizer, "means")[~ghosts].clone()
    assert densifier.refine(avatar, optimizer, 200, torch.Generator()).pruned == 5
    assert torch.equal(moments(avatar, optimizer, "means"), memory)
    assert torch.allclose(shown(), before, atol=2e-3)


def test_a_gaussian_that_shows_in_one_frame_of_the_window_stays():
    avatar, optimizer, densifier = grown()
    see(densifier, torch.zeros(20), 0.3)
    see(densifier, torch.zeros(20), 0.0, times=4)
    assert densifier.refine(avatar, optimizer, 100, torch.Generator()).pruned == 0
    see(densifier, torch.zeros(20), 0.0, times=5)
    assert densifier.refine(avatar, optimizer, 200, torch.Generator()).pruned == 20


def test_large_ones_go_only_later_and_the_cap_prefers_large_gradients():
    avatar, optimizer, densifier = grown(max_gaussians=22, large=0.1, large_from=3000)
    with torch.no_grad():
        avatar.log_scales[2] = math.log(0.2)
    gradient = torch.linspace(1, 2, 20)
    see(densifier, gradient)
    done = densifier.refine(avatar, optimizer, 100, torch.Generator().manual_seed(0))
    assert (done.cloned + done.split, avatar.num, done.pruned) == (2, 22, 0)
    assert densifier.refine(avatar, optimizer, 3001, torch.Generator()).pruned == 1


def test_steps_go_on_after_the_set_has_changed():
    avatar, optimizer, densifier = grown(small=0.02)
    see(densifier, torch.arange(20) % 3 == 0)
    densifier.refine(avatar, optimizer, 100, torch.Generator().manual_seed(0))
    before = {name: parameter.detach().clone() for name, parameter in avatar.named_parameters()}
    optimizer.zero_grad(set_to_none=True)
    gaussians = avatar(torch.rand(1, 3))
    (
        gaussians.means.sum()
        + gaussians.scales.sum()
        + gaussians.colors.sum()
        + gaussians.quats.sum()
        + gaussians.opacities.sum()
    ).backward()
    optimizer.step()
    for name, parameter in avatar.named_parameters():
        assert not torch.equal(parameter, before[name]), name


# ------------------------------------------------------------------------ the rest
def test_initial_points_lie_on_the_template():
    template = load_template("sphere")
    points = surface_points(template, 500, seed=0)
    radius = torch.from_numpy(template.vertices).norm(dim=1).float()
    assert float(points.norm(dim=1).min()) > 0.97 * float(radius.min())
    assert float(points.norm(dim=1).max()) <= 1.0001 * float(radius.max())
    assert torch.equal(points, surface_points(template, 500, seed=0))
    square = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]])
    assert neighbor_distance(square).tolist() == pytest.approx([math.sqrt(4 / 3)] * 4)


def test_every_pass_shows_every_frame_once():
    orders = [[frame_at(epoch * 7 + place, 7, 3) for place in range(7)] for epoch in range(3)]
    assert all(sorted(order) == list(range(7)) for order in orders)
    assert orders[0] != orders[1]


def test_rates_fall_exponentially():
    assert [decay_rate(1e-2, 1e-4, share) for share in (0, 0.5, 1)] == pytest.approx(
        [1e-2, 1e-3, 1e-4]
    )


# TorchScript is old, and so are people's networks
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_loss_is_the_papers_sum(tmp_path):
    random = torch.Generator().manual_seed(0)
    image, truth = torch.rand(2, 3, 20, 20, generator=random)
    mask = torch.zeros(1, 20, 20)
    mask[:, 5:15, 4:10] = 1
    torch.jit.script(Difference()).save(str(tmp_path / "net.pt"))
    loss = AvatarLoss(AvatarLossConfig(perceptual_net=str(tmp_path / "net.pt")), CPU)
    early, late = loss(image, truth, mask, 9_999), loss(image, truth, mask, 10_000)
    assert float(early["total"]) == pytest.approx(float(0.8 * early["l1"] + 0.2 * early["dssim"]))
    top, bottom, left, right = head_box(mask, margin=0.05)
    inside = 2 * (image - truth)[:, top:bottom, left:right].abs().mean()
    assert (top, bottom, left, right) == (5, 15, 4, 10)
    assert float(late["total"] - early["total"]) == pytest.approx(0.1 * float(inside), rel=1e-5)
    assert AvatarLoss(AvatarLossConfig(), CPU)(image, truth, mask, 10_000).keys() == early.keys()
    (tmp_path / "bad.pt").write_bytes(b"no network")
    with pytest.raises(UserError, match="`perceptual_net`=.*bad.pt is no TorchScript file"):
        AvatarLoss(AvatarLossConfig(perceptual_net=str(tmp_path / "bad.pt")), CPU)


class Difference(torch.nn.Module):
    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return (first - second).abs().mean()


@pytest.mark.parametrize("ablation", [None, *ABLATIONS])
def test_every_ablation_trains(ablation, frames):
    quick = {
        "iterations": 42,
        "background": "white",
        "rates": {"features": 2e-2, "network": 1e-2},
        "densify": {"until": 6},
    }  # one refinement, after five steps
    trainer = AvatarTrainer(small_config(**quick, **ABLATIONS.get(ablation, {})), frames, CPU)
    losses = []
    for _ in range(42):
        trainer.step()
        losses.append(trainer.stats.collect()["Loss/total"]["mean"])
    assert trainer.avatar.num > 40
    assert sum(losses[-6:]) < sum(losses[:6])  # a pass over the frames
    assert all(bool(p.isfinite().all()) for p in trainer.avatar.parameters())


def test_training_learns_what_the_coefficient_does(frames):
    """Held against the same avatar driven by the mean expression: the coefficient must explain
    something."""
    quick = {
        "iterations": 150,
        "points": 100,
        "background": "white",
        "rates": {"features": 5e-2, "network": 1e-2},
        "avatar": {"feature_dim": 8, "hidden": 32},
        "sh_every": 1000,
    }
    trainer = AvatarTrainer(small_config(densify={"until": 0}, **quick), frames, CPU)
    for _ in range(150):
        trainer.step()
    still = frames.expression.mean(0).expand(len(frames), -1)
    truth, driven, undriven = (
        torch.stack(list(shown))[:, 0, 10:14, 10:14]
        for shown in (
            (frames.over(index) for index in range(len(frames))),
            avatar_images(trainer.avatar, frames.expression, frames.cameras, frames.size),
            avatar_images(trainer.avatar, still, frames.cameras, frames.size),
        )
    )
    assert float((driven - truth).square().mean()) < 0.85 * float(
        (undriven - truth).square().mean()
    )


def test_a_bad_update_is_counted_and_made_harmless(frames):
    trainer = AvatarTrainer(small_config(), frames, CPU)
    trainer.step()
    check_one_bad_update(trainer, trainer.avatar.means)


def test_an_avatar_of_nans_ends_the_run_and_keeps_the_good_one(data, tmp_path, monkeypatch):
    """What is not drawn costs a finite loss, so that it was saved over the good one, with status
    0."""
    step = AvatarTrainer.step

    def spoil(self):
        step(self)
        if self.iteration == 6:
            for parameter in self.avatar.parameters():
                parameter.data.fill_(math.nan)

    monkeypatch.setattr(AvatarTrainer, "step", spoil)
    options = [f"--data={data}", f"--outdir={tmp_path}", "--steps=12", *SMALL]
    result = CliRunner().invoke(main, options)
    assert (
        result.exit_code == 1
        and "Done" not in result.output
        and "The run has diverged: avatar." in result.output
    )
    (run,) = tmp_path.iterdir()
    assert f"The last good state is {run}/training-state-000004.pt" in result.output
    assert all(torch.isfinite(value).all() for value in gghead.load(run).state_dict().values())


def test_resume_is_bit_for_bit(frames):
    plain = AvatarTrainer(small_config(), frames, CPU)
    for _ in range(24):
        plain.step()
    first = AvatarTrainer(small_config(), frames, CPU)
    for _ in range(13):  # between two refinements, after one
        first.step()
    state = first.state_dict()
    second = AvatarTrainer(small_config(), frames, CPU)
    second.load_state_dict(state)
    for _ in range(11):
        second.step()
    assert plain.avatar.num > 40
    for (name, a), b in zip(
        plain.avatar.state_dict().items(), second.avatar.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name
    assert plain.stats.as_dict() == second.stats.as_dict()


def test_frames_that_do_not_fit_into_memory_are_read_ahead_and_nothing_changes(frames, monkeypatch):
    readers, cut = set(), Frames.cut
    monkeypatch.setattr(
        Frames,
        "cut",
        lambda *arguments: (readers.add(threading.current_thread().name), cut(*arguments))[1],
    )
    unkept = Frames(frames.sequence, cache_mb=0)
    trainers = [AvatarTrainer(small_config(), which, CPU) for which in (frames, unkept, unkept)]
    for trainer in trainers[:2]:
        trainer.read_ahead()
    for trainer in trainers[:2]:
        readers.clear()
        for _ in range(9):
            trainer.step()
        elsewhere = {name.startswith("gghead-data") for name in readers}
        assert elsewhere == {trainer.frames is unkept}
    trainers[2].load_state_dict(trainers[1].state_dict())
    trainers[2].read_ahead()
    for _ in range(6):
        trainers[2].step()
        trainers[0].step()
    for trainer in trainers:
        trainer.close()
    for (name, a), b in zip(
        trainers[0].avatar.state_dict().items(),
        trainers[2].avatar.state_dict().values(),
        strict=True,
    ):
        assert torch.equal(a, b), name


# ------------------------------------------------------------------------ commands
SMALL = [
    "--preset=tiny",
    "--resolution=24",
    "--points=40",
    "--feature-dim=4",
    "--tick=4",
    "--snap=1",
    "--device=cpu",
]


def train(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    outdir = tmp_path_factory.mktemp("runs")
    result = train(f"--data={data}", f"--outdir={outdir}", "--steps=12", *SMALL)
    assert result.exit_code == 0, result.output
    return next(outdir.iterdir())


def test_command_writes_a_run(finished):
    assert finished.name == "00000-avatar-tiny-person-24x24"
    avatar = gghead.load(finished, kind="avatar")
    assert avatar.config.coefficient_names == ("jawOpen", "mouthSmile", "eyeBlink")
    assert float(avatar.coefficient_max.max()) < 1 and avatar.config.image_size == (24, 24)
    assert len(avatar.config.camera) == 25
    lines = [json.loads(line) for line in (finished / "stats.jsonl").read_text().splitlines()]
    assert [line["Progress/iteration"]["mean"] for line in lines] == [4, 8, 12]
    assert {"Loss/l1", "Loss/dssim", "Loss/total", "Progress/gaussians"} <= set(lines[0])
    assert (finished / "preview000012.png").is_file()
    log = (finished / "log.txt").read_text()
    assert (
        "no perceptual term, because --perceptual-net names no network" in log
        and "iteration 12" in log
    )


def test_resumed_command_equals_one_run(finished, data, tmp_path):
    outdir = tmp_path / "runs"
    train(f"--data={data}", f"--outdir={outdir}", "--steps=12", *SMALL)
    folder = next(outdir.iterdir())
    for leftover in (*folder.glob("*000012*"),):
        leftover.unlink()
    broken = folder / "training-state-000009.pt"
    # killed while it was copied
    broken.write_bytes((folder / "training-state-000008.pt").read_bytes()[:1000])
    result = train(f"--resume={folder}")
    assert result.exit_code == 0, result.output
    assert "trying the state before it" in result.output
    a, b = (
        gghead.load(run / "avatar-000012.safetensors").state_dict() for run in (finished, folder)
    )
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_ctrl_c_saves_and_says_how_to_go_on(data, tmp_path):
    def interrupt():  # once the loop runs, which has written its first tick
        deadline = time.time() + 60
        while time.time() < deadline and not any(
            p.read_text() for p in tmp_path.glob("*/stats.jsonl")
        ):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    result = train(
        f"--data={data}", f"--outdir={tmp_path}", "--steps=100000", *SMALL, "--snap=100000"
    )
    assert result.exit_code == 130, result.output
    folder = next(tmp_path.iterdir())
    assert "Stopped at iteration" in result.output and f"--resume={folder}" in result.output
    iteration = int(re.search(r"Stopped at iteration (\d+)", result.output)[1])
    assert (
        list(folder.glob(f"training-state-{iteration:06d}.pt"))
        and gghead.load(folder).kind == "avatar"
    )


@pytest.mark.parametrize(
    "change, sentence",
    [
        (lambda c: [f.pop("expression") for f in c["frames"]], "has no expression coefficients"),
        (lambda c: c["frames"][3].update(expression=[0.1, float("nan"), 0.2]), "NaN|finite"),
        (lambda c: c["frames"][3].update(expression=[0.1, 0.2]), "coefficients|expression|numbers"),
        (lambda c: [f.pop("split") for f in c["frames"]], "no frames of the split 'train'"),
        (lambda c: [f.update(split="test") for f in c["frames"]], "no frames of the split 'train'"),
    ],
)
def test_broken_sequences_are_a_sentence(change, sentence, tmp_path):
    folder = write_sequence(tmp_path / "broken", change=change)
    result = train(f"--data={folder}", f"--outdir={tmp_path / 'runs'}", "--steps=1", *SMALL)
    assert result.exit_code == 1 and result.output.startswith("Error:")
    assert re.search(sentence, result.output), result.output
    assert not (tmp_path / "runs").exists()


def test_odd_but_valid_sequences_train(tmp_path):
    for name, options in (("one", {"count": 1, "test": 0}), ("bare", {"count": 3, "masks": False})):
        folder = write_sequence(tmp_path / name, **options)
        result = train(f"--data={folder}", f"--outdir={tmp_path / 'runs'}", "--steps=2", *SMALL)
        assert result.exit_code == 0, result.output
        assert ("no masks" in result.output) == (name == "bare")


def test_wrong_options_are_a_sentence(finished, data, tmp_path):
    for arguments, sentence in (
        ([], "--data is missing"),
        ([f"--resume={finished}", "--points=9"], "leave out --points"),
        ([f"--resume={tmp_path}"], "is no training run"),
        ([f"--data={tmp_path}"], "is of no known format"),
    ):
        result = train(*arguments)
        assert result.exit_code == 1 and sentence in result.output, result.output
    result = train(f"--data={data}", "--resolution=0x3")
    assert result.exit_code == 2 and "sides have 1 pixels at least" in result.output
    wider = write_sequence(tmp_path / "wider", names=("a", "b", "c", "d"))
    copy = shutil.copytree(finished, tmp_path / "copy")
    result = train(f"--resume={copy}", f"--data={wider}", "--steps=20")
    assert "has 4 expression coefficients" in result.output and "trained with 3" in result.output


def test_presets_hold_the_papers_numbers():
    paper = PRESETS["headgas"]
    assert (paper.points, paper.iterations, paper.densify.start, paper.densify.until) == (
        2500,
        50_000,
        500,
        15_000,
    )
    assert (paper.avatar.feature_dim, paper.avatar.hidden, paper.avatar.sh_degree) == (32, 64, 3)
    loss = paper.loss
    assert (loss.l1, loss.dssim, loss.perceptual, loss.perceptual_from) == (0.8, 0.2, 0.1, 10_000)
    assert paper.resolution == (512, 512)
    # not the paper's: without a cap the set doubles at every refinement
    assert paper.densify.max_gaussians == 50_000
    assert train("--data=x", "--preset=headgas", "--dry-run=1").exit_code == 0
