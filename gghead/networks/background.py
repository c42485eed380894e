"""What stands behind a head: an image drawn from w, or the rig's sphere as views show it."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gghead.cameras import Cameras
from gghead.gaussians import Gaussians
from gghead.networks.layers import LRELU_SLOPE, ToPlanes
from gghead.networks.synthesis import Synthesis
from gghead.networks.uv_transformer import zero_layer
from gghead.networks.view_encoder import ViewEncoder
from gghead.torch_utils.checks import at_least_float32


class BackgroundNetwork(nn.Module):
    """The head's last style -> a map of ``out_channels`` at ``resolution``.

    Zero at initialization.
    """

    def __init__(
        self, w_dim: int, resolution: int, out_channels: int, cbase: int, cmax: int
    ) -> None:
        super().__init__()
        self.synthesis = Synthesis(w_dim, resolution, cbase, cmax)
        self.to_planes = ToPlanes(self.synthesis.out_channels, out_channels, w_dim)

    def forward(
        self,
        w: Tensor,  # [B, w_dim]
        noise_mode: str = "const",
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:  # [B, out_channels, R, R]
        ws = w[:, None].expand(-1, self.synthesis.num_ws, -1)
        return self.to_planes(self.synthesis(ws, noise_mode, generator, dtype), w)


_OUT = 5  # color (3), log-scale, radius


class RigBackground(nn.Module):
    """The code is the mean over views and pixels, so any number of views in any order gives one."""

    direction: Tensor  # [2 R^2, 3] from the middle of the rig

    def __init__(
        self, code: int, channels: tuple[int, ...], resolution: int, radius: float
    ) -> None:
        super().__init__()
        self.resolution, self.radius = resolution, radius
        self.encoder = ViewEncoder(channels, blocks=1)
        self.to_code = nn.Linear(channels[-1], code)
        self.width, ups = 64, int(math.log2(resolution // 4))
        self.start = nn.Linear(code, self.width * 4 * 8)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(self.width, self.width, 3, padding=1) for _ in range(ups)
        )
        self.out = zero_layer(nn.Conv2d(self.width, _OUT, 3, padding=1))
        latitude = (torch.arange(resolution) + 0.5) / resolution * math.pi - math.pi / 2
        longitude = (torch.arange(2 * resolution) + 0.5) / resolution * math.pi
        up, round_ = torch.meshgrid(latitude, longitude, indexing="ij")
        direction = torch.stack([up.cos() * round_.sin(), up.sin(), up.cos() * round_.cos()], -1)
        self.register_buffer("direction", direction.reshape(-1, 3), persistent=False)

    def code(self, rgb: Tensor, cameras: Cameras) -> Tensor:  # [B, V, 3, H, W], [B, V] -> [B, code]
        features = self.encoder(rgb.flatten(0, 1), cameras.reshape(-1))[-1].mean((2, 3))
        return self.to_code(features.unflatten(0, rgb.shape[:2]).mean(1))

    def forward(self, code: Tensor, cameras: Cameras) -> Gaussians:
        """The rig's Gaussians [B, 2 R^2] for a code [B, code] and cameras [B, V] that saw it."""
        x = self.start(code).unflatten(1, (self.width, 4, 8))
        for convolution in self.convolutions:
            x = convolution(
                F.leaky_relu(F.interpolate(x, scale_factor=2, mode="nearest"), LRELU_SLOPE)
            )
        # [B, 2 R^2, 5]
        raw = at_least_float32(self.out(F.leaky_relu(x, LRELU_SLOPE))).flatten(2).transpose(1, 2)
        # About the head, not about the cameras' mean, which moves with the choice of views and may
        # lie in the face.
        size = (
            self.radius
            * cameras.position.norm(dim=-1).amax(1)[:, None, None]
            * (1 + 0.3 * raw[..., 4:].sigmoid())
        )
        spacing = math.pi / self.resolution
        scales = (size * spacing * (0.5 * raw[..., 3:4].tanh()).exp()).expand(-1, -1, 3)
        quats = raw.new_tensor([1.0, 0.0, 0.0, 0.0]).expand(*raw.shape[:2], 4)
        return Gaussians(
            means=size * self.direction,
            quats=quats,
            scales=scales,
            opacities=raw.new_full(raw.shape[:2], 0.99),
            colors=raw[..., :3].sigmoid(),
            uv=raw.new_zeros(*raw.shape[:2], 2),
        )
