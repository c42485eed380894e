"""How different two images look.

Every distance is called as ``distance(image, truth)`` and gives [B] numbers.
"""

from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor, nn

from gghead.image_metrics import ImageLossConfig, image_loss
from gghead.networks.discriminator import Discriminator
from gghead.perceptual.backbones import Backbone
from gghead.perceptual.efficientnet_lite import EfficientNetLite
from gghead.torch_utils.checks import at_least_float32
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.ops.resample import downsample2x, fir_kernel

_EPS = 1e-10  # of LPIPS


class Distance(nn.Module, ABC):
    """A fixed measure of difference: nothing of it is trained, gradients flow to the images."""

    name = "distance"
    """One line for people, with the files it was read from."""
    smallest = 1
    """Pixels a side that images must have."""
    any_size = True
    """Whether images may have any size and aspect from there on, so that crops can be
    compared."""

    def freeze(self) -> Self:
        """Switch to evaluation without gradients of the weights; returns itself."""
        for parameter in self.parameters():  # ScriptModules have no requires_grad_ of their own
            parameter.requires_grad_(False)
        return self.eval()

    # [B, 3, H, W] in [-1, 1] twice -> [B]
    def forward(self, image: Tensor, truth: Tensor) -> Tensor:
        """Raises ``ValueError`` for other shapes, ``UserError`` for images that are too small."""
        if image.shape != truth.shape or image.ndim != 4 or image.shape[1] != 3:
            raise ValueError(
                f"{self.name} compares two batches [B, 3, H, W], but these have the shapes "
                f"{list(image.shape)} and {list(truth.shape)}."
            )
        if not (image.is_floating_point() and truth.is_floating_point()):
            raise ValueError(
                f"{self.name} compares images in [-1, 1], but these are {image.dtype} and "
                f"{truth.dtype}."
            )
        self.check_size(*image.shape[:1:-1])
        return self.measure(image, truth)

    def check_size(self, width: int, height: int) -> None:
        """Raise ``UserError`` if images of this size cannot be compared."""
        if min(width, height) < self.smallest:
            raise UserError(
                f"{self.name} needs images of at least {self.smallest}x{self.smallest} pixels,"
                f" but these are {width}x{height}."
            )

    @abstractmethod
    def measure(self, image: Tensor, truth: Tensor) -> Tensor:
        """What ``forward`` returns, after its checks."""


class LPIPS(Distance):
    """LPIPS: the distance of deep features.

    Zhang et al. 2018, "The unreasonable effectiveness of deep features as a perceptual metric",
    equation 1.

    Feature vectors are scaled to length 1 at every place; squared differences are weighted by
    channel, averaged over places and summed over the five layers.
    """

    def __init__(self, backbone: Backbone, weights: list[Tensor], name: str | None = None) -> None:
        """``weights``: for every layer [C], those of the public v0.1 files."""
        super().__init__()
        self.backbone = backbone
        self.name = name or f"LPIPS {backbone.architecture.name}"
        self.smallest = backbone.architecture.smallest
        for layer, weight in enumerate(weights):
            self.register_buffer(f"weight{layer}", weight)

    def measure(self, image: Tensor, truth: Tensor) -> Tensor:
        pairs = zip(self.backbone(image), self.backbone(truth), strict=True)
        total = image.new_zeros(len(image))
        for layer, (a, b) in enumerate(pairs):
            difference = (_unit(a) - _unit(b)).square()
            # no matmul: float32 in autocast
            weighted = difference * self.get_buffer(f"weight{layer}")[:, None, None]
            total = total + weighted.sum(1).mean((1, 2))
        return total


class FeatureDistance(Distance):
    """Mean absolute difference of the features, averaged over the five layers.

    The content distance of Chen and Koltun 2017 ("Photographic image synthesis with cascaded
    refinement networks", equation 1) with every layer weighted by the inverse of its size.
    """

    def __init__(self, backbone: Backbone | EfficientNetLite, name: str | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.name = name or f"{backbone.architecture.name} features"
        self.smallest = backbone.architecture.smallest

    def measure(self, image: Tensor, truth: Tensor) -> Tensor:
        return _mean_difference(self.backbone(image), self.backbone(truth))


class GradientDistance(Distance):
    """``gghead.image_metrics``: pixels and their gradients at several scales. Needs no download."""

    name = "differences of pixels and their gradients at several scales"
    smallest = 2

    def __init__(self, config: ImageLossConfig | None = None) -> None:
        super().__init__()
        self.config = config or ImageLossConfig()

    def measure(self, image: Tensor, truth: Tensor) -> Tensor:
        # differences as those of images in [0, 1]
        return image_loss(image / 2, truth / 2, self.config)


class DiscriminatorDistance(Distance):
    """Mean absolute difference of a discriminator's activations, averaged over its blocks.

    Feature matching (Salimans et al. 2016, "Improved techniques for training GANs"), as pix2pixHD
    (Wang et al. 2018) compares an image with its truth. Images are halved until the
    discriminator takes their size.
    """

    any_size = False
    fir: Tensor

    def __init__(
        self, discriminator: Discriminator, name: str = "features of a discriminator"
    ) -> None:
        """Raises ``UserError`` for a discriminator that wants alpha besides the colors."""
        super().__init__()
        if discriminator.channels != 3:
            raise UserError(
                f"{name}: this discriminator looks at {discriminator.channels} channels (colors"
                " and alpha), but images have 3; take one that was trained without alpha."
            )
        self.discriminator, self.name = discriminator, name
        self.smallest = min(discriminator.image_sizes)
        self.register_buffer("fir", fir_kernel(), persistent=False)

    def check_size(self, width: int, height: int) -> None:
        sizes = self.discriminator.image_sizes
        halved = {
            width >> shift for shift in range(width.bit_length()) if width % (1 << shift) == 0
        }
        if width != height or not halved & set(sizes):
            raise UserError(
                f"{self.name} takes square images of {', '.join(map(str, sizes))} pixels or these"
                f" doubled any number of times, but these are {width}x{height}."
            )

    def measure(self, image: Tensor, truth: Tensor) -> Tensor:
        features = []
        for images in (image, truth):
            while images.shape[-1] not in self.discriminator.image_sizes:
                images = downsample2x(images, self.fir)
            features.append(self.discriminator.features(images))
        return _mean_difference(*features)


def _unit(features: Tensor) -> Tensor:  # [B, C, h, w]
    """Length 1 over channels.

    Where all are zero the root has no gradient; they stay zero and get none.
    """
    features = at_least_float32(features)
    return features / (features.square().sum(1, keepdim=True).clamp_min(_EPS**2).sqrt() + _EPS)


def _mean_difference(first: list[Tensor], second: list[Tensor]) -> Tensor:  # -> [B]
    pairs = zip(map(at_least_float32, first), map(at_least_float32, second), strict=True)
    return torch.stack([(a - b).abs().flatten(1).mean(1) for a, b in pairs]).mean(0)
