"""Two kinds of frames: multi-view captures of several people, and the tracked sequence of one."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gghead.cameras import Cameras
from gghead.data.backdrop import foreground
from gghead.data.frames import FrameSet
from gghead.torch_utils.errors import UserError


@dataclass(frozen=True)
class Views:
    """One head at one instant, seen by V cameras."""

    rgb: Tensor  # uint8 [V, 3, H, W]
    alpha: Tensor  # uint8 [V, 1, H, W]
    cameras: Cameras  # [V] float32
    coefficients: Tensor | None  # float32 [K] of that instant
    indices: np.ndarray  # [V] frames of the captures
    # [3] in [0, 1], the color behind all heads of the captures if there is one
    backdrop: Tensor | None = None

    def over_white(self) -> Tensor:  # float32 [V, 3, H, W] in [0, 1]
        """The images over white by their masks."""
        alpha = self.alpha.float() / 255
        return foreground(self.rgb.float() / 255, alpha, self.backdrop) + 1 - alpha


@dataclass(frozen=True, eq=False)
class Captures(FrameSet):
    """Images of several subjects, each doing several things, each seen by several cameras."""

    kind = "captures"

    def expressions_of(self, subject: str | int) -> tuple[str, ...]:
        """Names of what this subject does, in order."""
        return tuple(self.moments[code] for code in np.unique(self.moment[self.indices(subject)]))

    def cameras_of(self, subject: str | int, expression: str | int) -> tuple[str, ...]:
        """Names of the cameras that saw it."""
        return tuple(
            self.camera_names[code]
            for code in np.unique(self.camera[self.indices(subject, expression)])
        )

    def heads(self) -> list[np.ndarray]:
        """The frames of each head, which is one subject at one moment: indices in order."""
        codes = self.subject.astype(np.int64) * len(self.moments) + self.moment
        order = np.argsort(codes, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)

    def views(
        self, subject: str | int, expression: str | int, cameras: Sequence[str | int] | None = None
    ) -> Views:
        """Decode the images of one instant.

        ``cameras`` names those wanted, in that order (None = all).

        Raises ``UserError`` for names that do not exist together, or images of different sizes
        (give a resolution).
        """
        indices = self.indices(subject, expression)
        if cameras is not None:
            codes = [self._code(name, self.camera_names, "camera") for name in cameras]
            by_code = {int(self.camera[index]): int(index) for index in indices}
            if missing := [self.camera_names[code] for code in codes if code not in by_code]:
                raise UserError(
                    f"Camera {missing[0]} did not see expression {expression} of subject {subject}."
                )
            indices = np.array([by_code[code] for code in codes])
        if not len(indices):
            raise UserError(
                f"Subject {subject} has no expression {expression}; see expressions_of()."
            )
        if len({self.size(int(index)) for index in indices}) > 1:
            raise UserError(f"The views of subject {subject} differ in size; call `resize` first.")
        frames = [self.get(int(index)) for index in indices]
        poses = self.cameras[torch.from_numpy(indices)].to(torch.float32)
        rgb, alpha = (
            torch.stack([getattr(frame, name) for frame in frames]) for name in ("rgb", "alpha")
        )
        return Views(rgb, alpha, poses, frames[0].coefficients, indices, self.backdrop)

    def select(
        self,
        subjects: Iterable[str | int] | None = None,
        expressions: Iterable[str | int] | None = None,
        cameras: Iterable[str | int] | None = None,
        split: str | None = None,
    ) -> "Captures":
        """The captures of these subjects, expressions, cameras and split."""
        chosen = self if split is None else self.split(split)
        return chosen.take(chosen.indices(subjects, expressions, cameras))


@dataclass(frozen=True, eq=False)
class TrackedSequence(FrameSet):
    """Frames of one person. The head is at rest: its motion is in the cameras.

    Frames stand in time order; where several cameras filmed, those of one instant stand together.
    ``moment`` is the time step of every frame.

    Raises ``UserError`` without coefficients, or for frames out of order.
    """

    kind = "sequence"

    def __post_init__(self) -> None:
        super().__post_init__()
        where = self.images.source.path
        if self.coefficients is None:
            raise UserError(
                f"{where} has no expression coefficients, so it is no tracked sequence; convert it"
                " as captures, or track it first."
            )
        if (np.diff(self.moment) < 0).any():
            raise UserError(f"The frames of {where} are not in time order.")

    def in_time(self, first: int, last: int) -> "TrackedSequence":
        """The frames of the time steps ``first`` (included) to ``last`` (not included)."""
        return self.take(np.flatnonzero((self.moment >= first) & (self.moment < last)))

    def coefficient_range(self, split: str | None = "train") -> tuple[Tensor, Tensor]:
        """Smallest and largest value of every coefficient, each [K].

        Of all frames if ``split`` is None.

        Avatars extrapolate badly, so coefficients to animate with are clamped to what was seen in
        training.
        """
        seen = self if split is None or not self.splits else self.split(split)
        assert seen.coefficients is not None  # __post_init__ sees to it
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
        """The same frames as captures of one subject.

        A time step becomes what captures call an expression.
        """
        return Captures(**{f.name: getattr(self, f.name) for f in dataclasses.fields(self)})


def as_kind(frames: FrameSet, kind: str | None) -> FrameSet:
    """``frames`` as "captures" or "sequence"; as they are for None.

    Raises ``UserError`` where that cannot be.
    """
    if kind is None or frames.kind == kind:
        return frames
    if isinstance(frames, TrackedSequence):
        return frames.as_captures()
    assert isinstance(frames, Captures)
    return TrackedSequence.of(frames)


def last_frames(moment: np.ndarray, test: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Split by time: the last ``test`` time steps are "test", the others "train".

    Returns (split [N], splits).

    Raises ``UserError`` where nothing would be left to train on.
    """
    steps = np.unique(moment)
    if not 0 <= test < len(steps):
        raise UserError(
            f"The last {test} of {len(steps)} time steps cannot be the test frames; choose fewer"
            " with `test_frames`."
        )
    first_test = steps[len(steps) - test] if test else steps[-1] + 1
    return (moment >= first_test).astype(np.int8), ("train", "test")


FRONT = math.radians(80.0)  # cameras with less yaw see the face


@dataclass(frozen=True)
class ViewChoice:
    """Names of cameras."""

    targets: tuple[str, ...]
    """In front, never inputs."""
    behind: tuple[str, ...]
    """At the sides and the back; inputs only where those in front do not suffice."""
    inputs: dict[int, tuple[str, ...]]
    """Number of views -> cameras, by yaw."""


def spread(items: Sequence, count: int) -> list:
    """Return ``count`` items at even distances.

    They are the middles of ``count`` equal parts of the list.
    """
    return [items[int((i + 0.5) * len(items) / count)] for i in range(count)]


def choose_views(
    names: Sequence[str], cameras: Cameras, counts: Sequence[int], targets: int = 4
) -> ViewChoice:
    """Hold out ``targets`` evenly spread cameras in front, and choose inputs of each number.

    The inputs are spread over the other cameras there.

    More inputs than there are in front take those at the sides and the back as well, nearest the
    front first. All is decided by the cameras' yaw. Raises ``UserError`` where there are too few
    cameras.
    """
    yaw = {name: float(angle) for name, angle in zip(names, cameras.angles()[0], strict=True)}
    front = sorted((name for name in names if abs(yaw[name]) < FRONT), key=yaw.__getitem__)
    behind = sorted(
        (name for name in names if abs(yaw[name]) >= FRONT), key=lambda name: abs(yaw[name])
    )
    most = len(names) - targets
    if (
        not 0 <= targets <= len(front)
        or min(counts, default=1) < 1
        or max(counts, default=1) > most
    ):
        raise UserError(
            f"{len(names)} views, {len(front)} of them in front, cannot give"
            f" {max(counts, default=1)} inputs and {targets} targets; ask for fewer."
        )
    held_out = spread(front, targets)
    rest = [name for name in front if name not in held_out]
    inputs = {
        count: spread(rest, count) if count <= len(rest) else rest + behind[: count - len(rest)]
        for count in counts
    }
    return ViewChoice(
        tuple(held_out),
        tuple(sorted(behind)),
        {count: tuple(sorted(chosen, key=yaw.__getitem__)) for count, chosen in inputs.items()},
    )
