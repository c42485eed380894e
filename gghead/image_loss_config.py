"""Weights of ``gghead.image_metrics.image_loss``.

A module without torch, for what commands declare.
"""

from dataclasses import dataclass
from typing import Annotated

from gghead.torch_utils.config import Range


@dataclass(frozen=True)
class ImageLossConfig:
    """Weights of the parts, for images in [0, 1]."""

    l1: Annotated[float, Range(0)] = 1.0
    """Mean absolute difference, averaged over the levels of the pyramid."""
    l2: Annotated[float, Range(0)] = 2.0
    """Mean squared difference, likewise: large errors weigh more, which helps at the start."""
    gradient: Annotated[float, Range(0)] = 2.0
    """Mean absolute difference of the horizontal and vertical differences of neighbors,
    likewise."""
