"""Multi-view captures: subjects x expressions (or time steps) x cameras."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gghead.cameras import Cameras
from gghead.data.backdrop import foreground
from gghead.data.frame_set import FrameSet
from gghead.torch_utils.errors import UserError


@dataclass(frozen=True)
class Views:
    """One head at one instant, seen by V cameras."""

    rgb: Tensor  # uint8 [V, 3, H, W]
    alpha: Tensor  # uint8 [V, 1, H, W]
    cameras: Cameras  # [V] float32
    coefficients: Tensor | None  # float32 [K] of that instant
    indices: np.ndarray  # [V] frames of the captures
    backdrop: Tensor | None = None  # [3] in [0, 1], the colour behind all heads of the captures if there is one

    def over_white(self) -> Tensor:  # float32 [V, 3, H, W] in [0, 1]
        """The pictures over white by their masks."""
        alpha = self.alpha.float() / 255
        return foreground(self.rgb.float() / 255, alpha, self.backdrop) + 1 - alpha


@dataclass(frozen=True, eq=False)
class Captures(FrameSet):
    """Pictures of several people, of each doing several things, each seen by several cameras at once."""

    kind = "captures"

    def expressions_of(self, subject: str | int) -> tuple[str, ...]:
        """Names of what this subject does, in order."""
        return tuple(self.moments[code] for code in np.unique(self.moment[self.indices(subject)]))

    def cameras_of(self, subject: str | int, expression: str | int) -> tuple[str, ...]:
        """Names of the cameras that saw it."""
        return tuple(self.camera_names[code] for code in np.unique(self.camera[self.indices(subject, expression)]))

    def views(self, subject: str | int, expression: str | int, cameras: Sequence[str | int] | None = None) -> Views:
        """Decode the pictures of one instant; ``cameras`` names those wanted, in that order (None = all).

        Raises ``UserError`` for names that do not exist together, or pictures of different sizes (give a resolution).
        """
        indices = self.indices(subject, expression)
        if cameras is not None:
            codes = [self._code(name, self.camera_names, "camera") for name in cameras]
            by_code = {int(self.camera[index]): int(index) for index in indices}
            if missing := [self.camera_names[code] for code in codes if code not in by_code]:
                raise UserError(f"Camera {missing[0]} did not see expression {expression} of subject {subject}.")
            indices = np.array([by_code[code] for code in codes])
        if not len(indices):
            raise UserError(f"Subject {subject} has no expression {expression}; see expressions_of().")
        if len({self.size(int(index)) for index in indices}) > 1:
            raise UserError(f"The views of subject {subject} differ in size; call resized(...) first.")
        frames = [self.get(int(index)) for index in indices]
        cameras = self.cameras[torch.from_numpy(indices)].to(torch.float32)
        rgb, alpha = (torch.stack([getattr(frame, name) for frame in frames]) for name in ("rgb", "alpha"))
        return Views(rgb, alpha, cameras, frames[0].coefficients, indices, self.backdrop)

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
