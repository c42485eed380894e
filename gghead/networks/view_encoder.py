"""Views to tokens, and texels to what the views show where they project to."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gghead.cameras import Cameras
from gghead.networks.layers import LRELU_SLOPE
from gghead.template import Template
from gghead.template.texels import texel_maps

RAY_CHANNELS = 6


# cameras [M] -> [M, 6, H, W]
def plucker_rays(cameras: Cameras, height: int, width: int) -> Tensor:
    """Pluecker coordinates of the rays through the pixels' centers.

    Unit direction d, and moment o x d in world units.

    They do not change when a ray's origin moves along it, so they say which line a pixel sees, not
    how a camera is called (Sitzmann et al. 2021, "Light field networks", section 3.1).
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
    """Two 3x3 convolutions around a shortcut.

    Starts as the identity, so that depth does not hurt the first steps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(F.leaky_relu(x, LRELU_SLOPE))
        return x + self.second(F.leaky_relu(y, LRELU_SLOPE))


class ViewEncoder(nn.Module):
    """[M, 3, H, W] images and [M] cameras -> features of every level.

    Level i has 1 / 2^(i + 1) of the pixels a side.

    Any size: images are padded at the right and bottom by repetition to a multiple of the
    coarsest cell, and ``extent`` says which part of the features is image.
    """

    def __init__(self, channels: tuple[int, ...], blocks: int) -> None:
        super().__init__()
        widths = (3 + RAY_CHANNELS, *channels)
        self.stride = 2 ** len(channels)
        convolutions = [
            nn.Conv2d(a, b, 3, stride=2, padding=1)
            for a, b in zip(widths[:-1], widths[1:], strict=True)
        ]
        self.down = nn.ModuleList(convolutions)
        self.levels = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width) for _ in range(blocks))) for width in channels
        )
        for convolution in convolutions:
            nn.init.kaiming_normal_(convolution.weight, a=LRELU_SLOPE)
            assert convolution.bias is not None
            nn.init.zeros_(convolution.bias)

    def extent(self, height: int, width: int) -> tuple[float, float]:
        """Shares (x, y) of a padded image that are not padding."""
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


# direction to the camera in the texel's tangent frame (3), distance, behind, inside, offset's
# length
_GEOMETRY = 7
_BEHIND = 0.05  # world units behind the nearest texel of a pixel that count as one


class ViewLookup(nn.Module):
    """Samples per UV token and view; ``channels`` numbers each."""

    position: Tensor  # [3, P, P] of the texels
    frame: Tensor  # [T, 3 axes, 3] of the tokens

    def __init__(self, template: Template, tokens: int, detail: int, features: int) -> None:
        """``tokens`` per side of the UV grid.

        ``detail`` counts texels per side of a token, ``features`` numbers per image cell.
        """
        super().__init__()
        self.side, self.detail = tokens, detail
        self.channels = 3 * detail**2 + features + _GEOMETRY
        fine, coarse = texel_maps(template, tokens * detail), texel_maps(template, tokens)
        self.register_buffer("position", fine.position.clone(), persistent=False)  # [3, P, P]
        frame = coarse.frame.flatten(2).permute(2, 1, 0).contiguous()  # [T, 3 axes, 3]
        self.register_buffer("frame", frame, persistent=False)

    def forward(
        self,
        offset: Tensor,  # [B, T, 3] where the tokens' surface lies beside the template, world units
        rgb: Tensor,  # [B, V, 3, H, W] in [0, 1]
        features: Tensor,  # [B * V, C, h, w]
        extent: tuple[float, float],  # share of the features that is image, x and y
        cameras: Cameras,  # [B, V]
    ) -> tuple[Tensor, Tensor]:  # samples [B, V, T, channels], inside [B, V, T]
        batch, views = rgb.shape[:2]
        side, fine = self.side, self.side * self.detail
        shift = offset.transpose(1, 2).unflatten(2, (side, side))
        points = self.position + F.interpolate(
            shift, scale_factor=self.detail, mode="bilinear", align_corners=False
        )
        view = cameras.viewmats
        local = (
            torch.einsum("bvij,bjp->bvip", view[..., :3, :3], points.flatten(2)) + view[..., :3, 3:]
        )
        depth = local[:, :, 2].clamp_min(1e-3)  # [B, V, P * P]
        k = cameras.intrinsics[..., None]
        x = (k[:, :, 0, 0] * local[:, :, 0] + k[:, :, 0, 1] * local[:, :, 1]) / depth + k[
            :, :, 0, 2
        ]
        y = k[:, :, 1, 1] * local[:, :, 1] / depth + k[:, :, 1, 2]
        # [B * V, P, P, 2] in [0, 1]
        place = torch.stack([x, y], -1).unflatten(2, (fine, fine)).flatten(0, 1)

        colors = F.grid_sample(
            rgb.flatten(0, 1), 2 * place - 1, padding_mode="border", align_corners=False
        )
        colors = F.pixel_unshuffle(colors * 2 - 1, self.detail).flatten(2)  # [B * V, 3 d^2, T]
        pooled = F.avg_pool2d(
            torch.cat([place, depth.reshape(-1, fine, fine, 1)], -1).permute(0, 3, 1, 2),
            self.detail,
        )
        center = pooled[:, :2].permute(0, 2, 3, 1)  # [B * V, R, R, 2]
        grid = 2 * center * center.new_tensor(extent) - 1
        looked = F.grid_sample(
            features.to(grid.dtype), grid, padding_mode="border", align_corners=False
        ).flatten(2)

        inside = ((center > 0) & (center < 1)).all(-1).flatten(1).to(rgb.dtype)  # [B * V, T]
        with torch.no_grad():
            behind = (pooled[:, 2] - self._nearest(place, depth.flatten(0, 1), center)) / _BEHIND
        towards = (
            cameras.position[:, :, None]
            - F.avg_pool2d(points, self.detail).flatten(2).transpose(1, 2)[:, None]
        )
        distance = towards.norm(dim=-1, keepdim=True)
        direction = torch.einsum("tij,bvtj->bvti", self.frame, towards / distance).flatten(0, 1)
        far = offset.norm(dim=-1)[:, None].expand(-1, views, -1).flatten(0, 1)
        geometry = torch.cat(
            [
                direction,
                torch.stack(
                    [
                        distance.flatten(0, 1)[..., 0] - 2.7,
                        behind.flatten(1).clamp(0, 4),
                        inside,
                        10 * far,
                    ],
                    -1,
                ),
            ],
            -1,
        )
        # [B * V, T, S]
        samples = torch.cat([colors.transpose(1, 2), looked.transpose(1, 2), geometry], -1)
        return samples.unflatten(0, (batch, views)), inside.unflatten(0, (batch, views))

    def _nearest(self, place: Tensor, depth: Tensor, center: Tensor) -> Tensor:
        """Depth [B * V, R, R] of the nearest texel in the pixel that every token falls into.

        The pixels are those of a coarse image.

        A depth buffer of points. Its pixels are two texels of the average head wide, so that it has
        no holes.
        """
        cells = max(self.side * self.detail // 2, 8)

        def pixel(where: Tensor) -> Tensor:
            index = (where * cells).long().clamp(0, cells - 1)
            return index[..., 1] * cells + index[..., 0]

        buffer = depth.new_full((len(depth), cells * cells), 1e3)
        buffer.scatter_reduce_(1, pixel(place).flatten(1), depth, "amin")
        return buffer.gather(1, pixel(center).flatten(1)).reshape(center.shape[:3])
