"""A small synthesis network for what stands behind the head."""

import torch
from torch import Tensor, nn

from gghead.networks.layers import ToPlanes
from gghead.networks.synthesis import Synthesis


class BackgroundNetwork(nn.Module):
    """The head's last style -> a map of ``out_channels`` at ``resolution``; zero at initialisation."""

    def __init__(self, w_dim: int, resolution: int, out_channels: int, cbase: int, cmax: int) -> None:
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
