"""The training step: resuming bit for bit, gradients over processes, accumulation, stages,
learning."""

import copy
from dataclasses import replace

import pytest
import torch
from helpers.ranks import two_ranks
from helpers.small_gan import BATCH, SIZE, batch_at, labels, tiny_config
from helpers.spoiled import check_one_bad_update

from gghead.cameras import Cameras
from gghead.models.config import BackgroundConfig, DiscriminatorConfig
from gghead.torch_utils.distributed import Processes, average_gradients
from gghead.training.gan.augment import AugmentConfig
from gghead.training.gan.config import DataConfig, LossConfig, Stage
from gghead.training.gan.trainer import Trainer
from gghead.training.run.health import broken_tensors


def tensors(state, path=""):
    if isinstance(state, dict):
        return {
            k: v for key, item in state.items() for k, v in tensors(item, f"{path}/{key}").items()
        }
    if isinstance(state, (list, tuple)):
        return {
            k: v for i, item in enumerate(state) for k, v in tensors(item, f"{path}/{i}").items()
        }
    return {path: state}


def assert_same(a, b):
    a, b = tensors(a), tensors(b)
    assert a.keys() == b.keys()
    for key in a:
        equal = torch.equal(a[key], b[key]) if torch.is_tensor(a[key]) else a[key] == b[key]
        assert equal, key


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_resume_continues_bit_for_bit(precision, tmp_path):
    config = tiny_config(precision=precision)
    whole = Trainer(config, labels())
    for step in range(6):
        whole.step(batch_at(step))
    first = Trainer(config, labels())
    for step in range(3):
        first.step(batch_at(step))
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = Trainer(config, labels())
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for step in range(3, 6):
        second.step(batch_at(step))
    assert_same(whole.state_dict(), second.state_dict())
    assert float(whole.augment.p) != pytest.approx(0.3)  # ADA took part
    moved = (
        (whole.G_ema.decoder.to_planes[0].weight - whole.G.decoder.to_planes[0].weight).abs().max()
    )
    assert float(moved.detach()) > 0


def test_a_resumed_run_takes_the_lower_rate_that_it_is_given():
    """The state's rate came back, so that a run that had diverged could not be helped."""
    first = Trainer(tiny_config(), labels())
    first.step(batch_at(0))
    rates = [
        optimizer.param_groups[0]["lr"] for optimizer in (first.g_optimizer, first.d_optimizer)
    ]
    half = replace(
        first.config.optimizer,
        g_lr=first.config.optimizer.g_lr / 2,
        d_lr=first.config.optimizer.d_lr / 2,
    )
    second = Trainer(tiny_config(optimizer=half), labels())
    second.load_state_dict(first.state_dict())
    resumed = [
        optimizer.param_groups[0]["lr"] for optimizer in (second.g_optimizer, second.d_optimizer)
    ]
    assert resumed == pytest.approx([rate / 2 for rate in rates])


def test_every_parameter_learns_and_stays_finite():
    trainer = Trainer(tiny_config(loss=LossConfig(style_mixing=0.9, r1_interval=2)), labels())
    before = {
        "G": copy.deepcopy(trainer.G.state_dict()),
        "D": copy.deepcopy(trainer.D.state_dict()),
    }
    for step in range(3):
        trainer.step(batch_at(step))
    for name in "GD":
        for key, value in getattr(trainer, name).named_parameters():
            assert torch.isfinite(value).all(), key
            assert not torch.equal(value, before[name][key]), f"{name}.{key} did not move"


def test_accumulated_gradients_equal_the_whole_batch():
    results = []
    for batch_gpu in (None, 4):
        config = tiny_config(batch_gpu=batch_gpu, augment=AugmentConfig(mode="noaug"))
        results.append(gradients_of(Trainer(config, labels()), batch_at(0)))
    for key in results[0]:
        torch.testing.assert_close(results[0][key], results[1][key], rtol=1e-3, atol=1e-5, msg=key)


def gradients_of(trainer, batch):
    """Gradients of the first generator and discriminator updates, before the optimizers use
    them."""
    found = {}
    for name, module, optimizer in (
        ("G", trainer.G, trainer.g_optimizer),
        ("D", trainer.D, trainer.d_optimizer),
    ):

        def keep(*_, name=name, module=module):
            for key, value in module.named_parameters():
                if value.grad is not None:
                    found.setdefault(f"{name}.{key}", value.grad.clone())

        optimizer.step = keep
    trainer.step(batch)
    return found


def first_gradients(rank, folder):
    share = BATCH // 2
    batch = {key: value[rank * share : (rank + 1) * share] for key, value in batch_at(0).items()}
    config = tiny_config(augment=AugmentConfig(mode="noaug"))
    found = gradients_of(Trainer(config, labels(), processes=Processes(rank, 2)), batch)
    torch.save(found, folder / f"{rank}.pt")


def test_two_processes_have_the_gradients_of_one(of_two_processes):
    """Random backgrounds, cameras and latents are drawn for the whole batch, so only sums are
    reordered."""
    config = tiny_config(augment=AugmentConfig(mode="noaug"))
    expected = gradients_of(Trainer(config, labels()), batch_at(0))
    for rank in range(2):
        found = torch.load(of_two_processes / "first_gradients" / f"{rank}.pt")
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-5, msg=key)


def test_stages_change_size_gaussians_and_fade():
    stages = (
        Stage(image_size=8, grid=8),
        Stage(
            start_kimg=2 * BATCH / 1000,
            image_size=16,
            grid=16,
            fade_kimg=4 * BATCH / 1000,
            lambda_tv=1.0,
        ),
    )
    trainer = Trainer(tiny_config(stages=stages), labels())
    assert trainer.G.attributes.grid == 8
    for step in range(2):
        trainer.step(batch_at(step, size=8))
    trainer.step(batch_at(2, size=16))
    assert (
        trainer.G.attributes.grid == 16
        and trainer.G_ema.config.image_size == 16
        and trainer.fade == 0.0
    )
    trainer.step(batch_at(3, size=16))
    assert trainer.fade == pytest.approx(0.25)


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": LossConfig(kind="relativistic", r1_interval=2)},
        {"discriminator": DiscriminatorConfig(cbase=128, cmax=8, map_depth=1, alpha=True)},
        {"loss": LossConfig(tv_depth_edge=0.1)},
    ],
)
def test_options_train(changes):
    trainer = Trainer(tiny_config(**changes), labels())
    for step in range(2):
        trainer.step(batch_at(step))
    summary = trainer.stats.collect()
    assert all(entry["mean"] == entry["mean"] for entry in summary.values())
    assert ("Loss/r2_penalty" in summary) == (
        changes.get("loss", LossConfig()).kind == "relativistic"
    )


@pytest.mark.parametrize("parts", [None, BATCH // 2])
def test_reused_fakes_are_those_of_the_generator_phase(parts, monkeypatch):
    """One generator pass per step, and the discriminator scores the very images that the generator
    was judged by."""
    config = tiny_config(
        loss=LossConfig(reuse_fakes=True), augment=AugmentConfig(mode="noaug"), batch_gpu=parts
    )
    trainer = Trainer(config, labels())
    made, scored = [], []
    fakes, logits = trainer._fakes, trainer._logits
    monkeypatch.setattr(trainer, "_fakes", lambda *a, **k: made.append(fakes(*a, **k)) or made[-1])
    monkeypatch.setattr(
        trainer, "_logits", lambda x, c, *a: scored.append((x, c)) or logits(x, c, *a)
    )
    w_avg = trainer.G.mapping.w_avg.clone()
    trainer.step(batch_at(0))
    share = parts or BATCH
    assert len(made) == BATCH // share
    discriminator = [(x, c) for x, c in scored if len(x) == 2 * share]  # fakes, then reals
    for (x, c), (image, label, _) in zip(discriminator, made, strict=True):
        assert (
            torch.equal(x[:share], image.detach())
            and torch.equal(c[:share], label)
            and not x.requires_grad
        )
    assert not torch.equal(trainer.G.mapping.w_avg, w_avg)


@pytest.mark.parametrize("kind", ["gaussians", "cnn"])
def test_own_backgrounds_train(kind):
    generator = replace(
        tiny_config().generator,
        background=BackgroundConfig(kind=kind, resolution=8, cbase=64, cmax=8),
        pose_cond=True,
    )
    trainer = Trainer(
        tiny_config(generator=generator, data=DataConfig(background="image")), labels()
    )
    before = [p.clone() for p in trainer.G.background_network.parameters()]
    for step in range(3):
        trainer.step(batch_at(step))
    after = list(trainer.G.background_network.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    out = trainer.G_ema.images(
        trainer.G_ema.mapping(torch.zeros(1, 8), labels(1)), Cameras.orbit(0.0), SIZE
    )
    assert out.color.shape == (1, 1, 3, SIZE, SIZE)


def test_bad_gradients_are_made_harmless():
    parameter = torch.nn.Parameter(torch.zeros(4))
    parameter.grad = torch.tensor([float("nan"), float("inf"), -float("inf"), 2.0])
    average_gradients([parameter], Processes())
    assert parameter.grad.tolist() == [0.0, 1e5, -1e5, 2.0]


def test_bad_gradients_end_in_a_count_and_in_sound_weights():
    trainer = Trainer(tiny_config(loss=LossConfig(r1_interval=100)), labels())
    trainer.step(batch_at(0))  # with a penalty, so that the next steps have none
    step = trainer.step
    trainer.step = lambda: step(batch_at(trainer.step_index))
    check_one_bad_update(trainer, next(trainer.D.parameters()), updates=2)
    check_one_bad_update(trainer, next(trainer.G.decoder.parameters()), updates=2)


def test_a_nan_weight_ends_the_run_after_ten_updates():
    """Its gradients became zeros, uncounted, and the run went on for as long as it liked."""
    trainer = Trainer(tiny_config(), labels())
    with torch.no_grad():
        next(trainer.G.decoder.parameters())[0] = float("nan")
    reasons = []
    for index in range(10):
        trainer.step(batch_at(index))
        reasons.append(trainer.health.after_step())
    assert reasons[:9] == [None] * 9 and "10 updates of the generator in a row" in reasons[9]
    assert any(name.startswith("G.") for name in broken_tensors(trainer.state_dict()))


def resumed_run(rank, folder):
    config = tiny_config(augment=AugmentConfig(mode="ada", initial_p=0.3, interval=4, kimg=0.1))
    share = BATCH // 2
    signs = []

    def made():
        trainer = Trainer(config, labels(), processes=Processes(rank, 2))
        update = trainer.ada.update
        trainer.ada.update = lambda mean, images: signs.append(mean) or update(mean, images)
        return trainer

    def go_on(trainer, until):
        while trainer.step_index < until:
            batch = batch_at(trainer.step_index)
            trainer.step(
                {key: value[rank * share : (rank + 1) * share] for key, value in batch.items()}
            )

    whole = made()
    go_on(whole, 3)
    assert float(whole.state_dict()["sign_sum"][1]) == 3 * BATCH
    whole.sign_sum[0] = rank * 8 - 4  # so that the first one's would not do for both
    state = copy.deepcopy(whole.state_dict())
    if rank == 0:
        torch.save(state, f"{folder}/state.pt")
    torch.distributed.barrier()
    go_on(whole, 6)
    resumed = made()
    resumed.load_state_dict(torch.load(f"{folder}/state.pt", weights_only=True))
    go_on(resumed, 6)
    torch.save((whole.state_dict(), resumed.state_dict(), signs), folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def of_two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    two_ranks(folder, first_gradients, resumed_run)
    return folder


def test_two_processes_resume_bit_for_bit_in_the_middle_of_an_ada_interval(of_two_processes):
    """Only the first process's signs were saved, and every process went on from them."""
    for rank in range(2):
        whole, resumed, signs = torch.load(of_two_processes / "resumed_run" / f"{rank}.pt")
        if rank == 0:
            assert_same(whole, resumed)
        else:  # the mean of w is the first one's, and no step depends on it
            assert_same(
                *(
                    {key: value for key, value in tensors(state).items() if "w_avg" not in key}
                    for state in (whole, resumed)
                )
            )
        assert len(signs) == 2 and signs[0] == signs[1]


def test_generator_fits_a_color():
    """The whole chain, rendering included, carries gradients that lower a loss."""
    trainer = Trainer(tiny_config(), labels())
    z, c = torch.randn(2, 8, generator=torch.Generator().manual_seed(0)), labels(2)
    optimizer = torch.optim.Adam(trainer.G.parameters(), lr=0.01)
    first = None
    for _ in range(15):
        ws = trainer.G.mapping(z)
        out = trainer.G.images(
            ws, Cameras.from_label(c[:, None]), SIZE, background=torch.zeros(1, 3)
        )
        loss = (out.color[:, 0, 0] - out.alpha[:, 0, 0]).square().mean() + out.color[
            :, 0, 1:
        ].square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        first = first if first is not None else float(loss.detach())
    assert float(loss.detach()) < 0.5 * first


def test_penalties_do_not_mix_reals_and_fakes_in_minibatch_groups():
    """Of six reals and six fakes in groups of four, one group had two of each: R1 followed the
    fakes."""
    config = tiny_config(
        loss=LossConfig(kind="relativistic", r1_interval=1, blur_sigma=0.0),
        batch=6,
        augment=AugmentConfig(mode="noaug"),
    )
    trainer = Trainer(config, labels())
    seen, score = [], trainer.D.forward
    trainer.D.forward = lambda images, *rest: seen.append(len(images)) or score(images, *rest)
    reals, real_c = trainer._reals(
        {key: value[:6] for key, value in batch_at(0, count=6).items()} | {"label": labels(6)}
    )
    trainer._penalty_pass(slice(0, 6), reals, real_c)
    assert seen == [6, 6]


def test_signs_are_counted_in_a_type_that_all_devices_have():
    """Apple's GPUs have no float64, so that --device=mps ended before the first step."""
    trainer = Trainer(tiny_config(augment=AugmentConfig(mode="ada", interval=100)), labels())
    for step in range(2):
        trainer.step(batch_at(step))
    assert trainer.sign_sum.dtype == torch.float32 and float(trainer.sign_sum[1]) == 2 * BATCH
