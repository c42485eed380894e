"""A network's own heads as targets: what inversion can reach where a perfect answer exists."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from gghead.cameras import Cameras
from gghead.data.backdrop import own_colors
from gghead.gaussians import Gaussians
from gghead.image_metrics import psnr
from gghead.inversion.cameras import cameras_of, turn_cameras
from gghead.inversion.objective import draw
from gghead.inversion.targets import Target
from gghead.latent import Latent
from gghead.models.generator import Generator
from gghead.torch_utils import rng

_YAW, _PITCH = 0.4, 0.15  # radians; cameras are drawn within
_ASIDE = (-25.0, 25.0)  # degrees


class OwnHeads:
    """Targets drawn from seeds, each from a camera of its own that depends on the seed alone."""

    def __init__(self, model: Generator, seeds: Sequence[int], psi: float = 0.7) -> None:
        self.model, self.seeds, self.psi = model, list(seeds), psi

    def __len__(self) -> int:
        return len(self.seeds)

    def __iter__(self) -> Iterator[Target]:
        return (self.read(index) for index in range(len(self)))

    def name(self, index: int) -> str:
        """As ``TargetReader.name``."""
        return f"seed{self.seeds[index]:04d}"

    def identity(self, index: int) -> str:
        """As ``TargetReader.identity``; the network stands in the key anyway."""
        return f"{self.seeds[index]} {self.psi}"

    def camera(self, index: int) -> Cameras:
        """The camera that the target is drawn from, batch shape (1,)."""
        yaw, pitch = (
            torch.rand(2, generator=rng.generator(self.seeds[index], "own-head")) * 2 - 1
        ).unbind()
        return Cameras.orbit(yaw[None] * _YAW, pitch * _PITCH).to(self.model.device)

    @torch.no_grad()
    def head(self, index: int) -> tuple[Gaussians, Tensor]:
        """The true head, batch shape (1,), and its styles."""
        model = self.model
        ws = model.mapping(model.seed_to_z(self.seeds[index]), model.neutral_label(), self.psi)
        return model.gaussians(ws), ws

    @torch.no_grad()
    def read(self, index: int) -> Target:
        """Draw one target in 8 bits, as a file would hold it.

        Where the network draws backgrounds there is no mask.
        """
        heads, ws = self.head(index)
        out = draw(self.model, heads, ws, self.camera(index))
        rgb, mask = (
            (plane[0, 0].clamp(0, 1) * 255).round().byte().cpu() for plane in (out.color, out.alpha)
        )
        colors = (
            own_colors(rgb, mask, torch.ones(3))
            if self.model.config.background.kind == "none"
            else rgb
        )
        return Target(
            self.name(index),
            colors,
            mask if colors is not rgb else None,
            self.camera(index).label()[0].cpu(),
        )

    @torch.no_grad()
    def judge(self, target: Target, latent: Latent) -> dict[str, float]:
        """How well a head looks like the true one of ``target`` from 25 degrees aside, in dB.

        The image said nothing about that view. Each head is seen from its own camera, turned.
        """
        index = [self.name(index) for index in range(len(self))].index(target.name)
        (heads, ws), model = self.head(index), self.model
        truth = draw(model, heads, ws, turn_cameras(self.camera(index), list(_ASIDE))).color
        found = turn_cameras(cameras_of(latent), list(_ASIDE))
        shown = draw(model, latent.gaussians(model), latent.ws, found).color
        return {"psnr_aside": round(float(psnr(shown, truth).mean()), 5)}
