"""Images of a training run: grids of samples, strips of one head turning, labeled rows."""

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy
import torch
from PIL import Image
from torch import Tensor

from gghead.figures import with_labels
from gghead.torch_utils.files import write_atomically

LARGE_CANVAS = (7680, 4320)  # what StyleGAN fills, from 256 pixels on
SMALL_CANVAS = (768, 512)  # below: a CPU has to draw every image of it


def grid_size(resolution: int, available: int | None = None) -> tuple[int, int]:
    """Return (columns, rows) of a sample grid for square images of ``resolution`` pixels.

    ``available`` limits the number of images; the grid then keeps its proportions as well as it
    can.
    """
    if resolution < 256:
        columns = min(max(SMALL_CANVAS[0] // resolution, 4), 16)
        rows = min(max(SMALL_CANVAS[1] // resolution, 3), 10)
    else:
        columns = min(max(LARGE_CANVAS[0] // resolution, 7), 32)
        rows = min(max(LARGE_CANVAS[1] // resolution, 4), 32)
    if available is None or available >= columns * rows:
        return columns, rows
    available, shape = max(available, 1), columns / rows

    def merit(count: int) -> float:  # many images shown, but no single long row
        below = min(available // count, rows)
        return count * below / available - 0.15 * abs(math.log(count / below / shape))

    columns = max(range(1, min(columns, available) + 1), key=merit)
    return columns, min(available // columns, rows)


# [..., C, H, W] float in [-1, 1] or uint8 -> uint8 [..., H, W, C]
def to_bytes(images: Tensor) -> numpy.ndarray:
    """Return images as files hold them."""
    images = images.detach()
    if images.dtype != torch.uint8:
        images = (
            (images.float() * 127.5 + 127.5).nan_to_num(0).round().clamp(0, 255).to(torch.uint8)
        )
    return images.movedim(-3, -1).cpu().numpy()


def make_grid(
    images: Tensor,  # [N, 1 or 3, H, W] float in [-1, 1] or uint8
    grid: tuple[int, int] | None = None,  # columns, rows; None: chosen from resolution and N
) -> numpy.ndarray:  # uint8 [rows·H, columns·W, 3]
    """Lay images out row by row; surplus images are left out, missing ones are white."""
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(
            f"images must be [N, 1 or 3, H, W], but their shape is {tuple(images.shape)}"
        )
    columns, rows = grid or grid_size(max(images.shape[2:]), len(images))
    tiles = to_bytes(images[: columns * rows])
    count, height, width, _ = tiles.shape
    sheet = numpy.full((rows * columns, height, width, 3), 255, dtype=numpy.uint8)
    sheet[:count] = tiles
    sheet = sheet.reshape(rows, columns, height, width, 3).transpose(0, 2, 1, 3, 4)
    return sheet.reshape(rows * height, columns * width, 3)


def save_image(image: numpy.ndarray, path: str | Path) -> None:  # uint8 [H, W, 3]
    """Write a PNG, whole or not at all. Raises ``UserError`` when the disk is full."""
    encoded = io.BytesIO()
    Image.fromarray(image).save(encoded, format="PNG")
    write_atomically(path, lambda file: file.write(encoded.getvalue()))


def save_image_grid(
    images: Tensor, path: str | Path, grid: tuple[int, int] | None = None
) -> numpy.ndarray:
    """Write ``make_grid(images, grid)`` as PNG and return it."""
    image = make_grid(images, grid)
    save_image(image, path)
    return image


def make_yaw_strip(
    images: Tensor,  # [seeds, yaws, 3, H, W] float in [-1, 1] or uint8
    seeds: Sequence[int] | None = None,
    yaws: Sequence[float] | None = None,  # radians
) -> numpy.ndarray:  # uint8 [h, w, 3]
    """Lay heads out as rows and cameras as columns.

    Seeds and yaws are written at the border where given.
    """
    rows, columns = images.shape[:2]
    if (seeds is not None and len(seeds) != rows) or (yaws is not None and len(yaws) != columns):
        raise ValueError(f"{rows} heads and {columns} cameras need as many seeds and yaws")
    image = make_grid(images.flatten(0, 1), (columns, rows))
    top = [f"{math.degrees(yaw):+.0f}°" for yaw in yaws] if yaws is not None else None
    left = [str(seed) for seed in seeds] if seeds is not None else None
    return with_labels(image, top, left)


def save_yaw_strip(
    images: Tensor,
    path: str | Path,
    seeds: Sequence[int] | None = None,
    yaws: Sequence[float] | None = None,
) -> numpy.ndarray:
    """Write ``make_yaw_strip(images, seeds, yaws)`` as PNG and return it."""
    image = make_yaw_strip(images, seeds, yaws)
    save_image(image, path)
    return image


def save_strip(
    images: Tensor, path: str | Path, labels: Sequence[str] | None = None
) -> numpy.ndarray:
    """Write images [N, 3, H, W] side by side, each under its label, and return the image."""
    if labels is not None and len(labels) != len(images):
        raise ValueError(f"{len(images)} images need as many labels, not {len(labels)}")
    image = with_labels(make_grid(images, (len(images), 1)), labels, None)
    save_image(image, path)
    return image
