"""The frames of a sequence as an avatar is trained, shown and judged on them."""

import copy

import numpy as np
import torch
from torch import Tensor

from gghead.cameras import Cameras
from gghead.data import formats
from gghead.data.backdrop import foreground
from gghead.data.captures import TrackedSequence
from gghead.data.frames import FrameCache
from gghead.torch_utils.errors import UserError


def read_sequence(
    path: str,
    resolution: tuple[int, ...] | None = None,
    extras: tuple[str, ...] = (),
    first: int = 0,
) -> TrackedSequence:
    """Read a tracked sequence at ``resolution`` (width, height).

    Its coefficients are the ``first`` ones (0 = all), then ``extras``.

    Raises ``UserError`` for data that are no sequence of one person with expression coefficients.
    """
    data = formats.read(path)
    if data.coefficients is None or not data.width:
        raise UserError(
            f"{path} has no expression coefficients, so no avatar can follow them; track the frames"
            " first (docs/formats.md lists the trackers' formats that are read)."
        )
    sequence = data if isinstance(data, TrackedSequence) else TrackedSequence.of(data)
    sequence = select_coefficients(sequence, first, extras)
    if resolution is None:
        return sequence
    width, height = resolution
    return sequence.resize((width, height))


def select_coefficients(
    sequence: TrackedSequence, first: int, extras: tuple[str, ...]
) -> TrackedSequence:
    """Select the first coefficients (0 = all), then tracked parameters such as the jaw.

    This is what an avatar takes of a sequence.
    """
    return (sequence.with_first(first) if first else sequence).with_extras(*extras)


def split_or_all(sequence: TrackedSequence, name: str) -> TrackedSequence:
    """The frames of a split. Raises ``UserError`` if it is missing or empty."""
    part = np.flatnonzero([sequence.split_of(index) == name for index in range(len(sequence))])
    if not len(part):
        raise UserError(
            f"{sequence.images.source.path} has no frames of the split '{name}'; "
            + (
                f"its splits are {', '.join(sequence.splits)}."
                if sequence.splits
                else "it has no splits: convert it with `test_frames=N`."
            )
        )
    return sequence.take(part)


class Frames:
    """Images, masks, cameras and coefficients by index.

    Decoded once and kept where they fit into memory.
    """

    def __init__(self, sequence: TrackedSequence, cache_mb: int = 2048) -> None:
        sizes = {sequence.size(index) for index in range(len(sequence))}
        if len(sizes) > 1:
            raise UserError(
                f"The frames of {sequence.images.source.path} have different sizes; choose one"
                " with `resolution=N`."
            )
        self.sequence, self.size = sequence, sizes.pop()
        assert sequence.coefficients is not None
        self.expression = sequence.coefficients.float()
        self.cameras = sequence.cameras.to(torch.float32)
        self._kept = FrameCache(sequence, cache_mb)

    def __len__(self) -> int:
        return len(self.sequence)

    @property
    def in_memory(self) -> bool:
        """Whether all images fit into memory, so that each is decoded once."""
        return self._kept.all_fit

    def with_first(self, count: int) -> "Frames":
        """The same frames, decoded images included, with only the first coefficients.

        Raises as the sequence's.
        """
        other = copy.copy(self)
        other.sequence = self.sequence.with_first(count)
        other.expression = self.expression[:, :count]
        return other

    def cut(self, index: int) -> tuple[Tensor, Tensor]:
        """Color times alpha [3, H, W] and alpha [1, H, W], both in [0, 1]."""
        rgba = self._kept.rgba(index).float() / 255
        return foreground(rgba[:3], rgba[3:], self.sequence.backdrop), rgba[3:]

    def over(self, index: int, background: Tensor | float = 1.0) -> Tensor:  # [3, H, W]
        """The image put over a color [3] by its mask.

        White by default, as everything is judged.
        """
        head, alpha = self.cut(index)
        background = torch.as_tensor(background, dtype=head.dtype).expand(3)[:, None, None]
        return head + background * (1 - alpha)

    def camera(self, index: int) -> Cameras:
        """Batch shape (1,)."""
        return self.cameras[index : index + 1]
