"""The two classifiers whose features compare images.

VGG16 and AlexNet, their convolutions only.

VGG16: Simonyan and Zisserman 2015, "Very deep convolutional networks for large-scale image
recognition", table 1, column D. AlexNet: Krizhevsky 2014, "One weird trick for parallelizing
convolutional neural networks". The layers are numbered as in torchvision's public weight files
(``features.0.weight`` ...), which therefore load as they are.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

# ImageNet's mean and deviation, (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225), for images in
# [-1, 1].
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


Layer = tuple[int, int, int, int] | Literal["pool"]


@dataclass(frozen=True)
class Architecture:
    """Convolutions, each with a rectifier, and max poolings."""

    name: str
    """For people."""
    layers: tuple[Layer, ...]
    """(channels, kernel, stride, padding) of a convolution, or "pool"."""
    taps: tuple[int, ...]
    """Which of the convolutions' rectified outputs are the features, counted from 0."""
    pool: int
    """Kernel of the poolings; their stride is 2."""
    smallest: int
    """Pixels a side that an image must have, or nothing would be left of it."""


def _blocks(*blocks: tuple[int, int]) -> tuple[Layer, ...]:
    layers: list[Layer] = []
    for width, count in blocks:
        layers += [(width, 3, 1, 1)] * count
        layers.append("pool")
    return tuple(layers[:-1])


# The features are those of LPIPS (Zhang et al. 2018): relu1_2, 2_2, 3_3, 4_3, 5_3 of VGG16, relu1
# to 5 of AlexNet.
VGG16 = Architecture(
    "VGG16", _blocks((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), (1, 3, 6, 9, 12), 2, 16
)
ALEXNET = Architecture(
    "AlexNet",
    (
        (64, 11, 4, 2),
        "pool",
        (192, 5, 1, 2),
        "pool",
        (384, 3, 1, 1),
        (256, 3, 1, 1),
        (256, 3, 1, 1),
    ),
    (0, 1, 2, 3, 4),
    3,
    31,
)


class Backbone(nn.Module):
    """Images in [-1, 1] to five feature maps.

    Normalizes with ImageNet's mean and deviation itself.
    """

    shift: Tensor  # [3, 1, 1]
    scale: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        layers: list[nn.Module] = []
        outputs, before = [], 3
        for layer in architecture.layers:
            if isinstance(layer, str):
                layers.append(nn.MaxPool2d(architecture.pool, 2))
                continue
            width, kernel, stride, padding = layer
            layers += [nn.Conv2d(before, width, kernel, stride, padding), nn.ReLU(inplace=True)]
            outputs.append((len(layers) - 1, width))
            before = width
        self.features = nn.Sequential(*layers)
        self._taps = {outputs[tap][0] for tap in architecture.taps}
        self.channels = [outputs[tap][1] for tap in architecture.taps]
        self.register_buffer("shift", torch.tensor(_SHIFT)[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE)[:, None, None], persistent=False)

    # [B, 3, H, W] in [-1, 1] -> five of [B, C, h, w]
    def forward(self, images: Tensor) -> list[Tensor]:
        x = (images.to(self.shift.dtype) - self.shift) / self.scale
        found = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self._taps:
                found.append(x)
        return found
