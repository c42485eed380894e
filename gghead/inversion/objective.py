"""What a reconstruction is judged by while it is optimised: pixels and their gradients at several scales, and alpha.

Needs no download. Every loss is one number per picture, so that pictures in one batch do not influence each other.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gghead.models.generator import Generator
from gghead.rendering import RenderOutput

_SMALLEST = 8  # pixels a side of the coarsest level


@dataclass(frozen=True)
class ObjectiveConfig:
    """Weights of the parts."""

    l1: float = 1.0
    """Mean absolute difference, averaged over the levels of the pyramid."""
    l2: float = 2.0
    """Mean squared difference, likewise: large errors weigh more, which helps at the start."""
    gradient: float = 2.0
    """Mean absolute difference of the horizontal and vertical differences of neighbours, likewise."""
    alpha: float = 1.0
    """Mean absolute difference of alpha and mask, where there is a mask."""


def image_loss(shown: Tensor, wanted: Tensor, config: ObjectiveConfig) -> Tensor:  # [B, 3, H, W] twice -> [B]
    """Pixel and gradient differences over a pyramid of halved pictures."""
    difference, total, levels = shown - wanted, 0.0, 0
    while True:
        total = total + config.l1 * _mean(difference.abs()) + config.l2 * _mean(difference.square())
        total = total + config.gradient * (_mean((difference[..., 1:] - difference[..., :-1]).abs())
                                           + _mean((difference[..., 1:, :] - difference[..., :-1, :]).abs()))
        levels += 1
        if min(difference.shape[-2:]) < 2 * _SMALLEST:
            return total / levels
        difference = F.avg_pool2d(difference, 2)  # linear, so pooling the difference is pooling both


class Objective:
    """The loss of a batch of pictures.

    With a mask the picture is put over white by it, as the networks without a background of their own were trained,
    and the rendered alpha shall equal the mask. Without one, or where the network draws its own background, the whole
    picture is matched.
    """

    def __init__(self, model: Generator, rgb: Tensor, mask: Tensor | None, config: ObjectiveConfig) -> None:
        """``rgb`` [B, 3, S, S] in [0, 1], ``mask`` [B, 1, S, S] in [0, 1]."""
        self.config = config
        self.over_white = mask is not None and model.config.background.kind == "none"
        self.mask = mask
        self.target = rgb * mask + (1 - mask) if self.over_white else rgb

    def __call__(self, color: Tensor, alpha: Tensor) -> Tensor:  # [B, 3, S, S], [B, 1, S, S] -> [B]
        loss = image_loss(color, self.target, self.config)
        if self.over_white:
            loss = loss + self.config.alpha * _mean((alpha - self.mask).abs())
        return loss


def draw(model: Generator, gaussians, ws: Tensor, cameras, size: int | None = None) -> RenderOutput:
    """Render heads over the network's own background if it draws one, else over white; as ``model.images`` does."""
    size = size or model.config.image_size
    return model.render(gaussians, cameras, size, background=model.background_image(ws, size), depth=False)


def _mean(values: Tensor) -> Tensor:  # [B, ...] -> [B]
    return values.flatten(1).mean(1)


def nonfinite(loss: Tensor, gradients: list[Tensor]) -> Tensor:  # [B] -> bool [B]
    """Which pictures' loss or gradients are not finite."""
    bad = ~torch.isfinite(loss)
    for gradient in gradients:
        bad = bad | ~torch.isfinite(gradient).reshape(len(gradient), -1).all(1)
    return bad
