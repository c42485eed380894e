"""Inversion as a library: losses, cameras, stages, latents."""

import math
from dataclasses import replace

import pytest
import torch
from helpers.small_network import small_network
from helpers.small_reconstructor import small_reconstructor

import gghead
from gghead import checkpoints
from gghead.cameras import Cameras
from gghead.inversion import Inversion, InversionConfig, Latent, Target
from gghead.inversion import stages as stages_module
from gghead.inversion.cameras import CameraRefinement, cameras_of, move_cameras, turn_cameras
from gghead.inversion.objective import Objective, ObjectiveConfig, draw, image_loss
from gghead.latent import fingerprints, load, save, stack
from gghead.reconstruction.inputs import InputViews
from gghead.reconstruction.refine import RefineConfig, refine
from gghead.rotations import matrix_to_axis_angle
from gghead.torch_utils.errors import UserError


@pytest.fixture(scope="module")
def model():
    return small_network()


@torch.no_grad()
def pictured(model, seed, yaw=0.1, masked=True, psi=1.0, off=None, name=None):
    """A target drawn by the network itself; ``off`` [6]: its label is turned and shifted by so
    much."""
    ws = model.mapping(model.seed_to_z(seed), truncation_psi=psi)
    camera = Cameras.orbit(torch.tensor([yaw]), 0.05)
    out = draw(model, model.gaussians(ws), ws, camera)
    rgb, mask = ((plane[0, 0].clamp(0, 1) * 255).round().byte() for plane in (out.color, out.alpha))
    label = (
        camera
        if off is None
        else move_cameras(camera, torch.tensor([off[:3]]), torch.tensor([off[3:]]))
    )
    return Target(name or f"seed{seed}", rgb, mask if masked else None, label.label()[0])


def degrees_between(first, second):  # labels [25]
    rotations = [Cameras.from_label(label).cam2world[:3, :3] for label in (first, second)]
    return math.degrees(float(matrix_to_axis_angle(rotations[0] @ rotations[1].mT).norm()))


# ------------------------------------------------------------------------------------------- losses
def test_image_loss_is_zero_for_equal_images_one_number_each_and_differentiable():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.rand(2, 2, 3, 16, 16, generator=generator, dtype=torch.float64)
    config = ObjectiveConfig()
    loss = image_loss(first, second, config)
    assert loss.shape == (2,) and (loss > 0).all()
    assert torch.equal(image_loss(first, first, config), torch.zeros(2, dtype=torch.float64))
    assert torch.allclose(loss[1:], image_loss(first[1:], second[1:], config), rtol=1e-12)
    first.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: image_loss(x, second, config), first)


def test_image_loss_by_hand():
    """A constant difference has no gradients and is the same at both levels; a checkerboard
    vanishes at the second."""
    flat = torch.full((1, 3, 16, 16), 0.25)
    assert float(image_loss(flat, 0 * flat, ObjectiveConfig(1, 2, 4))) == pytest.approx(
        0.25 + 2 * 0.0625
    )
    board = 0.5 * (1.0 - 2.0 * ((torch.arange(16)[:, None] + torch.arange(16)) % 2)).expand(
        1, 3, 16, 16
    )
    assert float(image_loss(board, 0 * board, ObjectiveConfig(1, 0, 1))) == pytest.approx(
        (0.5 + 1 + 1) / 2
    )


def test_objective_puts_the_image_over_white_and_compares_alpha(model):
    rgb, mask = torch.zeros(1, 3, 24, 24), torch.zeros(1, 1, 24, 24)
    mask[..., :12] = 1
    objective = Objective(model, rgb, mask, ObjectiveConfig())
    perfect = 1 - mask.expand(-1, 3, -1, -1)
    assert float(objective(perfect, mask)) == 0
    assert float(objective(perfect, torch.ones_like(mask))) == pytest.approx(0.5)
    whole = Objective(model, rgb, None, ObjectiveConfig())
    assert float(whole(rgb, torch.ones_like(mask))) == 0, "without a mask alpha is free"


# ------------------------------------------------------------------------------------------ cameras
def test_a_head_that_was_not_found_in_an_image_has_no_camera():
    with pytest.raises(ValueError, match="has no camera"):
        cameras_of(Latent(torch.zeros(1, 2, 3)))
    label = Cameras.orbit(0.3).label()
    assert torch.equal(cameras_of(Latent(torch.zeros(1, 2, 3), camera=label)).label(), label)


def test_cameras_move_within_bounds_and_start_where_the_label_is():
    labels = Cameras.orbit(torch.tensor([0.2, -0.4]), 0.1).label()
    refinement = CameraRefinement(labels, math.radians(8), 0.1)
    assert torch.allclose(refinement.cameras().label(), labels, atol=1e-6)
    with torch.no_grad():
        refinement.raw.fill_(100.0)
    moved_labels = refinement.cameras().label().detach()
    Cameras.from_label(moved_labels).validate()
    assert 7.5 < degrees_between(labels[0], moved_labels[0]) < 8.001
    assert float(refinement.increments()[1].detach().norm(dim=1).max()) <= 0.1
    assert torch.equal(moved_labels[:, 16:], labels[:, 16:]), "the focal length stays"
    fixed = CameraRefinement(labels, 0.0, 0.0)
    assert not fixed.raw.requires_grad and torch.allclose(
        fixed.cameras().label(), labels, atol=1e-6
    )


def test_cameras_have_gradients_where_they_start():
    """Rodrigues' formula gives zero there, and nothing would ever move."""
    refinement = CameraRefinement(
        Cameras.orbit(torch.tensor([0.2]), 0.1).label().double(), 0.2, 0.1
    )

    def pose(raw):
        refinement.raw = raw
        return refinement.cameras().cam2world

    raw = torch.zeros(1, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(pose, raw)
    assert (
        torch.autograd.grad(pose(raw).square().sum() + pose(raw)[0, 0, 1], raw)[0][0, 2].abs()
        > 1e-3
    )


def test_turned_cameras_are_orbits():
    views = turn_cameras(Cameras.orbit(torch.tensor([0.1, 0.3]), 0.2), [-25.0, 0.0, 25.0])
    expected = Cameras.orbit(
        torch.tensor([[0.1], [0.3]]) + torch.deg2rad(torch.tensor([-25.0, 0.0, 25.0])), 0.2
    )
    assert views.shape == (2, 3) and torch.allclose(views.cam2world, expected.cam2world, atol=1e-6)


# ------------------------------------------------------------------------------------------- stages
def test_an_image_of_the_network_is_found_again_and_its_camera_too():
    """Two heads of the shipped network whose labels are 4 degrees off."""
    model = gghead.load("demo")
    off = (0.03, 0.06, -0.02, 0.01, -0.02, 0.0)
    targets = [
        pictured(model, 3, 0.2, psi=0.7, off=off),
        pictured(model, 5, -0.1, psi=0.7, off=off),
    ]
    before = fingerprints(model)
    config = InversionConfig("pti", steps=(35, 30, 12, 12), candidates=24)
    results = {result.stage: result for result in Inversion(model, targets, config).run()}
    assert list(results) == ["w", "w+", "z", "pti"]
    levels = torch.tensor(
        [[entry["psnr"] for entry in result.metrics] for result in results.values()]
    )
    gains = levels.diff(dim=0).mean(1)
    assert gains[0] > 5 and gains[2] > 0.2 and levels[2].mean() > levels[0].mean() + 5, levels
    # A stage lowers the loss of every image; its PSNR, which is only a part of that, may fall a
    # little.
    losses = torch.tensor(
        [[entry["loss"] for entry in result.metrics] for result in results.values()]
    )
    assert (losses.diff(dim=0) < 2e-3).all(), losses
    assert levels[1].min() > 27 and levels[3].min() > 30, levels
    truth = [pictured(model, 3, 0.2).label, pictured(model, 5, -0.1).label]
    errors = [
        degrees_between(a, b) for a, b in zip(results["pti"].latent.camera, truth, strict=True)
    ]
    assert (
        sum(errors) / 2 < 2.2
        and [degrees_between(t.label, b) for t, b in zip(targets, truth, strict=True)][0] > 4
    )
    assert fingerprints(model) == before, "pivotal tuning leaves the network alone"
    assert results["pti"].latent.delta and not results["z"].latent.delta
    shown = model.render(
        results["pti"].latent.gaussians(model),
        Cameras.from_label(results["pti"].latent.camera).reshape(2, 1),
    ).color[:, 0]
    assert torch.allclose(shown.clamp(0, 1), results["pti"].color, atol=1e-5), (
        "the latent gives what was measured"
    )


def steps_of(model, targets, monkeypatch):
    """Losses [B] and gradients of every step of a run that stays where it starts, but for a 1e-9th
    of a step."""
    steps, usual = [], stages_module.nonfinite

    def recorded(loss, gradients):
        steps.append((loss, [gradient.clone() for gradient in gradients]))
        return usual(loss, gradients)

    monkeypatch.setattr(stages_module, "nonfinite", recorded)
    config = InversionConfig(
        "pti", steps=(2, 1, 1, 1), candidates=8, lr=(1e-9,) * 4, lr_camera=1e-9
    )
    inversion = Inversion(model, targets, config)
    for result in inversion.run():
        if result.stage == "w+":  # something to differ from when seen from aside
            reference = replace(result.latent, ws=result.latent.ws + 0.3)
            inversion._reference = reference, reference.gaussians(model)
    monkeypatch.setattr(stages_module, "nonfinite", usual)
    return steps


def test_every_step_depends_on_its_own_image_only(model, monkeypatch):
    """Up to rounding: the run is held where it starts, since an optimization amplifies what
    rounding does."""
    targets = [pictured(model, seed) for seed in (0, 1, 2)]
    together, alone = (steps_of(model, given, monkeypatch) for given in (targets, targets[1:2]))
    assert len(together) == len(alone) == 3 + 2 + 2 + 2
    for (losses, many), (loss, one) in zip(together, alone, strict=True):
        torch.testing.assert_close(losses[1:2], loss, rtol=1e-4, atol=1e-6)
        for a, b in zip(many, one, strict=True):
            assert (a[1] - b[0]).norm() <= 1e-2 * b.norm(), (
                a.shape,
                (a[1] - b[0]).norm(),
                b.norm(),
            )


def test_ends_differ_by_the_batch_no_more_than_by_rounding(model):
    """How far rounding alone leads is measured: on the same image, with a camera that is a few
    1e-7 off.

    Without ``locality``: it starts from two equal images, where the gradient of the absolute
    difference is nothing but the signs of rounding errors, and with so few steps these decide
    whether the stage gets anywhere.
    """
    config = InversionConfig("pti", steps=(12, 12, 8, 8), candidates=8)
    targets = [pictured(model, seed) for seed in (0, 1, 2)]
    together, alone = (
        list(Inversion(model, given, config).run()) for given in (targets, targets[1:2])
    )
    rounded = []
    for sign in (-3, -1, 1, 3):
        label = targets[1].label * (1 + sign * torch.finfo(torch.float32).eps)
        rounded.append(list(Inversion(model, [replace(targets[1], label=label)], config).run()))
    for stage, (many, one) in enumerate(zip(together, alone, strict=True)):
        levels = [run[stage].metrics[0]["psnr"] for run in rounded]
        spread = max(abs(level - one.metrics[0]["psnr"]) for level in levels)
        assert many.metrics[1]["psnr"] == pytest.approx(
            one.metrics[0]["psnr"], abs=0.1 + 3 * spread
        ), many.stage


def test_the_neighbors_of_a_pivot_depend_on_its_own_name_only(model):
    targets = [pictured(model, seed) for seed in (0, 1, 2)]
    latents = stack([some_latent(model, seed) for seed in (0, 1, 2)])

    def unlike(chosen):
        inversion = Inversion(model, targets[chosen], InversionConfig("pti"))
        own = Latent(
            latents.ws[chosen], delta={name: value[chosen] for name, value in latents.delta.items()}
        )
        return inversion._unlike_nearby(own, inversion._generators("locality"))

    together, alone = unlike(slice(0, 3)), unlike(slice(1, 2))
    assert together.min() > 1e-3
    torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-6)


def test_results_repeat_and_depend_on_the_seed(model):
    target, config = (
        [pictured(model, 1)],
        InversionConfig("pti", steps=(12, 12, 8, 8), candidates=8, locality=0.5),
    )
    first, again = (list(Inversion(model, target, config).run()) for _ in range(2))
    for one, repeated in zip(first, again, strict=True):
        assert one.metrics == repeated.metrics and torch.equal(one.latent.ws, repeated.latent.ws)
    other = next(Inversion(model, target, InversionConfig("w", steps=(12, 1, 1, 1), seed=7)).run())
    assert not torch.equal(other.latent.ws, first[0].latent.ws)


def test_no_stage_ends_worse_than_it_began(model):
    """Even with absurd learning rates after the first stage."""
    config = InversionConfig(
        "pti",
        steps=(10, 4, 4, 4),
        candidates=4,
        lr=(0.1, 50.0, 50.0, 50.0),
        max_rotation=0,
        max_shift=0,
    )
    losses = [
        result.metrics[0]["loss"] for result in Inversion(model, [pictured(model, 1)], config).run()
    ]
    assert max(losses[1:]) <= losses[0] + 2e-3


def test_locality_keeps_the_neighbors(model):
    def change(locality):
        config = InversionConfig(
            "pti", (5, 5, 2, 15), candidates=4, locality=locality, lr=(0.1, 0.05, 0.05, 0.02)
        )
        latent = list(Inversion(model, [pictured(model, 1)], config).run())[-1].latent
        near = Latent(latent.ws + 0.3, delta=latent.delta)
        with torch.no_grad():
            shown = [
                draw(model, head.gaussians(model), near.ws, Cameras.orbit(0.0)).color
                for head in (near, Latent(near.ws))
            ]
        return float((shown[0] - shown[1]).abs().mean())

    assert change(20.0) < 0.7 * change(0.0)


def test_novel_views_keep_the_sides(model):
    def change(weight):
        config = InversionConfig(
            "z", (5, 5, 15, 1), candidates=4, novel_views=weight, max_rotation=0, max_shift=0
        )
        *_, before, after = (
            result.latent for result in Inversion(model, [pictured(model, 1)], config).run()
        )
        with torch.no_grad():
            cameras = turn_cameras(Cameras.from_label(before.camera), [-30.0, 30.0])
            shown = [
                draw(model, latent.gaussians(model), latent.ws, cameras).color
                for latent in (before, after)
            ]
        return float((shown[0] - shown[1]).abs().mean())

    assert change(10.0) < 0.7 * change(0.0)


def test_a_loss_that_is_no_number_stops_that_image_alone(model, monkeypatch):
    calls = []
    usual = Objective.__call__

    def sometimes_nan(self, color, alpha):
        calls.append(1)
        loss = usual(self, color, alpha)
        if len(color) == 2 and len(calls) > 5 + 8:
            loss = loss * torch.tensor([1.0, math.nan])
        return loss

    targets = [pictured(model, 0), pictured(model, 1)]
    config = InversionConfig("w+", steps=(10, 10, 1, 1), candidates=4)
    expected = list(Inversion(model, targets, config).run())
    monkeypatch.setattr(stages_module.Objective, "__call__", sometimes_nan)
    results = list(Inversion(model, targets, config).run())
    assert results[-1].stopped == {1: "step 8 of stage w"}
    assert results[-1].metrics[0]["psnr"] == pytest.approx(
        expected[-1].metrics[0]["psnr"], abs=0.05
    )
    assert (
        torch.isfinite(results[-1].latent.ws).all()
        and torch.isfinite(results[-1].latent.camera).all()
    )
    assert results[-1].metrics[1]["psnr"] > 8, "the last good state"


def test_images_without_masks_and_networks_with_backgrounds():
    from gghead.models.config import BackgroundConfig

    model = small_network(
        1, background=BackgroundConfig(kind="cnn", resolution=16, cbase=64, cmax=8)
    )
    for masked in (False, True):
        target = pictured(model, 2, masked=masked)
        result = next(
            Inversion(model, [target], InversionConfig("w", steps=(4, 1, 1, 1), candidates=2)).run()
        )
        assert torch.equal((result.wanted[0] * 255).round().byte(), target.rgb), (
            "matched whole, background included"
        )
        assert ("psnr_mask" in result.metrics[0]) == masked


def test_wrong_batches_and_methods_are_sentences(model):
    with pytest.raises(ValueError, match="different batches"):
        Inversion(model, [pictured(model, 0), pictured(model, 1, masked=False)], InversionConfig())
    wrong = Target(
        "big", torch.zeros(3, 32, 32, dtype=torch.uint8), None, Cameras.orbit(0.0).label()[0]
    )
    with pytest.raises(ValueError, match=r"big is \[3, 32, 32\]"):
        Inversion(model, [wrong], InversionConfig())
    with pytest.raises(
        UserError, match="no inversion method 'p2p'; choose from encoder, w, w\\+, z, pti"
    ):
        list(Inversion(model, [pictured(model, 0)], InversionConfig("p2p")).run())
    with pytest.raises(UserError, match="steps=10,20 must be one positive number or four"):
        InversionConfig(steps=(10, 20))
    with pytest.raises(UserError, match=r"steps\[2\] must be at least 1, but it is 0"):
        InversionConfig(steps=(1, 1, 0, 1))
    with pytest.raises(UserError, match="lr has 1 numbers, but it needs four"):
        InversionConfig(lr=(0.1,))
    assert InversionConfig(steps=(10,)).steps == (10, 10, 10, 10)


# ------------------------------------------------------------------------------------------ latents
def test_inversion_starts_from_the_encoder():
    encoder = small_reconstructor()
    generator = encoder.generator
    targets = [pictured(generator, seed) for seed in (1, 2)]

    def run(method, **options):
        config = InversionConfig(
            method=method, encoder=True, steps=(4, 4, 4, 4), max_rotation=0, max_shift=0, **options
        )
        return list(Inversion(generator, targets, config, encoder=encoder).run())

    (alone,) = run("encoder")
    rgb, masks = (
        torch.stack([getattr(target, name) for target in targets]).float() / 255
        for name in ("rgb", "mask")
    )
    cameras = Cameras.from_label(torch.stack([target.label for target in targets]))
    wanted = encoder.encode(
        (rgb * masks + 1 - masks)[:, None], cameras.reshape(2, 1)
    ).to_file_precision()
    torch.testing.assert_close(alone.latent.residual, wanted.residual)
    torch.testing.assert_close(alone.latent.ws, wanted.ws)
    assert alone.frames.shape == (1, 2, 24, 24, 3) and alone.stage == "encoder"
    assert [result.stage for result in run("pti")] == ["encoder", "z", "pti"]
    before, after = run("z")
    for b in range(2):
        assert after.metrics[b]["loss"] <= before.metrics[b]["loss"] + 1e-4
    # With no step the stage z ends where the encoder left it.
    held = run("z", prior_z=1e6)[1].latent.residual
    torch.testing.assert_close(held, wanted.residual, atol=2e-2, rtol=1e-2)
    assert run("w+")[1].latent.residual is None
    with pytest.raises(UserError, match="no stage w after it"):
        run("w")
    with pytest.raises(UserError, match="needs a network with an encoder"):
        list(Inversion(generator, targets, InversionConfig(method="encoder")).run())
    with pytest.raises(UserError, match="name a network that has one"):
        Inversion(generator, targets, InversionConfig(method="z", encoder=True))


def test_a_network_in_training_is_left_alone_too():
    """Its parameters want gradients: none must be added to theirs, and no graph kept."""
    encoder = small_reconstructor().requires_grad_(True)
    generator = encoder.generator
    config = InversionConfig(method="pti", encoder=True, steps=(2, 2, 2, 2))
    results = list(Inversion(generator, [pictured(generator, 1)], config, encoder=encoder).run())
    latent = results[0].latent
    views = InputViews(
        results[0].wanted,
        torch.ones_like(results[0].wanted[:, :1]),
        Cameras.from_label(latent.camera),
        ("front",),
    )
    refined = refine(generator, latent, views, RefineConfig(steps=2))
    assert (
        not any(result.color.requires_grad for result in results) and not refined.ws.requires_grad
    )
    assert all(parameter.grad is None for parameter in encoder.parameters())
    same = refine(generator, latent, views, RefineConfig(steps=0))
    assert torch.equal(same.ws, latent.ws) and torch.equal(same.residual, latent.residual)


def some_latent(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    ws = model.mapping(model.seed_to_z(seed))
    name, weight = next(iter(model.decoder.named_parameters()))
    return Latent(
        ws,
        torch.randn(1, 8, 4, 4, generator=generator),
        {name: 0.3 * torch.randn(1, *weight.shape, generator=generator)},
        Cameras.orbit(0.1).label(),
        {"target": "me", "stage": "pti"},
    )


def test_a_latent_survives_its_file(model, tmp_path):
    latent = some_latent(model)
    save(tmp_path / "new" / "latent-pti.safetensors", latent, model)
    read = load(tmp_path / "new" / "latent-pti.safetensors", model)
    assert torch.equal(read.ws, latent.ws) and torch.equal(
        read.residual, latent.to_file_precision().residual
    )
    assert read.name == "me-pti" and torch.equal(read.camera, latent.camera)
    head = load(tmp_path / "new" / "latent-pti.safetensors", model).gaussians(model)
    with torch.no_grad():
        expected = latent.to_file_precision().gaussians(model)
        plain = model.gaussians(latent.ws)
    assert torch.equal(head.means, expected.means) and torch.equal(head.colors, expected.colors)
    assert not torch.allclose(head.means, plain.means), "residual and delta count"


def test_stacked_latents_are_each_their_own_head(model):
    latents = [
        Latent(model.mapping(model.seed_to_z(3))),
        some_latent(model, 1),
        some_latent(model, 2),
    ]
    with torch.no_grad():
        together = stack(latents).gaussians(model)
        for index, latent in enumerate(latents):
            assert torch.allclose(
                together[index : index + 1].means, latent.gaussians(model).means, atol=1e-5
            )


def test_truncation_ends_at_the_average_head(model):
    with torch.no_grad():
        average = model.gaussians(model.mapping(model.seed_to_z(0), truncation_psi=0.0))
        assert torch.allclose(
            some_latent(model).truncate(model, 0.0).gaussians(model).means,
            average.means,
            atol=1e-5,
        )
    latent = some_latent(model)
    assert latent.truncate(model, 1.0) is latent
    cut = latent.truncate(model, 0.0, cutoff=1)
    assert torch.equal(cut.ws[:, 1:], latent.ws[:, 1:]) and not torch.equal(
        cut.ws[:, 0], latent.ws[:, 0]
    )


def test_latents_of_other_networks_and_broken_files_are_sentences(model, tmp_path):
    path = tmp_path / "latent-w.safetensors"
    save(path, some_latent(model), model)
    with pytest.raises(UserError, match="another architecture"):
        load(path, small_network(cmax=4))
    with pytest.raises(UserError, match="other weights"):
        load(path, small_network(seed=1))
    with pytest.raises(UserError, match="does not exist"):
        load(tmp_path / "nothing")
    with pytest.raises(ValueError, match="holds one head"):
        save(path, stack([some_latent(model), some_latent(model)]), model)
    checkpoints.save(model, tmp_path / "network.safetensors")
    with pytest.raises(UserError, match="has format 'gghead/1'"):
        load(tmp_path / "network.safetensors")
    wrong = some_latent(model)
    save(path, Latent(wrong.ws, torch.zeros(1, 8, 2, 2)), model)
    with pytest.raises(UserError, match="residual in .* must have shape"):
        load(path, model)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match="truncated"):
        load(path, model)
    latent = some_latent(model)
    latent.ws[0, 0, 0] = math.nan
    save(path, latent, model)
    with pytest.raises(UserError, match="not finite"):
        load(path, model)
