"""Captured heads, each with several views over a background of one color."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gghead.cameras import Cameras
from gghead.data.backdrop import foreground
from gghead.data.captures import Captures
from gghead.data.frames import FrameCache
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.rng import derive_seed
from gghead.training.decoder.config import DecoderDataConfig


@dataclass(frozen=True, eq=False)
class ViewBatch:
    """B heads with V views of each."""

    head: Tensor  # int64 [B] which head
    image: Tensor  # float32 [B, V, 3, S, S] in [0, 1], over ``background``
    alpha: Tensor  # float32 [B, V, 1, S, S]
    cameras: Cameras  # [B, V]
    background: Tensor  # float32 [B, V, 3] in [0, 1]

    def to(self, device: torch.device | str) -> "ViewBatch":
        """The same on another device."""
        return ViewBatch(**{name: value.to(device) for name, value in vars(self).items()})


class HeadViews:
    """The heads of captures; a head is one subject at one moment.

    What a step sees depends on seed and step alone.
    """

    def __init__(self, captures: Captures, config: DecoderDataConfig, size: int) -> None:
        """Raises ``UserError`` where no head has a view more than those that are held out."""
        subjects = captures.subjects
        if config.identities is not None:
            subjects = subjects[: config.identities]
        captures = captures.select(subjects=subjects).resize(size)
        out = config.held_out_views
        groups = [group for group in captures.heads() if len(group) > out]
        if not groups:
            raise UserError(
                f"{captures.images.source.path} has no head with more than {out} views; make"
                " captures with more, or lower data.held_out_views."
            )
        self.held_out = [group[:out] for group in groups]
        self.heads = [group[out:] for group in groups]
        self.subjects, self.size = len(subjects), size
        self.backdrop = captures.backdrop
        self._frames = FrameCache(captures, config.cache_mb)
        self.cameras = captures.cameras.to(torch.float32)  # [N], of all images

    def batch(self, heads: int, views: int, seed: int, step: int) -> ViewBatch:
        """The heads and views of a step, over random colors."""
        draw = np.random.RandomState(derive_seed(seed, "views", step) % 2**32)
        chosen = draw.permutation(len(self.heads))[np.arange(heads) % len(self.heads)]
        indices = []
        for head in chosen:
            group = self.heads[head]
            indices.append(group[draw.permutation(len(group))[np.arange(views) % len(group)]])
        colors = draw.rand(heads, views, 3)
        return self.read(chosen, np.stack(indices), torch.from_numpy(colors).float())

    def read(self, heads: np.ndarray, indices: np.ndarray, background: Tensor) -> ViewBatch:
        """Views ``indices`` [B, V] of ``heads`` [B] over colors [B, V, 3]."""
        flat = torch.from_numpy(np.ascontiguousarray(indices).reshape(-1))
        rgba = torch.stack([self._frames.rgba(int(index)) for index in flat]).float() / 255
        rgb, alpha = rgba[:, :3], rgba[:, 3:]
        rgb = foreground(rgb, alpha, self.backdrop)
        image = rgb + (1 - alpha) * background.flatten(0, 1)[..., None, None]
        shape = indices.shape
        return ViewBatch(
            torch.from_numpy(np.asarray(heads, np.int64)),
            image.clamp(0, 1).unflatten(0, shape),
            alpha.unflatten(0, shape),
            self.cameras[flat].reshape(*shape),
            background,
        )
