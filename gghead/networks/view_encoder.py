"""Pictures with cameras -> features: a residual network over colours and the pixels' rays, shared by all views."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gghead.cameras import Cameras
from gghead.networks.layers import LRELU_SLOPE

RAY_CHANNELS = 6


def plucker_rays(cameras: Cameras, height: int, width: int) -> Tensor:  # cameras [M] -> [M, 6, H, W]
    """Pluecker coordinates of the rays through the pixels' centres: unit direction d, moment o x d (world units).

    They do not change when a ray's origin moves along it, so they say which line a pixel sees, not how a camera is
    called (Sitzmann et al. 2021, "Light field networks", section 3.1).
    """
    like = cameras.cam2world
    x = (torch.arange(width, device=like.device, dtype=like.dtype) + 0.5) / width
    y = (torch.arange(height, device=like.device, dtype=like.dtype) + 0.5) / height
    k = cameras.intrinsics[:, :, :, None, None]
    v = ((y[:, None] - k[:, 1, 2]) / k[:, 1, 1]).expand(-1, -1, width)
    u = (x - k[:, 0, 2] - k[:, 0, 1] * v) / k[:, 0, 0]
    local = torch.stack([u, v, torch.ones_like(u)], 1)
    world = torch.einsum("mij,mjhw->mihw", like[:, :3, :3], F.normalize(local, dim=1))
    origin = like[:, :3, 3, None, None].expand_as(world)
    return torch.cat([world, torch.cross(origin, world, dim=1)], 1)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut; starts as the identity, so that depth does not hurt the first steps."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(F.leaky_relu(x, LRELU_SLOPE))
        return x + self.second(F.leaky_relu(y, LRELU_SLOPE))


class ViewEncoder(nn.Module):
    """[M, 3, H, W] pictures and [M] cameras -> features of every level; level i has 1 / 2^(i + 1) of the pixels a side.

    Any size: pictures are padded at the right and bottom by repetition to a multiple of the coarsest cell, and
    ``extent`` says which part of the features is picture.
    """

    def __init__(self, channels: tuple[int, ...], blocks: int) -> None:
        super().__init__()
        widths = (3 + RAY_CHANNELS, *channels)
        self.stride = 2 ** len(channels)
        self.down = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in zip(widths[:-1], widths[1:], strict=True))
        self.levels = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width) for _ in range(blocks))) for width in channels)
        for convolution in self.down:
            nn.init.kaiming_normal_(convolution.weight, a=LRELU_SLOPE)
            nn.init.zeros_(convolution.bias)

    def extent(self, height: int, width: int) -> tuple[float, float]:
        """Shares (x, y) of the padded picture that the picture takes."""
        return width / _multiple(width, self.stride), height / _multiple(height, self.stride)

    def forward(self, rgb: Tensor, cameras: Cameras) -> list[Tensor]:
        height, width = rgb.shape[-2:]
        with torch.autocast(rgb.device.type, enabled=False):  # geometry in full precision
            x = torch.cat([rgb * 2 - 1, plucker_rays(cameras, height, width)], 1)
        more = (_multiple(width, self.stride) - width, _multiple(height, self.stride) - height)
        x = F.pad(x, (0, more[0], 0, more[1]), mode="replicate") if any(more) else x
        x = x.contiguous(memory_format=torch.channels_last)
        features = []
        for index, (down, level) in enumerate(zip(self.down, self.levels, strict=True)):
            x = level(down(F.leaky_relu(x, LRELU_SLOPE) if index else x))
            features.append(x)
        return features


def _multiple(value: int, step: int) -> int:
    return -(-value // step) * step
