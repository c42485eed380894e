"""Labels at the border of picture grids, for contact sheets and strips."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont


def with_labels(
    picture: np.ndarray,  # uint8 [H, W, 3]
    top: Sequence[str] | None,  # one per column, evenly spaced
    left: Sequence[str] | None,  # one per row
) -> np.ndarray:
    """Return the picture with a white border that carries labels in Pillow's built-in font."""
    if not top and not left:
        return picture
    height, width = picture.shape[:2]
    size = min(max(width // (8 * len(top)) if top else 12, 10), 24)
    font = ImageFont.load_default(size)
    above = size + 6 if top else 0
    beside = max(math.ceil(font.getlength(text)) for text in left) + 8 if left else 0
    sheet = Image.new("RGB", (width + beside, height + above), "white")
    sheet.paste(Image.fromarray(picture), (beside, above))
    draw = ImageDraw.Draw(sheet)
    for index, text in enumerate(top or ()):
        draw.text((beside + width * (index + 0.5) / len(top), above / 2), text, "black", font, anchor="mm")
    for index, text in enumerate(left or ()):
        draw.text((beside - 4, above + height * (index + 0.5) / len(left)), text, "black", font, anchor="rm")
    return np.asarray(sheet)
