"""Image features for the Fréchet distance.

They come from a small network of fixed random convolutions that needs no download, from
EfficientNet-Lite, and from networks of the user's.

Random features tell sets of images apart surprisingly well and favor no class of objects (Naeem
et al. 2020, "Reliable fidelity and diversity metrics", use a randomly initialized network for
this). What they measure is not what Inception measures, so the result is called ``frd``, never FID,
and only compares with other ``frd`` of the same version, resolution and data.
"""

import math
from pathlib import Path

import numpy
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gghead.perceptual import FeatureDistance, load_distance
from gghead.perceptual.efficientnet_lite import EfficientNetLite
from gghead.torch_utils.errors import UserError

FRD_VERSION = "frd_v1"


class RandomFeatures(nn.Module):
    """Version ``frd_v1``: 264 numbers per image.

    The image is split into three bands (Laplacian pyramid) and a remainder of 8x8
    pixels. Each band passes two random convolutions with leaky ReLUs. Kept are the log variance of
    the first one's response (how much fine structure of which kind: sees blur and noise), mean and
    standard deviation of the second, and a random projection of the second pooled to 4x4 (where it
    is: sees misplaced and deformed features). The remainder is projected to 48 numbers (color and
    light). There is no normalization over the batch: an image's features depend on it alone.

    Weights come from ``numpy.random.RandomState``, whose stream numpy has frozen: they are the same
    on every machine. Changing any number here needs a new version name.
    """

    name = FRD_VERSION
    LEVELS = 3
    WIDTH = 16  # channels of both convolutions
    LAYOUT = 24  # projected layout features per band
    REMAINDER = 48
    GAINS = (8.0, 6.0, 4.0)  # finer bands of images are fainter
    LOG_FLOOR = 0.02  # keeps the log variance of an empty band finite
    MAX_SIZE = 256  # larger images are reduced to this by area averaging
    MIN_SIZE = 32
    remainder: Tensor

    def __init__(self) -> None:
        super().__init__()
        random = numpy.random.RandomState(20201)
        width = self.WIDTH
        for level in range(self.LEVELS):
            first = random.randn(width, 3, 3, 3)
            first /= numpy.sqrt((first**2).sum((1, 2, 3), keepdims=True))
            self._keep(f"first_weight{level}", first)
            self._keep(f"first_bias{level}", random.randn(width) * 0.3)
            self._keep(
                f"second_weight{level}",
                random.randn(width, width, 3, 3) * math.sqrt(2 / (width * 9)),
            )
            self._keep(f"second_bias{level}", random.randn(width) * 0.3)
            self._keep(
                f"layout{level}",
                random.randn(width * 16, self.LAYOUT) * (4 / math.sqrt(width * 16)),
            )
        self._keep("remainder", random.randn(3 * 64, self.REMAINDER) / math.sqrt(3 * 64))

    def _keep(self, name: str, values: numpy.ndarray) -> None:
        self.register_buffer(name, torch.from_numpy(values.astype(numpy.float32)), persistent=False)

    @property
    def dims(self) -> int:
        """Length of a feature vector."""
        return self.LEVELS * (3 * self.WIDTH + self.LAYOUT) + self.REMAINDER

    @torch.no_grad()
    # [N, 3, H, W] uint8 or float [-1, 1] -> [N, 264] float32
    def forward(self, images: Tensor) -> Tensor:
        """Return the features."""
        images = _check(images, self.MIN_SIZE)
        height, width = (min(side, self.MAX_SIZE) // 8 * 8 for side in images.shape[2:])
        if (height, width) != tuple(images.shape[2:]):
            images = F.adaptive_avg_pool2d(images, (height, width))
        features = []
        for level in range(self.LEVELS):
            coarse = F.avg_pool2d(images, 2)
            fine = images - F.interpolate(
                coarse, scale_factor=2, mode="bilinear", align_corners=False
            )
            features.append(self._band_features(level, fine * self.GAINS[level]))
            images = coarse
        features.append(F.adaptive_avg_pool2d(images, 8).flatten(1) @ self.remainder)
        return torch.cat(features, 1)

    def _band_features(self, level: int, band: Tensor) -> Tensor:
        def convolve(images: Tensor, name: str) -> Tensor:
            weight, bias = (self.get_buffer(f"{name}_{part}{level}") for part in ("weight", "bias"))
            return F.conv2d(_pad(images), weight, bias)

        response = convolve(band, "first")
        hidden = convolve(F.avg_pool2d(F.leaky_relu(response, 0.2), 2), "second")
        hidden = F.leaky_relu(hidden, 0.2)
        strength = torch.log(response.var((2, 3), correction=0) + self.LOG_FLOOR)
        spread = torch.sqrt(hidden.var((2, 3), correction=0) + 1e-6)
        layout = F.adaptive_avg_pool2d(hidden, 4).flatten(1) @ self.get_buffer(f"layout{level}")
        return torch.cat([strength, hidden.mean((2, 3)), spread, layout], 1)


class LiteFeatures(nn.Module):
    """The last bottleneck of EfficientNet-Lite with ImageNet weights, averaged over places.

    These are 320 or 352 numbers per image. Images are resized to the size that the network was
    trained at, as FID does with Inception's (Heusel et al. 2017): its features know objects of that
    size. A network that has learned to tell a thousand things apart sees eyes where random features
    see texture. It is not Inception, so the distance is called ``fd``, never FID, and only compares
    with ``fd`` of the same network.
    """

    VERSION = "fd_v1"  # another resizing or layer needs a new one
    MIN_SIZE = 16
    CHUNK = 16  # images that pass at once: the early layers are large

    def __init__(self, spec: str | Path) -> None:
        """``spec``: ``efficientnet-lite2[:FILE]``. Raises ``UserError`` as ``load_distance``."""
        super().__init__()
        distance = load_distance(str(spec), "`feature_net`")
        assert isinstance(distance, FeatureDistance)  # check_feature_net saw to it
        assert isinstance(distance.backbone, EfficientNetLite)
        self.backbone = distance.backbone
        self.name = f"{self.VERSION} of {distance.name}"

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:  # [N, 3, H, W] uint8 or float [-1, 1] -> [N, D]
        """Return the features."""
        images = _check(images, self.MIN_SIZE)
        side = self.backbone.architecture.trained_at
        found = []
        for chunk in images.split(self.CHUNK):
            chunk = F.interpolate(
                chunk, (side, side), mode="bilinear", align_corners=False, antialias=True
            )
            found.append(self.backbone(chunk)[-1].mean((2, 3)))
        return torch.cat(found)


class InceptionFeatures(nn.Module):
    """A network of the user's, as TorchScript.

    It takes uint8 images and returns one feature vector each.

    StyleGAN's ``inception-2015-12-05.pt`` works as it is; only with such a network do metrics carry
    the name FID.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        try:
            self.network = torch.jit.load(str(path), map_location="cpu").eval()
        except (RuntimeError, ValueError, OSError) as error:
            raise UserError(
                f"{path} is no TorchScript network; give `feature_net` a file that is."
            ) from error
        self.name = f"torchscript-{Path(path).name}-{Path(path).stat().st_size}"
        names = [argument.name for argument in self.network.forward.schema.arguments]
        self.options = {"return_features": True} if "return_features" in names else {}

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:  # [N, 3, H, W] uint8 or float [-1, 1] -> [N, D]
        """Return the features."""
        return self.network(to_uint8(images), **self.options).flatten(1)


def to_uint8(images: Tensor) -> Tensor:
    """Return images in [-1, 1] rounded to bytes; bytes pass unchanged."""
    if images.dtype == torch.uint8:
        return images
    return (images.float() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)


def _check(images: Tensor, smallest: int) -> Tensor:
    """Return float images in [-1, 1], rounded to bytes first as the real ones are."""
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images must be [N, 3, H, W], but their shape is {tuple(images.shape)}")
    if min(images.shape[2:]) < smallest:
        raise UserError(
            f"Metrics need images of at least {smallest} pixels, but these have"
            f" {min(images.shape[2:])}."
        )
    return to_uint8(images).float() / 127.5 - 1


def _pad(images: Tensor) -> Tensor:
    return F.pad(images, (1, 1, 1, 1), mode="reflect")
