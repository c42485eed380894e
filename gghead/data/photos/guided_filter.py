"""The guided filter: carries the edges of a photo over to a coarse mask (He et al. 2013, "Guided Image Filtering")."""

import numpy as np
from PIL import Image


def guided_filter(
    guide: np.ndarray,  # [H, W, 3] float in [0, 1]
    values: np.ndarray,  # [H, W] float
    radius: int,  # half width of the windows, pixels
    epsilon: float = 1e-4,  # variance of the guide below which a window counts as flat
) -> np.ndarray:  # [H, W] float32
    """Return ``values`` as the best local affine function of the guide's colours (equations 14 to 16)."""
    slope, offset = _affine(guide.astype(np.float32), values.astype(np.float32), radius, epsilon)
    return (slope * guide).sum(-1, dtype=np.float32) + offset


def fast_guided_filter(
    guide: np.ndarray, values: np.ndarray, radius: int, epsilon: float = 1e-4, shrink: int = 2
) -> np.ndarray:
    """The same with the affine functions worked out on a picture ``shrink`` times smaller (He and Sun 2015).

    ``radius`` still counts pixels of the large picture.
    """
    height, width = values.shape
    small = (max(width // shrink, 1), max(height // shrink, 1))

    def resized(plane: np.ndarray, size: tuple[int, int], kind: Image.Resampling) -> np.ndarray:
        return np.asarray(Image.fromarray(np.ascontiguousarray(plane, np.float32)).resize(size, kind))

    less = np.stack([resized(guide[..., c], small, Image.Resampling.BOX) for c in range(3)], -1)
    slope, offset = _affine(less, resized(values, small, Image.Resampling.BOX), max(radius // shrink, 1), epsilon)
    result = resized(offset, (width, height), Image.Resampling.BILINEAR).copy()
    for c in range(3):
        result += resized(slope[..., c], (width, height), Image.Resampling.BILINEAR) * guide[..., c]
    return result


def _affine(
    guide: np.ndarray, values: np.ndarray, radius: int, epsilon: float
) -> tuple[np.ndarray, np.ndarray]:  # [H, W, 3], [H, W]
    """Slope and offset at every pixel, averaged over the windows that hold it."""
    from scipy.ndimage import uniform_filter

    def mean(plane: np.ndarray) -> np.ndarray:
        return uniform_filter(plane, 2 * radius + 1, mode="reflect")

    channels = [guide[..., c] for c in range(3)]
    means = [mean(c) for c in channels]
    average = mean(values)
    cross = np.stack([mean(c * values) - m * average for c, m in zip(channels, means, strict=True)], -1)
    variance = np.empty(values.shape + (3, 3), np.float32)
    for i in range(3):
        for j in range(i, 3):
            variance[..., i, j] = variance[..., j, i] = mean(channels[i] * channels[j]) - means[i] * means[j]
    slope = _solve(variance + epsilon * np.eye(3, dtype=np.float32), cross)
    offset = average - sum(slope[..., c] * means[c] for c in range(3))
    return np.stack([mean(slope[..., c]) for c in range(3)], -1), mean(offset)


def _solve(matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:  # [..., 3, 3] symmetric, [..., 3] -> [..., 3]
    """Cramer's rule, several times faster on a picture than a general solver."""
    a, b, c = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 0, 2]
    d, e, f = matrix[..., 1, 1], matrix[..., 1, 2], matrix[..., 2, 2]
    x, y, z = np.moveaxis(vector, -1, 0)
    first, second, third = d * f - e * e, c * e - b * f, b * e - c * d
    determinant = a * first + b * second + c * third
    solved = [
        first * x + second * y + third * z,
        second * x + (a * f - c * c) * y + (b * c - a * e) * z,
        third * x + (b * c - a * e) * y + (a * d - b * b) * z,
    ]
    return np.stack(solved, -1) / determinant[..., None]
