"""Lens distortion after Brown and Conrady as OpenCV, COLMAP and nerfstudio write it, and pictures freed from it."""

from dataclasses import dataclass

import numpy as np

from gghead.torch_utils.errors import UserError

_LARGEST = 0.25  # of the picture's width: beyond it the polynomial folds over in real fits, so it is a wrong unit


@dataclass(frozen=True)
class Lens:
    """One camera's distortion: where a point of the ideal pinhole picture lies in the picture that was taken.

    With x, y the pinhole coordinates (X/Z, Y/Z) and r² = x² + y² (OpenCV, "Camera calibration and 3D reconstruction"):
    x' = x (1 + k1 r² + k2 r⁴ + k3 r⁶) + 2 p1 x y + p2 (r² + 2 x²),
    y' = y (1 + k1 r² + k2 r⁴ + k3 r⁶) + p1 (r² + 2 y²) + 2 p2 x y.
    """

    intrinsics: tuple[float, float, float, float]  # fx, cx divided by the width, fy, cy by the height: fx, fy, cx, cy
    k1: float = 0.0
    k2: float = 0.0
    p1: float = 0.0
    p2: float = 0.0
    k3: float = 0.0

    def distort(self, points: np.ndarray) -> np.ndarray:  # [..., 2] divided by the picture size -> [..., 2] likewise
        """Where points of the pinhole picture lie in the picture that was taken."""
        fx, fy, cx, cy = self.intrinsics
        x, y = (points[..., 0] - cx) / fx, (points[..., 1] - cy) / fy
        r2 = x * x + y * y
        radial = 1 + r2 * (self.k1 + r2 * (self.k2 + r2 * self.k3))
        distorted_x = x * radial + 2 * self.p1 * x * y + self.p2 * (r2 + 2 * x * x)
        distorted_y = y * radial + self.p1 * (r2 + 2 * y * y) + 2 * self.p2 * x * y
        return np.stack([fx * distorted_x + cx, fy * distorted_y + cy], axis=-1)

    def largest_shift(self) -> float:
        """The largest shift of a point on the picture's border, divided by the picture size."""
        edge = np.linspace(0, 1, 33)
        border = [(t, side) for t in edge for side in (0.0, 1.0)] + [(side, t) for t in edge for side in (0.0, 1.0)]
        points = np.array(border)
        return float(np.abs(self.distort(points) - points).max())

    def check(self, where: str) -> "Lens":
        """Return ``self``; raises ``UserError`` where the numbers cannot be a distortion in this convention."""
        shift = self.largest_shift()
        if not shift < _LARGEST:
            raise UserError(f"The lens distortion of {where} shifts the picture's border by {shift:.0%} of its size, "
                            "which is no distortion in OpenCV's convention; undistort the pictures first.")  # fmt: skip
        return self

    def undistort(self, pixels: np.ndarray) -> np.ndarray:  # [H, W, C] uint8 -> [H, W, C] uint8
        """The picture that a pinhole with the same intrinsics would have taken; outside, the rim is repeated."""
        import torch
        import torch.nn.functional as F

        height, width = pixels.shape[:2]
        across, down = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
        grid = self.distort(np.stack(np.meshgrid(across, down), axis=-1)) * 2 - 1
        image = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None]
        sampled = F.grid_sample(image, torch.from_numpy(grid.astype(np.float32))[None], mode="bilinear",
                                padding_mode="border", align_corners=False)  # fmt: skip
        return sampled[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy()
