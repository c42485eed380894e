"""Lessons from the template's blendshapes: what is drawn, what is compared, the maps that a
transformer starts with."""

import numpy as np
import pytest
import torch
from helpers.capture_zip import NAMES, write_captures
from helpers.small_network import small_network
from helpers.small_reconstructor import small_reconstructor

import gghead
from gghead.torch_utils import config as config_json
from gghead.training.encoder.data import read_captures
from gghead.training.expression.config import PRESETS, ExpressionDataConfig
from gghead.training.expression.data import Lessons, Triplets
from gghead.training.expression.trainer import ExpressionTrainer

# the template has no shape for the last two
LIPS = ("jawOpen", "mouthSmile_L", "eyeLookUp_L", "exp_7")


@pytest.fixture(scope="module")
def generator():
    return small_network(template="head")


@pytest.fixture(scope="module")
def lessons(generator):
    return Lessons(generator, LIPS)


@pytest.fixture(scope="module")
def head(generator):
    return generator.sample(1).map(torch.Tensor.clone)


def test_only_templates_with_blendshapes_teach(generator, lessons):
    assert Lessons.are_possible(generator) and not Lessons.are_possible(small_network())
    assert lessons.known.tolist() == [True, True, False, False]


def test_expressions_are_parts_of_captured_ones_or_single(lessons):
    tables = torch.tensor([[0.8, 0.5, 0.9, 0.3], [0.1, 0.6, 0.0, 0.4]])
    drawn = lessons.draw(tables, 400, np.random.RandomState(0))
    assert torch.equal(drawn, lessons.draw(tables, 400, np.random.RandomState(0)))
    assert not drawn[:, 2:].any() and bool(drawn.any(1).all())
    assert 0 <= float(drawn.min()) and float(drawn.max()) <= 1
    both = drawn[(drawn[:, :2] > 0).all(1)]
    assert 60 < len(both) < 250
    # rows are kept together: that of the one table or that of the other
    ratio = both[:, 1] / both[:, 0]
    close = [(ratio - wanted).abs() < 1e-4 for wanted in (0.5 / 0.8, 6.0)]
    clipped = both[:, 0] == 1
    assert bool((close[0] | close[1] | clipped).all()) and all(bool(part.any()) for part in close)
    nothing = lessons.draw(torch.zeros(1, 4), 20, np.random.RandomState(0))  # one coefficient then
    assert ((nothing > 0).sum(1) == 1).all()


def test_moved_heads_are_those_of_animate(generator, lessons, head):
    table = torch.tensor([[0.7, 0.4, 0.0, 0.0]])
    moved = lessons.move(head, table)
    wanted = gghead.animate(head, {"jawOpen": 0.7, "mouthSmileLeft": 0.4}, model=generator)
    assert moved.num == head.num < wanted.num  # without the mouth's inside
    for name in ("means", "quats", "scales"):
        torch.testing.assert_close(getattr(moved, name), getattr(wanted, name)[:, : head.num])


def test_terms_are_shares_of_the_way(lessons, head):
    table, weight = torch.tensor([[0.7, 0.4, 0.0, 0.0]]), torch.ones(head.num, 1)
    moved = lessons.move(head, table)
    parts = lessons.terms(head, head, moved, weight)
    assert float(parts["motion"]) == pytest.approx(1)
    half = head.map(torch.Tensor.clone)
    half.means = (head.means + moved.means) / 2
    assert float(lessons.terms(head, half, moved, weight)["motion"]) == pytest.approx(
        0.25, rel=1e-4
    )
    there = lessons.terms(head, moved, moved, weight)
    assert float(there["motion"]) == 0 and float(there["looks"]) == pytest.approx(0, abs=1e-5)
    flipped = moved.map(torch.Tensor.clone)
    flipped.quats = -flipped.quats  # the same rotations
    assert float(lessons.terms(head, flipped, moved, weight)["looks"]) == pytest.approx(0, abs=1e-5)
    other = moved.map(torch.Tensor.clone)
    other.colors = other.colors + 0.03
    assert float(lessons.terms(head, other, moved, weight)["looks"]) == pytest.approx(1, rel=1e-3)


@pytest.fixture(scope="module")
def plain():
    """A head that is the template itself, finer than the others."""
    network = small_network(template="head", grid=48)
    for value in network.decoder.parameters():
        value.zero_()
    return network, network.sample(1)


def test_what_fades_under_lids_is_left_to_the_images(plain):
    network, head = plain
    lessons, weight = Lessons(network, ("eyeBlinkLeft", "eyeBlinkRight")), torch.ones(head.num, 1)
    moved = lessons.move(head, torch.ones(1, 2))
    faded = moved.opacities[0] < 0.1 * head.opacities[0]
    assert 0 < int(faded.sum()) < 0.2 * head.num
    now = moved.map(torch.Tensor.clone)
    now.means[:, faded] += 0.1
    now.colors[:, faded] += 0.5
    parts = lessons.terms(head, now, moved, weight)
    assert float(parts["looks"]) < 0.1
    now.means[:, ~faded] += 0.1
    assert float(lessons.terms(head, now, moved, weight)["motion"]) > 50 * float(parts["motion"])


@pytest.mark.parametrize("degree", [None, 1])
def test_what_lies_between_lips_turns_dark(plain, degree):
    network, head = plain
    head = head if degree is None else head.with_sh(degree)
    lessons = Lessons(network, LIPS)
    moved = lessons.move(head, torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
    shown = gghead.animate(head, {"jawOpen": 1}, model=network)
    between = shown.opacities[0, : head.num] < 0.01
    assert 0 < int(between.sum()) < 0.1 * head.num
    assert float(moved.opacities[0, between].mean()) > 0.8 * float(
        head.opacities[0, between].mean()
    )
    assert bool(
        (
            moved.colors[0, between].flatten(1)[:, :3] < head.colors[0, between].flatten(1)[:, :3]
        ).all()
    )
    still = shown.opacities[0, : head.num] == head.opacities[0]
    assert torch.equal(moved.colors[0, still], head.colors[0, still])


def test_maps_say_how_places_move(lessons):
    maps = lessons.maps(8, 16)
    assert maps.shape == (4, 12, 8, 8) and not maps[2:].any() and float(maps[0].abs().max()) > 1
    surface = lessons.surface
    # column 8, row 3 of 16 x 16
    uv = (torch.stack([torch.tensor(8.5), torch.tensor(3.5)]) / 16) * 2 - 1
    offset = surface.motion_of(surface.at(uv[None]), lessons.matrix[:1]).offset[0, 0]
    # Cells hold 2 x 2 points: point (row 3, column 8) is the lower left one of cell (1, 4).
    found = torch.stack([maps[0, 4 * axis + 2, 1, 4] for axis in range(3)])
    torch.testing.assert_close(found, offset / 0.01)
    assert [lessons.maps(8, most).shape[1] for most in (2, 3, 47, 48)] == [0, 3, 12, 48]


def test_a_transformer_learns_to_move_heads(tmp_path, monkeypatch):
    network = small_reconstructor(
        generator={
            "template": "head",
            "latent_resolution": 8,
            "plane_resolution": 16,
            "grid": 16,
            "cbase": 128,
        }
    )
    captures = read_captures(str(write_captures(tmp_path / "balls.zip", subjects=2)))
    options = config_json.replace(
        PRESETS["tiny"],
        {
            "model": {"width": 24, "layers": 1, "heads": 2, "tokens": 2, "dropout": 0.0},
            "batch": 4,
            "warmup": 5,
            "rate": 1e-2,
            "steps": 1000,
            "loss": {"images_from": 1000},
            "data": {"views": 2, "subsets": 1, "targets": 1},
        },
    )
    trainer = ExpressionTrainer(options, Triplets(captures, options.data, 24, network, 0), network)
    maps = trainer.model.network.maps
    wanted = Lessons(network.generator, NAMES).maps(8, 16)
    assert torch.equal(maps[:, :12], wanted) and bool(maps[:, 12:].any())
    assert trainer.model.coefficient_max.tolist() == [1.0, 1.0]

    def errors():
        with torch.no_grad():
            # heads and expressions of no step of training
            trainer.step_index, step = 10_000, trainer.step_index
            parts = trainer.lesson_terms(trainer.lessons)
            trainer.step_index = step
        return {name: float(part) for name, part in parts.items()}

    before = errors()
    assert before["motion"] == pytest.approx(1, rel=1e-3)
    for _ in range(40):
        trainer.step()
    assert errors()["motion"] < 0.5
    monkeypatch.setattr(
        trainer.lessons, "draw", lambda tables, count, random: torch.zeros(count, 2)
    )
    still = errors()  # nothing is asked for and nothing done
    assert still["motion"] == 0 and abs(still["looks"]) < 1e-6


def test_without_blendshapes_images_alone_are_learned(tmp_path):
    captures = read_captures(str(write_captures(tmp_path / "balls.zip", subjects=2)))
    network = small_reconstructor()  # on a sphere
    options = config_json.replace(
        PRESETS["tiny"],
        {
            "model": {"width": 16, "layers": 1, "heads": 2},
            "batch": 2,
            "data": {"views": 2, "subsets": 1},
        },
    )
    triplets = Triplets(captures, ExpressionDataConfig(views=2, subsets=1), 24, network, 0)
    trainer = ExpressionTrainer(options, triplets, network)
    trainer.step()
    names = set(trainer.stats.collect())
    assert trainer.lessons is None and "Loss/pixels" in names and "Loss/motion" not in names
