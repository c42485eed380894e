"""Whether a run is still sound: one rule for all trainers.

* An update is bad if the loss or a gradient is not finite. Such gradients are made harmless
  (``average_gradients``) and the update is counted: ``Progress/bad_updates`` is the share of them
  in a tick.
* ``MOST_IN_A_ROW`` bad updates of one network in a row end the run.
* A tensor of the state (weights, moving averages, the optimizers' averages) that is not finite ends
  the run. It is looked for at every tick and before a state or a snapshot is written, so that files
  on the disk are always sound.
* So does a mean loss that is not finite in a tick without a bad update: then a part of it, or a
  number beside it, is wrong.

All processes come to the same answer, because gradients, losses and states are compared over all of
them.
"""

import math

import torch
from torch import Tensor

from gghead.training.run.stats import Stats, Summary

MOST_IN_A_ROW = 10
BAD_UPDATES = "Progress/bad_updates"
_READ_EVERY = 10  # steps between two looks at counts that lie on a GPU
_UNBOUNDED = ("coefficient_min", "coefficient_max")  # of avatars: infinite where no bound is known


class Health:
    """Counts the bad updates of every network.

    The counts stay on the device; reading them on a GPU waits for it.
    """

    def __init__(self, stats: Stats) -> None:
        self.stats = stats
        self._rows: dict[str, Tensor] = {}  # network -> bad updates in a row up to now
        self._longest: dict[str, Tensor] = {}  # the same at its worst, since it was read
        self._steps = 0

    def count(self, network: str, bad: Tensor) -> None:  # bool, no dimension
        """Count one update of ``network``; ``bad`` comes from ``average_gradients``."""
        self.stats.report(BAD_UPDATES, bad)
        row = (self._rows[network] + 1) * bad if network in self._rows else bad.long()
        self._rows[network] = row
        self._longest[network] = (
            torch.maximum(self._longest[network], row) if network in self._longest else row
        )

    def after_step(self) -> str | None:
        """Call it after every step; returns why the run cannot go on, or ``None``.

        A GPU is asked now and then.
        """
        self._steps += 1
        on_cpu = all(row.device.type == "cpu" for row in self._longest.values())
        return self.verdict() if on_cpu or self._steps % _READ_EVERY == 0 else None

    def verdict(self) -> str | None:
        """Why the run cannot go on, as far as updates say, or ``None``."""
        names = list(self._longest)
        found = torch.stack([self._longest[name] for name in names]).tolist() if names else []
        self._longest = {}
        for name, worst in zip(names, found, strict=True):
            if worst >= MOST_IN_A_ROW:
                return (
                    f"{worst} updates of the {name} in a row had losses or gradients that are no"
                    " finite numbers"
                )
        return None


def count_bad_updates(summary: Summary) -> tuple[int, int]:
    """Of a tick, the bad updates and all, each counted as often as there are processes."""
    entry = summary.get(BAD_UPDATES, {"num": 0, "mean": 0.0})
    return round(entry["num"] * entry["mean"]), int(entry["num"])


def describe_bad_updates(summary: Summary) -> str | None:
    """A line for the console where a tick had bad updates."""
    bad, count = count_bad_updates(summary)
    if not bad:
        return None
    return (
        f"health: {bad} of {count} updates had losses or gradients that are no finite numbers;"
        f" their gradients were replaced. {MOST_IN_A_ROW} in a row end the run"
    )


def judge_losses(summary: Summary) -> str | None:
    """Why the run cannot go on, as far as a tick's losses say, or ``None``."""
    if count_bad_updates(summary)[0]:  # they are known and were made harmless
        return None
    wrong = [
        name
        for name, entry in summary.items()
        if name.startswith("Loss/") and not math.isfinite(entry["mean"])
    ]
    return f"{', '.join(wrong)} became {summary[wrong[0]]['mean']}" if wrong else None


@torch.no_grad()
def broken_tensors(state: object, name: str = "") -> list[str]:
    """Names of the tensors that hold numbers which are not finite.

    They may lie in nested dicts, lists and tuples.
    """
    found = dict(_tensors(state, name))
    flags = [_is_broken(key, value) for key, value in found.items()]
    if not flags:
        return []
    on_gpu = [flag for flag in flags if flag.device.type != "cpu"]  # one wait for all of them
    answers = iter(torch.stack(on_gpu).tolist() if on_gpu else ())
    told = [next(answers) if flag.device.type != "cpu" else bool(flag) for flag in flags]
    return [key for key, wrong in zip(found, told, strict=True) if wrong]


def _is_broken(name: str, value: Tensor) -> Tensor:
    if name.endswith(_UNBOUNDED):
        return value.isnan().any()
    return ~torch.isfinite(value).all()


def _tensors(state: object, name: str):
    if isinstance(state, Tensor):
        if state.is_floating_point():
            yield name, state
    elif isinstance(state, dict):
        for key, value in state.items():
            yield from _tensors(value, f"{name}.{key}" if name else str(key))
    elif isinstance(state, (list, tuple)):
        for index, value in enumerate(state):
            yield from _tensors(value, f"{name}.{index}")
