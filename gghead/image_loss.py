"""Multi-scale gradient loss: differences of pixels and of their gradients over a pyramid of halved pictures.

Needs no download, so it is what is used where nobody names a perceptual network. Every loss is one number per picture.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

_SMALLEST = 8  # pixels a side of the coarsest level


@dataclass(frozen=True)
class ImageLossConfig:
    """Weights of the parts, for pictures in [0, 1]."""

    l1: float = 1.0
    """Mean absolute difference, averaged over the levels of the pyramid."""
    l2: float = 2.0
    """Mean squared difference, likewise: large errors weigh more, which helps at the start."""
    gradient: float = 2.0
    """Mean absolute difference of the horizontal and vertical differences of neighbours, likewise."""


def image_loss(shown: Tensor, wanted: Tensor, config: ImageLossConfig) -> Tensor:  # [B, 3, H, W] twice -> [B]
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


def _mean(values: Tensor) -> Tensor:  # [B, ...] -> [B]
    return values.flatten(1).mean(1)
