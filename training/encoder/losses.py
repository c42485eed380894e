"""What a reconstruction is judged by in training; every part is a mean, so weights do not depend on sizes."""

import torch
from torch import Tensor

from gghead.gaussians import Gaussians
from gghead.image_loss import ImageLossConfig, image_loss
from gghead.image_metrics import ssim
from gghead.models.attributes import GaussianAttributes
from gghead.training.encoder.config import EncoderLossConfig


def picture_terms(shown: Tensor, wanted: Tensor, alpha: Tensor, mask: Tensor, weight: Tensor | None,
                  config: EncoderLossConfig) -> dict[str, Tensor]:
    """Pixels, structure and silhouette of pictures [M, 3, H, W] in [0, 1], alpha and mask [M, 1, H, W].

    ``weight`` [M, 1, H, W] adds weight to regions: differences there are multiplied by 1 + weight.
    """
    if weight is not None:
        shown = wanted + (shown - wanted) * (1 + weight)
    parts = {"pixels": image_loss(shown, wanted, ImageLossConfig(config.l1, config.l2, config.gradient)).mean()}
    if config.ssim > 0:
        parts["ssim"] = (1 - ssim(shown, wanted)).mean()
    if config.silhouette > 0:
        parts["silhouette"] = (alpha - mask).abs().mean()
    return parts


def surface_terms(attributes: GaussianAttributes, raw: dict[str, Tensor], heads: Gaussians, offset: Tensor | None,
                  config: EncoderLossConfig) -> dict[str, Tensor]:
    """Distance from the template, total variation over the UV map, and the encoder's own idea of the surface.

    ``offset`` [B, T, 3] is compared with the mean offset of the Gaussians in each token's cell, held fixed.
    """
    parts, moved = {}, heads.means - attributes.position
    if config.position > 0:
        parts["position"] = (moved.square().sum(-1) + 1e-8).sqrt().mean()
    if config.tv > 0:
        maps = attributes.on_grid(torch.cat([raw["position"], raw["scale"]], -1))
        valid = attributes.valid.reshape(attributes.grid, attributes.grid).float()
        right, down = valid[:, 1:] * valid[:, :-1], valid[1:] * valid[:-1]
        parts["tv"] = (((maps[..., 1:] - maps[..., :-1]).abs() * right).mean()
                       + ((maps[..., 1:, :] - maps[..., :-1, :]).abs() * down).mean())
    if config.place > 0 and offset is not None:
        side = int(offset.shape[1] ** 0.5)
        mean, share = attributes.offset_of_cells(heads, side)
        off = (offset.transpose(1, 2).unflatten(2, (side, side)) - mean.detach()).abs()
        parts["place"] = (off * (share > 0)).mean()
    return parts


def total(parts: dict[str, Tensor], config: EncoderLossConfig) -> Tensor:
    """The weighted sum; ``pixels`` carries its weights already."""
    return sum(value * getattr(config, name, 1.0) for name, value in parts.items())
