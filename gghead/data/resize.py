"""Resizing of images with straight (un-multiplied) alpha without pulling the old background into the subject."""

import numpy as np
from PIL import Image

# PIL widens the kernel when shrinking, so it is antialiased. Hamming's is nearly as sharp as Lanczos', and it has no
# negative lobes: alpha stays in [0, 1] and colours divided by alpha stay within those of their surroundings.
FILTER = Image.Resampling.HAMMING


Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels of the source, fractions allowed


def resize_image(
    rgb: np.ndarray,  # [H, W, 3] or [H, W] uint8
    size: int | tuple[int, int],  # side of a square, or (width, height)
    box: Box | None = None,  # the part to show; None = everything
) -> np.ndarray:  # [height, width, 3] or [height, width] uint8
    width, height = (size, size) if isinstance(size, int) else size
    if rgb.shape[:2] == (height, width) and box is None:
        return rgb
    return np.asarray(Image.fromarray(rgb).resize((width, height), FILTER, box))


def resize_straight_alpha(
    rgb: np.ndarray,  # [H, W, 3] uint8, colour not multiplied by alpha
    alpha: np.ndarray,  # [H, W] uint8
    size: int | tuple[int, int],  # side of a square, or (width, height)
    box: Box | None = None,  # the part to show; None = everything
) -> tuple[np.ndarray, np.ndarray]:
    """Return (rgb [height, width, 3], alpha [height, width]) uint8, resized with alpha-weighted colours.

    Compositing the result over any background equals, up to rounding, resizing the composite, which is what an
    antialiased camera would see. Where alpha vanishes the plainly resized colour is kept.
    """
    width, height = (size, size) if isinstance(size, int) else size
    if rgb.shape[:2] == alpha.shape == (height, width) and box is None:
        return rgb, alpha
    alpha = fit_mask(alpha, rgb)
    if alpha.min() == 255:
        return resize_image(rgb, (width, height), box), np.full((height, width), 255, np.uint8)
    weight = alpha.astype(np.float32) / 255
    planes = [weight] + [rgb[..., channel] * weight for channel in range(3)]
    small = [np.asarray(Image.fromarray(plane).resize((width, height), FILTER, box)) for plane in planes]
    coverage = np.clip(small[0], 0, 1)  # against rounding
    colour = np.stack(small[1:], axis=-1) / np.maximum(coverage, 1e-4)[..., None]
    seen = coverage[..., None] > 0.5 / 255
    plain = resize_image(rgb, (width, height), box)
    colour = np.where(seen, np.clip(np.rint(colour), 0, 255), plain).astype(np.uint8)
    return colour, np.rint(coverage * 255).astype(np.uint8)


def resize_composite(
    rgb: np.ndarray,  # [H, W, 3] uint8, subject and one plain backdrop mixed where alpha is partial
    alpha: np.ndarray,  # [H, W] uint8
    size: int | tuple[int, int],  # side of a square, or (width, height)
    box: Box | None = None,  # the part to show; None = everything
) -> tuple[np.ndarray, np.ndarray]:
    """Return (rgb [height, width, 3], alpha [height, width]) uint8: the mixtures of a smaller picture.

    Weighting mixtures by alpha would take backdrop away from the outline, and what is left would show dark rims.
    """
    return resize_image(rgb, size, box), resize_image(fit_mask(alpha, rgb), size, box)


def fit_mask(alpha: np.ndarray, rgb: np.ndarray) -> np.ndarray:
    """The mask at the picture's size."""
    if alpha.shape == rgb.shape[:2]:
        return alpha
    return np.asarray(Image.fromarray(alpha).resize(rgb.shape[1::-1], Image.Resampling.BILINEAR))


def estimate_foreground(
    rgb: np.ndarray,  # [H, W, 3] uint8, a photo: foreground and background mixed where alpha is partial
    alpha: np.ndarray,  # [H, W] uint8
    radius: float = 0.09,
) -> np.ndarray:  # [H, W, 3] uint8
    """Return the foreground's own colour at every pixel (blur fusion, Forte 2021, "Approximate Fast Foreground Colour
    Estimation"): alpha-weighted local means of both layers, then the closest foreground that explains the photo.

    ``radius`` is the half width of the first of two passes as a share of the image width; the second is a tenth.
    """
    from scipy.ndimage import uniform_filter

    image = rgb.astype(np.float32)
    weight = (alpha.astype(np.float32) / 255)[..., None]
    front = back = image
    for reach in (radius, radius / 10):
        window = (2 * max(int(reach * rgb.shape[1]), 1) + 1,) * 2 + (1,)
        front_mean = uniform_filter(front * weight, window) / (uniform_filter(weight, window) + 1e-5)
        back = uniform_filter(back * (1 - weight), window) / (uniform_filter(1 - weight, window) + 1e-5)
        front = np.clip(front_mean + weight * (image - weight * front_mean - (1 - weight) * back), 0, 255)
    return np.rint(front).astype(np.uint8)
