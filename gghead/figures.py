"""From rendered colors to image files: side by side, with labels at the border."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from gghead.torch_utils.files import make_folder, write_atomically


def with_labels(
    image: np.ndarray,  # uint8 [H, W, 3]
    top: Sequence[str] | None,  # one per column, evenly spaced
    left: Sequence[str] | None,  # one per row
) -> np.ndarray:
    """Return the image with a white border that carries labels in Pillow's built-in font."""
    top, left = top or (), left or ()
    if not top and not left:
        return image
    height, width = image.shape[:2]
    size = min(max(width // (8 * len(top)) if top else 12, 10), 24)
    font = ImageFont.load_default(size)
    if top:  # long ones are written smaller
        room = width / len(top) / max(*(font.getlength(text) for text in top), 1)
        size = max(min(int(size * room), size), 8)
        font = ImageFont.load_default(size)
    above = size + 6 if top else 0
    beside = max(math.ceil(font.getlength(text)) for text in left) + 8 if left else 0
    sheet = Image.new("RGB", (width + beside, height + above), "white")
    sheet.paste(Image.fromarray(image), (beside, above))
    draw = ImageDraw.Draw(sheet)
    for index, text in enumerate(top):
        draw.text(
            (beside + width * (index + 0.5) / len(top), above / 2), text, "black", font, anchor="mm"
        )
    for index, text in enumerate(left):
        draw.text(
            (beside - 4, above + height * (index + 0.5) / len(left)),
            text,
            "black",
            font,
            anchor="rm",
        )
    return np.asarray(sheet)


def grid(
    images: Sequence[np.ndarray],  # uint8 [H, W, 3], of one size
    names: Sequence[str],  # one per image; written above it
) -> np.ndarray:
    """Return the images row by row in as many columns as make the sheet about as wide as high."""
    height, width = images[0].shape[:2]
    count = len(images)
    columns = min(
        range(1, count + 1),
        key=lambda n: (abs(math.log(n * width / (math.ceil(count / n) * height))), -n),
    )
    cells = [*images, *[np.full_like(images[0], 255)] * (-count % columns)]
    labels = [*names, *[""] * (-count % columns)]
    rows = [slice(first, first + columns) for first in range(0, len(cells), columns)]
    return np.concatenate([with_labels(beside(cells[row]), labels[row], None) for row in rows])


def to_uint8(color: Tensor) -> np.ndarray:
    """Turn rendered colors [..., 3, H, W] in [0, 1] into uint8 images [..., H, W, 3]."""
    return (color.detach().clamp(0, 1) * 255).round().to(torch.uint8).movedim(-3, -1).cpu().numpy()


def beside(images: Iterable[np.ndarray]) -> np.ndarray:
    """Put images [H, W, 3] of one height side by side."""
    return np.concatenate(list(images), axis=1)


def write_png(path: Path, image: np.ndarray) -> None:
    """Write uint8 [H, W, 3] as PNG, making the folder; the file appears whole or not at all.

    Raises ``UserError`` if the system refuses.
    """
    make_folder(path.parent)
    write_atomically(path, lambda file: Image.fromarray(image).save(file, format="PNG"))
