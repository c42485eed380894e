"""Square crops anywhere in a photo, and their cameras.

They are turned if need be, and filled where they leave the photo.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from gghead.cameras import FFHQ_FOCAL
from gghead.data.images import FILTER
from gghead.data.photos.pose import camera_position

_BLUR = 0.015  # standard deviation of the fill's blur, share of the crop's side
_FADE = 0.03  # how far into the fill the blur takes to set in, share of the crop's side


@dataclass(frozen=True, eq=False)
class Crop:
    """A square of the photo: ``photo = center + size * turn(angle) @ (share - 0.5)``.

    Shares are those [0, 1] of the crop.

    Pixels of the photo count from the outer corner of the top left one. ``angle`` is in radians; a
    face whose x axis points at that angle in the photo (clockwise as seen) stands upright in the
    crop.
    """

    center: np.ndarray  # [2] pixels of the photo
    size: float  # pixels of the photo
    angle: float = 0.0

    @property
    def matrix(self) -> np.ndarray:  # [2, 2]
        """From shares of the crop to pixels of the photo, without the shift."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return self.size * np.array([[cos, -sin], [sin, cos]])

    def to_photo(self, shares: np.ndarray) -> np.ndarray:  # [..., 2] -> [..., 2] pixels
        return (shares - 0.5) @ self.matrix.T + self.center

    def from_photo(self, pixels: np.ndarray) -> np.ndarray:  # [..., 2] -> [..., 2] shares
        return (pixels - self.center) @ np.linalg.inv(self.matrix).T + 0.5

    @property
    def box(self) -> list[float]:
        """Left, top, right and bottom in the photo of the square before ``angle`` turns it."""
        return [
            round(float(value), 2)
            for value in (*(self.center - self.size / 2), *(self.center + self.size / 2))
        ]

    # [3, 3] camera axes for the unturned crop -> [25]
    def label(self, rotation: np.ndarray) -> np.ndarray:
        """Return the 25 numbers of the FFHQ camera that sees the crop."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        turned = rotation @ np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = turned, camera_position(turned)
        return np.concatenate([pose.ravel(), ffhq_intrinsics().ravel()])


def ffhq_intrinsics() -> np.ndarray:  # [3, 3] divided by the image's size
    return np.array([[FFHQ_FOCAL, 0, 0.5], [0, FFHQ_FOCAL, 0.5], [0, 0, 1]])


def cut(pixels: np.ndarray, crop: Crop, resolution: int) -> tuple[np.ndarray, float]:
    """Cut the crop out of a photo [H, W] or [H, W, C] uint8.

    Returns it at ``resolution``, and the share of it that lies outside.

    The photo is continued by reflection; what is made up is blurred more and more with the distance
    from the photo.
    """
    step = crop.size / resolution
    corners = crop.to_photo(np.array([[0, 0], [1, 0], [0, 1], [1, 1]]))
    margin = 4 * max(step, 1) + 2  # room for the resampling filter
    low = np.floor(corners.min(0) - margin).astype(int)
    high = np.ceil(corners.max(0) + margin).astype(int)
    columns = _reflect(np.arange(low[0], high[0]), pixels.shape[1])
    rows = _reflect(np.arange(low[1], high[1]), pixels.shape[0])
    window = Image.fromarray(np.ascontiguousarray(pixels[rows][:, columns]))
    # PIL's transform does not filter when shrinking: turn at the photo's scale first
    if abs(crop.angle) > 1e-9:
        side = max(int(np.ceil(crop.size)), resolution)
        linear = crop.matrix / side
        shift = crop.center - low - linear @ [side / 2, side / 2]
        matrix = np.column_stack([linear, shift]).ravel().tolist()
        window = window.transform(
            (side, side), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC
        )
        image = window.resize((resolution, resolution), FILTER)
    else:
        box = np.concatenate([crop.center - crop.size / 2 - low, crop.center + crop.size / 2 - low])
        image = window.resize((resolution, resolution), FILTER, box=tuple(box.tolist()))
    result = np.asarray(image)
    if corners.min() >= 0 and (corners <= pixels.shape[1::-1]).all():
        return result, 0.0
    outside = _distance_outside(crop, resolution, pixels.shape[1], pixels.shape[0])
    return _blurred_fill(result, outside / crop.size, resolution), float((outside > 0).mean())


def _reflect(index: np.ndarray, length: int) -> np.ndarray:
    """Indices mirrored at both ends as often as needed (the outermost pixel is not repeated)."""
    if length == 1:
        return np.zeros_like(index)
    index = np.mod(index, 2 * length - 2)
    return np.where(index < length, index, 2 * length - 2 - index)


# [R, R] pixels of the photo
def _distance_outside(crop: Crop, resolution: int, width: int, height: int) -> np.ndarray:
    """How far outside the photo each pixel of the crop has its center; 0 inside."""
    share = (np.arange(resolution) + 0.5) / resolution
    # [2, R] each
    columns, rows = crop.matrix[:, :1] * (share - 0.5), crop.matrix[:, 1:] * (share - 0.5)
    x = crop.center[0] + columns[0] + rows[0][:, None]
    y = crop.center[1] + columns[1] + rows[1][:, None]
    return np.hypot(
        np.maximum(np.maximum(-x, x - width), 0), np.maximum(np.maximum(-y, y - height), 0)
    )


def _blurred_fill(image: np.ndarray, outside: np.ndarray, resolution: int) -> np.ndarray:
    blurred = Image.fromarray(image).filter(ImageFilter.GaussianBlur(_BLUR * resolution))
    weight = (
        np.clip(outside / _FADE, 0, 1)
        .astype(np.float32)
        .reshape(outside.shape + (1,) * (image.ndim - 2))
    )
    return np.rint(image + weight * (np.asarray(blurred, np.float32) - image)).astype(np.uint8)
