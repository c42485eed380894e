"""StyleGAN2 skip generator, cut in two at the latent resolution.

Below the cut ``Synthesis`` turns styles into the latent ``Z`` (a UV feature map); above it
``Decoder`` turns (Z, w) into the raw attribute planes. Everything the decoder needs is in (Z, w):
plane outputs start at the cut, so an encoder that predicts Z can use the same decoder.
"""

import torch
from torch import Tensor, nn

from gghead.networks.layers import SynthesisLayer, ToPlanes
from gghead.torch_utils.ops.resample import upsample2x


def channels_at(resolution: int, cbase: int, cmax: int) -> int:
    """StyleGAN2's rule for the number of channels."""
    return min(cbase // resolution, cmax)


def resolutions(first: int, last: int) -> list[int]:
    """Powers of two from ``first`` to ``last`` inclusive."""
    return [first << i for i in range((last // first).bit_length())]


class SynthesisBlock(nn.Module):
    """Two modulated convolutions, the first of which doubles the resolution.

    With ``uv_map`` a learned map is added between them. Convolutions look the same everywhere, but
    an eye is always in the same place of the UV square: the second one mixes maps of that place by
    the style.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        uv_map: bool = False,
    ) -> None:
        super().__init__()
        self.conv0 = SynthesisLayer(in_channels, out_channels, w_dim, resolution, up=True)
        self.conv1 = SynthesisLayer(out_channels, out_channels, w_dim, resolution)
        self.uv_map = (
            nn.Parameter(torch.zeros(out_channels, resolution, resolution)) if uv_map else None
        )

    def forward(
        self, x: Tensor, ws: Tensor, noise_mode: str, generator: torch.Generator | None
    ) -> Tensor:
        x = self.conv0(x, ws[:, 0], noise_mode, generator)
        if self.uv_map is not None:
            x = x + self.uv_map.to(x.dtype)
        return self.conv1(x, ws[:, 1], noise_mode, generator)


class Synthesis(nn.Module):
    """Styles -> Z: blocks from 4x4 up to the latent resolution."""

    def __init__(
        self, w_dim: int, resolution: int, cbase: int, cmax: int, uv_maps: bool = False
    ) -> None:
        super().__init__()
        sizes = resolutions(4, resolution)
        self.out_channels = channels_at(resolution, cbase, cmax)
        self.num_ws = 2 * len(sizes) - 1
        first = channels_at(4, cbase, cmax)
        self.const = nn.Parameter(torch.randn(first, 4, 4))
        self.conv = SynthesisLayer(first, first, w_dim, 4)
        self.blocks = nn.ModuleList(
            SynthesisBlock(
                channels_at(r // 2, cbase, cmax), channels_at(r, cbase, cmax), w_dim, r, uv_maps
            )
            for r in sizes[1:]
        )

    def forward(
        self,
        ws: Tensor,  # [B, num_ws, w_dim]
        noise_mode: str = "const",
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:  # Z [B, C, R, R] in dtype
        x = (
            self.const.to(dtype)[None]
            .expand(len(ws), -1, -1, -1)
            .contiguous(memory_format=torch.channels_last)
        )
        x = self.conv(x, ws[:, 0], noise_mode, generator)
        for i, block in enumerate(self.blocks):
            x = block(x, ws[:, 1 + 2 * i : 3 + 2 * i], noise_mode, generator)
        return x


class Decoder(nn.Module):
    """(Z, styles) -> raw attribute planes: blocks whose plane outputs are summed.

    They begin above the latent resolution.
    """

    def __init__(
        self,
        w_dim: int,
        latent_resolution: int,
        plane_resolution: int,
        out_channels: int,
        cbase: int,
        cmax: int,
        uv_maps: bool = False,
    ) -> None:
        super().__init__()
        sizes = resolutions(latent_resolution, plane_resolution)
        self.num_ws = 2 * (len(sizes) - 1) + 1
        widths = [channels_at(r, cbase, cmax) for r in sizes]
        self.blocks = nn.ModuleList(
            SynthesisBlock(widths[i], widths[i + 1], w_dim, r, uv_maps)
            for i, r in enumerate(sizes[1:])
        )
        self.to_planes = nn.ModuleList(ToPlanes(width, out_channels, w_dim) for width in widths)

    def forward(
        self,
        z: Tensor,  # Z [B, C, R, R]
        ws: Tensor,  # [B, num_ws, w_dim]
        noise_mode: str = "const",
        generator: torch.Generator | None = None,
    ) -> Tensor:  # float32 [B, out_channels, P, P]
        planes = self.to_planes[0](z, ws[:, 0])
        for i, block in enumerate(self.blocks):
            z = block(z, ws[:, 2 * i : 2 * i + 2], noise_mode, generator)
            planes = upsample2x(planes) + self.to_planes[i + 1](z, ws[:, 2 * i + 2])
        return planes
