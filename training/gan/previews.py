"""Images that a GAN's run draws: reals once, and with every snapshot fakes of the same seeds."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gghead.cameras import Cameras
from gghead.data import ImageDataset
from gghead.models.generator import Generator
from gghead.training.gan import images

STRIP_YAWS = (-1.05, -0.7, -0.35, 0.0, 0.35, 0.7, 1.05)  # radians; ±60 degrees
_STRIP_SEEDS = 4


def save_reals(dataset: ImageDataset, seed: int, path: Path, over_white: bool) -> None:
    """Write a grid of random items of the data set, over white or as they are."""
    width, height = images.grid_size(dataset.resolution)
    reals = []
    for index in dataset.preview(width * height, seed):
        rgb, alpha, _ = dataset.get(int(index))
        image, alpha = rgb.float() / 127.5 - 1, alpha.float() / 255
        reals.append(image * alpha + 1 - alpha if over_white else image)
    images.save_image_grid(torch.stack(reals), path, (width, height))


@torch.no_grad()
def save_fakes(
    model: Generator, labels: Tensor, seed: int, path: Path
) -> tuple[np.ndarray, np.ndarray]:  # uint8 [H, W, 3] each
    """Draw the seeds 0, 1, … at cameras of ``labels`` [M, 25] into ``path``.

    ``<stem>_turn.png`` beside it shows a few of them turned by ±60°. Returns both images.
    """
    size = model.config.image_size
    width, height = images.grid_size(size)
    shown = labels[_spread(len(labels), width * height, seed)]
    fakes = []
    for number, label in enumerate(shown):
        cameras = Cameras.from_label(label[None, None])
        fakes.append(model.images(fixed_styles(model, number), cameras, size).color[:, 0].cpu())
    grid = images.save_image_grid(torch.cat(fakes) * 2 - 1, path, (width, height))
    strip = turn_strip(model, range(_STRIP_SEEDS), size)
    turn = images.save_yaw_strip(
        strip, path.with_name(f"{path.stem}_turn.png"), range(_STRIP_SEEDS), STRIP_YAWS
    )
    return grid, turn


def fixed_styles(model: Generator, seed: int) -> Tensor:  # [1, num_ws, w_dim]
    """Styles of a seed, conditioned (if at all) on the frontal camera."""
    return model.mapping(model.seed_to_z(seed), model.neutral_label())


# [seeds, yaws, 3, S, S] in [-1, 1]
def turn_strip(model: Generator, seeds: Iterable[int], size: int) -> Tensor:
    """Every seed from the yaws of the strip, over white."""
    cameras = Cameras.orbit(torch.tensor(STRIP_YAWS), device=model.device)
    return torch.stack(
        [
            model.images(fixed_styles(model, seed), cameras, size).color[0].cpu() * 2 - 1
            for seed in seeds
        ]
    )


def _spread(count: int, wanted: int, seed: int) -> np.ndarray:
    """``wanted`` indices below ``count``, without repeats as long as there are enough."""
    order = np.random.RandomState(seed).permutation(count)
    return np.resize(order, wanted)
