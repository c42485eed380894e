"""Perceptual distances between images.

LPIPS, VGG16 features, a discriminator's, and one that needs no download.

>>> distance = gghead.perceptual.load_distance("lpips-vgg", device=device)
>>> distance(image, truth)  # [B, 3, H, W] in [-1, 1] twice -> [B]
"""

from gghead.perceptual.distances import (
    LPIPS,
    DiscriminatorDistance,
    Distance,
    FeatureDistance,
    GradientDistance,
)
from gghead.perceptual.load import (
    choose_distance,
    load_discriminator,
    load_distance,
    load_metric,
    save_lpips,
)
from gghead.perceptual.torchscript import IdentitySimilarity, load_identity

__all__ = [
    "LPIPS",
    "DiscriminatorDistance",
    "Distance",
    "FeatureDistance",
    "GradientDistance",
    "IdentitySimilarity",
    "choose_distance",
    "load_discriminator",
    "load_distance",
    "load_identity",
    "load_metric",
    "save_lpips",
]
