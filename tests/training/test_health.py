"""What counts as a run that is no longer sound."""

import math

import torch

from gghead.training.run.health import (
    MOST_IN_A_ROW,
    Health,
    broken_tensors,
    describe_bad_updates,
    judge_losses,
)
from gghead.training.run.stats import Stats

GOOD, BAD = torch.tensor(False), torch.tensor(True)


def test_broken_tensors_are_named_wherever_they_stand():
    state = {
        "G": {"w": torch.tensor([1.0, math.nan]), "b": torch.zeros(2)},
        "step": 3,
        "count": torch.tensor([1, 2]),
        "optimizer": {
            "state": {0: {"exp_avg": torch.tensor(math.inf)}},
            "param_groups": [{"lr": math.nan}],
        },
        "best": (torch.zeros(1), torch.tensor(-math.inf)),
    }
    assert broken_tensors(state) == ["G.w", "optimizer.state.0.exp_avg", "best.1"]
    assert broken_tensors({"step": 1}) == []


def test_bounds_of_coefficients_may_be_infinite_but_not_nan():
    state = {
        "avatar": {
            "coefficient_max": torch.tensor([math.inf]),
            "coefficient_min": torch.tensor([-math.inf]),
        }
    }
    assert broken_tensors(state) == []
    state["avatar"]["coefficient_max"][0] = math.nan
    assert broken_tensors(state) == ["avatar.coefficient_max"]


def test_bad_updates_in_a_row_are_counted_for_every_network():
    health = Health(Stats())
    for _ in range(MOST_IN_A_ROW - 1):
        health.count("generator", GOOD)
        health.count("discriminator", BAD)
        assert health.after_step() is None
    health.count("discriminator", BAD)
    assert (
        health.after_step()
        == "10 updates of the discriminator in a row had losses or gradients that are no finite"
        " numbers"
    )
    again = Health(Stats())
    for index in range(5 * MOST_IN_A_ROW):  # as many, but never so many in a row
        again.count("generator", BAD if index % MOST_IN_A_ROW else GOOD)
        assert again.after_step() is None


def test_a_row_that_ended_between_two_looks_is_not_overlooked():
    health = Health(Stats())
    for bad in [BAD] * MOST_IN_A_ROW + [GOOD] * 3:
        health.count("generator", bad)
    assert health.verdict() is not None and health.verdict() is None


def test_counts_on_a_gpu_are_read_every_ten_steps(monkeypatch):
    """Reading them waits for the GPU; the meta device stands for one, and refuses to be read."""
    health = Health(Stats())
    monkeypatch.setattr(health.stats, "report", lambda *_: None)
    looks = []
    monkeypatch.setattr(health, "verdict", lambda: looks.append(health._steps))
    for _ in range(20):
        health.count("generator", torch.tensor(False, device="meta"))
        health.after_step()
    assert looks == [10, 20]


def test_bad_updates_and_losses_of_a_tick_are_told():
    stats = Stats()
    health = Health(stats)
    for bad in (GOOD, BAD, GOOD, GOOD):
        health.count("encoder", bad)
    stats.report("Loss/total", math.nan)
    summary = stats.collect()
    assert summary["Progress/bad_updates"]["mean"] == 0.25
    assert "1 of 4 updates" in describe_bad_updates(summary) and judge_losses(summary) is None
    stats.report("Loss/total", math.nan)
    stats.report("Check/held_out", math.nan)
    health.count("encoder", GOOD)
    summary = stats.collect()
    assert (
        describe_bad_updates(summary) is None and judge_losses(summary) == "Loss/total became nan"
    )
