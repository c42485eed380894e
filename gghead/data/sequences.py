"""Tracked sequences: frames of one person in time order, the camera relative to the head, expression coefficients."""

import dataclasses
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from gghead.data.captures import Captures
from gghead.data.frame_set import FrameSet
from gghead.torch_utils.errors import UserError


@dataclass(frozen=True, eq=False)
class TrackedSequence(FrameSet):
    """Frames of one person. The head is at rest: its motion is in the cameras.

    Frames stand in time order; where several cameras filmed, those of one instant stand together. ``moment`` is the
    time step of every frame.

    Raises ``UserError`` without coefficients, or for frames out of order.
    """

    kind = "sequence"

    def __post_init__(self) -> None:
        super().__post_init__()
        where = self.pictures.source.path
        if self.coefficients is None:
            raise UserError(f"{where} has no expression coefficients, so it is no tracked sequence; convert it as "
                            "captures, or track it first.")  # fmt: skip
        if (np.diff(self.moment) < 0).any():
            raise UserError(f"The frames of {where} are not in time order.")

    def in_time(self, first: int, last: int) -> "TrackedSequence":
        """The frames of the time steps ``first`` (included) to ``last`` (not included)."""
        return self.take(np.flatnonzero((self.moment >= first) & (self.moment < last)))

    def coefficient_range(self, split: str | None = "train") -> tuple[Tensor, Tensor]:
        """Smallest and largest value of every coefficient, each [K]; of all frames if ``split`` is None.

        Avatars extrapolate badly, so coefficients to animate with are clamped to what was seen in training.
        """
        seen = self if split is None or not self.splits else self.split(split)
        return seen.coefficients.amin(0), seen.coefficients.amax(0)

    @classmethod
    def of(cls, captures: Captures) -> "TrackedSequence":
        """The frames of captures as the sequence of one person, in the order of time steps.

        Raises ``UserError`` for several subjects or without coefficients.
        """
        if len(np.unique(captures.subject)) > 1:
            raise UserError("A sequence shows one person; select a single subject first.")
        if (np.diff(captures.moment) < 0).any():
            captures = captures.take(np.argsort(captures.moment, kind="stable"))
        return cls(**{f.name: getattr(captures, f.name) for f in dataclasses.fields(captures)})

    def as_captures(self) -> Captures:
        """The same frames as captures of one subject, a time step being what captures call an expression."""
        return Captures(**{f.name: getattr(self, f.name) for f in dataclasses.fields(self)})


def last_frames(moment: np.ndarray, test: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Split by time: the last ``test`` time steps are "test", the others "train". Returns (split [N], splits).

    Raises ``UserError`` where nothing would be left to train on.
    """
    steps = np.unique(moment)
    if not 0 <= test < len(steps):
        raise UserError(f"The last {test} of {len(steps)} time steps cannot be the test frames; choose fewer with "
                        "--test-frames.")  # fmt: skip
    first_test = steps[len(steps) - test] if test else steps[-1] + 1
    return (moment >= first_test).astype(np.int8), ("train", "test")
