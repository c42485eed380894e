"""Random Gaussians, projected: what a rasterizer composites."""

import torch
from torch import Tensor


def scene(
    images: int,
    count: int,
    channels: int,
    width: int,
    height: int,
    seed: int = 0,
    spread: float = 2.0,
) -> list[Tensor]:
    """Random float32 inputs of ``composite`` up to the radii: some opaque, some tied in depth, some
    culled."""
    g = torch.Generator().manual_seed(seed)
    size = torch.tensor([width, height], dtype=torch.float32)
    means = (torch.rand(images, count, 2, generator=g) * 1.4 - 0.2) * size
    sigma = torch.exp(torch.rand(images, count, 2, generator=g) * spread - 0.7)
    angle = torch.rand(images, count, generator=g) * torch.pi
    rotation = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], -1).reshape(
        images, count, 2, 2
    )
    conic = rotation @ torch.diag_embed(sigma**-2) @ rotation.mT
    conics = torch.stack([conic[..., 0, 0], conic[..., 0, 1], conic[..., 1, 1]], -1)
    opacities = torch.rand(images, count, generator=g)
    opacities = torch.where(torch.rand(images, count, generator=g) < 0.1, torch.ones(()), opacities)
    colors = torch.rand(images, count, channels, generator=g)
    depths = (torch.rand(images, count, generator=g) * 40).floor() / 16 + 0.5
    radii = torch.where(torch.rand(images, count, 1, generator=g) < 0.05, 0, 300).expand(-1, -1, 2)
    return [means, conics, opacities, colors, depths, radii.to(torch.int32).contiguous()]
