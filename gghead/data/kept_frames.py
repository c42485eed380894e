"""Decoded pictures that are kept where they fit into memory."""

import torch
from torch import Tensor

from gghead.data.frame_set import FrameSet


class KeptFrames:
    """Colour and alpha of the frames of a set, decoded once if all of them fit into ``cache_mb``, else every time."""

    def __init__(self, frames: FrameSet, cache_mb: int) -> None:
        self.frames = frames
        bytes_needed = sum(4 * width * height for width, height in map(frames.size, range(len(frames))))
        self._kept: dict[int, Tensor] | None = {} if bytes_needed <= cache_mb * 2**20 else None

    @property
    def all_fit(self) -> bool:
        """Whether every picture is decoded only once."""
        return self._kept is not None

    def rgba(self, index: int) -> Tensor:
        """uint8 [4, H, W]; colours are not multiplied by alpha. Do not write into it. Any thread may call this."""
        rgba = None if self._kept is None else self._kept.get(index)
        if rgba is None:
            frame = self.frames.get(index)
            rgba = torch.cat([frame.rgb, frame.alpha])
            if self._kept is not None:
                self._kept[index] = rgba
        return rgba
