"""Sliced Wasserstein distance between small patches at every scale.

Karras et al. 2018, "Progressive Growing of GANs".

Patches of 7x7 pixels are cut from each level of a Laplacian pyramid. Two sets of patches are
compared along random directions, where the Wasserstein distance is the mean difference of the
sorted values. Fine levels see texture and sharpness, coarse ones shape and color. One change from
the paper: both sets are normalized by the real patches' mean and standard deviation, so that a loss
of contrast is seen as well.
"""

import numpy
import torch
import torch.nn.functional as F
from torch import Tensor

from gghead.torch_utils.errors import UserError
from gghead.training.metrics.features import to_uint8

PATCH = 7
SMALLEST_LEVEL = 16
PATCHES = 32768  # per level and set
DIRECTIONS = 128


# [N, 3, H, W] -> finest first, the last is the low-pass rest
def laplacian_pyramid(images: Tensor) -> list[Tensor]:
    """Split into band-pass images by repeated binomial filtering, down to 16 pixels.

    Burt and Adelson 1983.
    """
    levels = []
    while min(images.shape[2:]) >= 2 * SMALLEST_LEVEL and all(
        side % 2 == 0 for side in images.shape[2:]
    ):
        coarse = _blur(images)[:, :, ::2, ::2]
        spread = torch.zeros_like(images)
        spread[:, :, ::2, ::2] = coarse * 4
        levels.append(images - _blur(spread))
        images = coarse
    return [*levels, images]


def _blur(images: Tensor) -> Tensor:
    channels = images.shape[1]
    taps = images.new_tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    images = F.pad(images, (2, 2, 2, 2), mode="reflect")
    images = F.conv2d(images, taps.reshape(1, 1, 1, 5).expand(channels, 1, 1, 5), groups=channels)
    return F.conv2d(images, taps.reshape(1, 1, 5, 1).expand(channels, 1, 5, 1), groups=channels)


class PatchSet:
    """Patches of a set of images, as many from a small set as from a large one."""

    def __init__(self, images: int, seed: int = 0, patches: int = PATCHES) -> None:
        """``images``: how many there are in all; ``seed`` fixes where the patches are cut."""
        self.patches = patches
        self.per_image = -(-patches // images)
        self.seed = seed
        # One stream per level, and the number of the image it is at: batches may be cut in any
        # way.
        self.random: dict[int, tuple[numpy.random.RandomState, int]] = {}
        self.levels: dict[int, list[Tensor]] = {}  # level's size -> list of [n, 3, 7, 7]

    # [N, 3, H, W] uint8 or float [-1, 1]
    def add(self, images: Tensor, first: int | None = None) -> None:
        """Cut patches from a batch that begins with image number ``first`` of the set.

        By default it is the next one.
        """
        if min(images.shape[2:]) < SMALLEST_LEVEL:
            raise UserError(
                f"swd needs images of at least {SMALLEST_LEVEL} pixels, not"
                f" {min(images.shape[2:])}."
            )
        for level in laplacian_pyramid(to_uint8(images).float() / 127.5 - 1):
            count, _, height, width = level.shape
            stream, at = self.random.get(height) or (
                numpy.random.RandomState([self.seed, height]),
                0,
            )
            if first is not None and first != at:  # the places of images that others look at
                stream.random_sample((first - at) * self.per_image * 2)
                at = first
            self.random[height] = stream, at + count
            places = stream.random_sample((count, self.per_image, 2)) * (
                height - PATCH + 1,
                width - PATCH + 1,
            )
            top, left = places.astype(numpy.int64).transpose(2, 0, 1)
            image = torch.arange(count, device=level.device).repeat_interleave(self.per_image)
            # [N, 3, H-6, W-6, 7, 7], a view
            windows = level.unfold(2, PATCH, 1).unfold(3, PATCH, 1)
            top, left = (torch.from_numpy(index.ravel()).to(level.device) for index in (top, left))
            self.levels.setdefault(height, []).append(windows[image, :, top, left].cpu())

    def parts(self) -> list[Tensor]:
        """The patches as plain tensors, for ``extend``.

        First come the levels' sizes, then [n, 3, 7, 7] per level.
        """
        sizes = sorted(self.levels)
        return [
            torch.tensor(sizes, dtype=torch.int64),
            *(torch.cat(self.levels[size]) for size in sizes),
        ]

    def extend(self, parts: list[Tensor]) -> None:
        """Append patches of the images that follow."""
        for size, patches in zip(parts[0].tolist(), parts[1:], strict=True):
            self.levels.setdefault(size, []).append(patches.cpu())

    def get(self, size: int) -> Tensor:  # [patches, 3, 7, 7]
        """Return the patches of one level."""
        return torch.cat(self.levels[size])[: self.patches]


def sliced_wasserstein(
    real: Tensor,  # [P, D]
    fake: Tensor,  # [P, D]
    directions: int = DIRECTIONS,
    seed: int = 0,
) -> float:
    """Return the mean 1-D Wasserstein-1 distance of the sets over random directions."""
    if real.shape != fake.shape:
        raise ValueError(
            f"both sets must have the same shape, not {tuple(real.shape)} and {tuple(fake.shape)}"
        )
    axes = numpy.random.RandomState(seed).randn(real.shape[1], directions)
    axes = torch.from_numpy(axes / numpy.linalg.norm(axes, axis=0)).to(real)
    distances = [
        (torch.sort(real @ chunk, dim=0).values - torch.sort(fake @ chunk, dim=0).values)
        .abs()
        .mean(0)
        for chunk in axes.split(32, dim=1)  # bounds the memory
    ]
    return float(torch.cat(distances).mean())


def compare(real: PatchSet, fake: PatchSet, seed: int = 0) -> dict[int, float]:
    """Return the distance per level, times 1000 as in the paper.

    The key is the level's size in pixels.
    """
    if set(real.levels) != set(fake.levels):
        raise ValueError(
            f"the sets differ in resolution: {max(real.levels)} and {max(fake.levels)} pixels"
        )
    distances = {}
    for size in sorted(real.levels, reverse=True):
        a, b = real.get(size), fake.get(size)
        mean, std = a.mean((0, 2, 3), keepdim=True), a.std((0, 2, 3), keepdim=True).clamp_min(1e-6)
        a, b = ((patches - mean).div(std).flatten(1) for patches in (a, b))
        distances[size] = 1000 * sliced_wasserstein(a, b, seed=seed)
    return distances
