"""Drawing one avatar frame after frame as fast as a CPU can.

What no expression changes is computed once.

The rest goes through the network in blocks of Gaussians that stay in the processor's cache,
straight to one color and one opacity per Gaussian: the harmonics of a frame are never written out.
"""

import torch
from torch import Tensor

from gghead import sh
from gghead.cameras import Cameras
from gghead.models.avatar import REST_GAIN, AvatarModel
from gghead.rendering import rasterization, render

_BLOCK = 2048  # Gaussians: hidden layer and outputs of a block take about a megabyte
_TINY = 1e-24  # squared length of a direction that counts as none


class Player:
    """``draw(expression, camera, size)`` for one avatar whose parameters stay as they are."""

    def __init__(self, avatar: AvatarModel) -> None:
        self.avatar = avatar
        # there the network moves the Gaussians, too
        self._plain = avatar.config.changes != "appearance"
        if self._plain:
            return
        with torch.no_grad():
            self._moves = avatar.config.motion != "features"
            self._motion_basis = avatar.motion_basis() if self._moves else None
            self._prepared = avatar.prepare()
            self._means, self._quats = avatar.means.detach(), avatar.quats.detach()
            self._scales = avatar.log_scales.detach().exp()
            self._blocks = avatar.blocks(_BLOCK if avatar.device.type == "cpu" else avatar.num)
        count, device = avatar.num, avatar.device
        self._colors, self._opacities = (
            torch.zeros(3, count, device=device),
            torch.zeros(count, device=device),
        )
        self._seen: tuple[Tensor, Tensor] | None = None  # pose and harmonics' values from there

    @torch.no_grad()
    def draw(
        self,
        expression: Tensor,
        camera: Cameras,
        size: tuple[int, int],
        *,
        background: float = 1.0,
        clamp: bool = True,
    ) -> Tensor:  # [3, H, W] in [0, 1]
        """One image of ``expression`` [B] from ``camera`` (batch shape (1,)).

        Raises ``UserError`` as the avatar.
        """
        avatar = self.avatar
        expression, camera = (
            expression[None].to(avatar.device),
            camera.to(avatar.device, torch.float32),
        )
        if self._plain:
            gaussians = avatar(expression, clamp=clamp)
            return (
                render(gaussians, camera, size, background=background, depth=False)
                .color[0, 0]
                .clamp(0, 1)
            )
        self.shade(self.blend(expression, clamp), camera)
        return self.raster(camera, size, background)

    @torch.no_grad()
    def blend(self, expression: Tensor, clamp: bool = True) -> Tensor:
        """Mix bases or movements by ``expression`` [1, B], and move the Gaussians."""
        seen = self.avatar.check(expression, clamp)
        if self._moves:
            moving = self.avatar.clamp_motion(expression, clamp)
            self._means, self._quats = (
                part[0] for part in self.avatar.place(moving, self._motion_basis)
            )
            self._seen = None
        return self.avatar.mixture(seen)

    @torch.no_grad()
    def shade(self, mixture: Tensor, camera: Cameras) -> None:
        """The network's part: colors towards the camera, opacities."""
        values = self._harmonics(camera)
        for first, last in self._blocks:
            hidden = self.avatar.rows(first, last, mixture, self._prepared)
            hidden = hidden.relu_() if self.avatar.config.mlp else hidden
            raw = self._network(hidden)  # [O, n]
            torch.sigmoid(raw[len(values) * 3], out=self._opacities[first:last])
            looks = (
                raw[: len(values) * 3].unflatten(0, (len(values), 3)) * values[:, None, first:last]
            )
            torch.sum(looks, 0, out=self._colors[:, first:last])
        self._colors.add_(0.5).clamp_min_(0.0)

    @torch.no_grad()
    def raster(self, camera: Cameras, size: tuple[int, int], background: float = 1.0) -> Tensor:
        """The image of what was shaded last."""
        backgrounds = self._colors.new_full((1, 1, 3), background)
        image, _, _ = rasterization(
            self._means[None],
            self._quats[None],
            self._scales[None],
            self._opacities[None],
            self._colors.T.contiguous()[None],
            camera.viewmats[None],
            camera.Ks(*size)[None],
            *size,
            backgrounds=backgrounds,
        )
        return image[0, 0].movedim(-1, 0).clamp(0, 1)

    def _harmonics(self, camera: Cameras) -> Tensor:  # [K, N]
        """The harmonics towards every Gaussian, which follow the camera only."""
        pose = camera.cam2world
        if self._seen is None or not torch.equal(self._seen[0], pose):
            directions = sh.directions(self._means, camera.viewmats)[0].T.contiguous()  # [3, N]
            # Not by F.normalize, whose norm along the first dimension takes longer than all
            # harmonics.
            directions *= directions.square().sum(0).clamp_min_(_TINY).rsqrt_()
            values = sh.basis(self.avatar.config.sh_degree, directions, 0)
            values[1:] *= REST_GAIN
            self._seen = pose.clone(), values
        return self._seen[1]

    def _network(self, hidden: Tensor) -> Tensor:  # [n, I] -> [O, n]
        if not self.avatar.config.mlp:
            return hidden.T
        output = self.avatar.output
        return torch.addmm(output.bias[:, None], output.weight, hidden.T)
