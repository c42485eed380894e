"""Batches of heads seen from several sides.

Drawn from captures, or rendered from the GAN's own samples.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from gghead.cameras import FFHQ_FOCAL, Cameras
from gghead.data import formats
from gghead.data.backdrop import foreground
from gghead.data.captures import Captures
from gghead.data.frames import FrameCache
from gghead.models.generator import Generator
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.rng import derive_seed, generator
from gghead.training.encoder.config import EncoderDataConfig, EncoderStage

_GAN_YAW, _GAN_PITCH = 1.3, 0.5  # radians, half ranges of the cameras around the GAN's samples
_FOCALS = (2.9, FFHQ_FOCAL)  # the whole head as in mvheads, and EG3D's crop; one of them per step


@dataclass(frozen=True, eq=False)
class HeadBatch:
    """B heads, V input views and T targets of each, over white (or as they are) in [0, 1]."""

    rgb: Tensor  # [B, V, 3, H, W]
    cameras: Cameras  # [B, V]
    target: Tensor  # [B, T, 3, H, W]
    alpha: Tensor  # [B, T, 1, H, W]
    target_cameras: Cameras  # [B, T]
    ws: Tensor | None = None  # [B, L, D] where the head's latent is known
    z: Tensor | None = None  # [B, C, R, R]

    def to(self, device: torch.device | str) -> "HeadBatch":
        """The same on another device."""
        return replace(
            self,
            **{name: value.to(device) for name, value in vars(self).items() if value is not None},
        )


class CaptureHeads:
    """Heads of a capture set; a head is one subject at one moment.

    What a step shows depends on seed and step alone.
    """

    def __init__(self, captures: Captures, config: EncoderDataConfig, size: int) -> None:
        """Raise ``UserError`` for hold-outs that do not exist, or if too little is left.

        At least one head with two views must be left.
        """
        for name in config.holdout:
            captures.indices(name)
        kept = [name for name in captures.subjects if name not in config.holdout]
        if config.identities is not None:
            kept = kept[: config.identities]
        if not kept:
            raise UserError(
                f"{captures.images.source.path} has no subject left to train on; hold out fewer."
            )
        captures = captures.select(subjects=kept).resize(size)
        groups = captures.heads()
        if config.cameras is not None:
            groups = [
                group[np.unique(np.linspace(0, len(group) - 1, config.cameras).round().astype(int))]
                for group in groups
            ]
        self.heads = [group for group in groups if len(group) > 1]
        if not self.heads:
            raise UserError(
                f"{captures.images.source.path} shows no head from two cameras at once; an"
                " encoder needs multi-view captures."
            )
        self.captures, self.config, self.size, self.subjects = captures, config, size, len(kept)
        self.backdrop = captures.backdrop
        self._frames = FrameCache(captures, config.cache_mb)
        self._cameras = captures.cameras.to(torch.float32)

    def batch(self, stage: EncoderStage, seed: int, step: int, rows: slice) -> HeadBatch:
        """The rows of this step's batch that belong to this process."""
        draw = np.random.RandomState(derive_seed(seed, "heads", step) % 2**32)
        views = int(draw.choice(stage.views))
        parts = []
        for row in range(stage.batch):
            group = self.heads[draw.randint(len(self.heads))]
            order = draw.permutation(len(group))
            mirrored = self.config.mirror and draw.rand() < 0.5
            gain = 1 + self.config.jitter * (2 * draw.rand(3) - 1)
            if rows.start <= row < rows.stop:
                parts.append(self._head(group, order, views, stage.targets, mirrored, gain))
        rgb, pose, target, alpha, target_pose = zip(*parts, strict=True)
        return HeadBatch(
            torch.stack(rgb),
            Cameras.from_label(torch.stack(pose)),
            torch.stack(target),
            torch.stack(alpha),
            Cameras.from_label(torch.stack(target_pose)),
        )

    def _head(
        self,
        group: np.ndarray,
        order: np.ndarray,
        views: int,
        targets: int,
        mirrored: bool,
        gain: np.ndarray,
    ) -> tuple[Tensor, ...]:
        inputs = group[order[np.arange(views) % len(group)]]
        # One target is an input, the others are not, as far as there are enough views.
        later = order[min(views, len(group) - 1) :]
        others = group[later[np.arange(targets - 1) % len(later)]]
        shown = np.concatenate([inputs[:1], others])
        rgb, _, pose = self._read(inputs, mirrored, gain)
        target, alpha, target_pose = self._read(shown, mirrored, gain)
        return rgb, pose, target, alpha, target_pose

    def _read(
        self, indices: np.ndarray, mirrored: bool, gain: np.ndarray
    ) -> tuple[Tensor, Tensor, Tensor]:
        rgba = torch.stack([self._frames.rgba(int(index)) for index in indices]).float() / 255
        cameras = self._cameras[torch.from_numpy(np.asarray(indices))]
        if mirrored:
            rgba, cameras = rgba.flip(-1), cameras.mirror()
        rgb, alpha = rgba[:, :3], rgba[:, 3:]
        factor = torch.tensor(gain, dtype=torch.float32)[:, None, None]
        if self.config.background == "white":
            rgb = foreground(rgb, alpha, self.backdrop) * factor + 1 - alpha
        else:
            rgb = rgb * factor
        return rgb.clamp(0, 1), alpha, cameras.label()


class SampledHeads:
    """Samples of a generator rendered over white: exact views, masks and latents without end."""

    def __init__(self, model: Generator, size: int) -> None:
        self.model, self.size = model, size

    @torch.no_grad()
    def batch(self, stage: EncoderStage, seed: int, step: int, rows: slice) -> HeadBatch:
        """The rows of this step's batch that belong to this process."""
        draw = np.random.RandomState(derive_seed(seed, "samples", step) % 2**32)
        views, count = int(draw.choice(stage.views)), stage.batch
        z = torch.from_numpy(draw.randn(count, self.model.z_dim).astype(np.float32))
        total = views + stage.targets - 1
        yaw = torch.from_numpy(draw.uniform(-_GAN_YAW, _GAN_YAW, (count, total)).astype(np.float32))
        pitch = torch.from_numpy(
            draw.uniform(-_GAN_PITCH, _GAN_PITCH, (count, total)).astype(np.float32)
        )
        focal = float(draw.choice(_FOCALS))
        model, device = self.model, self.model.device
        z, yaw, pitch = (value[rows].to(device) for value in (z, yaw, pitch))
        label = model.neutral_label()
        ws = model.mapping(z, None if label is None else label.expand(len(z), -1))
        latent = model.latent(ws)
        cameras = Cameras.orbit(yaw, pitch, focal=focal, device=device)
        out = model.render(
            model.assemble(model.decode(latent, ws), ws), cameras, self.size, depth=False
        )
        chosen = torch.cat([torch.zeros(1, dtype=torch.long), torch.arange(views, total)])
        pick = Cameras(cameras.cam2world[:, chosen], cameras.intrinsics[:, chosen])
        first = Cameras(cameras.cam2world[:, :views], cameras.intrinsics[:, :views])
        rgb = out.color.clamp(0, 1)
        return HeadBatch(
            rgb[:, :views], first, rgb[:, chosen], out.alpha[:, chosen], pick, ws, latent.float()
        )


def read_captures(path: str) -> Captures:
    """Read multi-view captures. Raises ``UserError`` for data that are none."""
    data = formats.read(path)
    captures = data if isinstance(data, Captures) else data.as_captures()
    if not captures.has_masks:
        raise UserError(
            f"{path} has no masks, which the encoder learns silhouettes from; convert it with"
            " masks."
        )
    return captures


def draws_from_gan(share: float, seed: int, step: int) -> bool:
    """Whether this step sees the GAN's samples."""
    return bool(torch.rand((), generator=generator(seed, "source", step)) < share)
