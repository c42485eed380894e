"""Cameras of images to invert.

Refined inside a bound around their labels, and turned for novel views.
"""

import math

import torch
from torch import Tensor

from gghead.cameras import Cameras
from gghead.latent import Latent
from gghead.torch_utils.checks import check_shape

# radians and world units that one unit of the optimized vector stands for
_ROTATION_UNIT, _SHIFT_UNIT = 0.2, 0.1


class CameraRefinement:
    """One increment in se(3) per camera, ``exp([omega, v])``, that moves it about the head.

    Focal lengths stay.

    The camera moves about the world's origin (the head), not about its own center: turning and
    shifting the image are then nearly independent, which a first-order optimizer needs.

    Args:
        labels: [B, 25], where the refinement starts.
        max_rotation: Radians; the length of omega stays below it. 0 keeps the cameras.
        max_shift: World units; the length of v stays below it.
    """

    def __init__(self, labels: Tensor, max_rotation: float, max_shift: float) -> None:
        check_shape("labels", labels, (25,))
        self.start = Cameras.from_label(labels)
        self.max_rotation, self.max_shift = max_rotation, max_shift
        self.raw = torch.zeros(len(labels), 6, dtype=labels.dtype, device=labels.device)
        self.raw.requires_grad_(max_rotation > 0 or max_shift > 0)

    def increments(self) -> tuple[Tensor, Tensor]:
        """Return omega [B, 3] in radians and v [B, 3] in world units, both within their bounds."""
        return (
            _bound(self.raw[:, :3] * _ROTATION_UNIT, self.max_rotation),
            _bound(self.raw[:, 3:] * _SHIFT_UNIT, self.max_shift),
        )

    def cameras(self) -> Cameras:
        """Return the refined cameras, batch shape (B,); differentiable with respect to ``raw``."""
        return move_cameras(self.start, *self.increments())


def cameras_of(latent: Latent) -> Cameras:
    """The cameras (B,) with which the heads of a latent were found.

    Raises ``ValueError`` for one without.
    """
    if latent.camera is None:
        raise ValueError("this latent has no camera: its head was not found in an image")
    return Cameras.from_label(latent.camera)


# cameras (B,), [B, 3], [B, 3]
def move_cameras(cameras: Cameras, omega: Tensor, shift: Tensor) -> Cameras:
    """Move cameras by exp([omega, shift]) about the world's origin."""
    x, y, z = omega.unbind(-1)
    zero = torch.zeros_like(x)
    rows = torch.stack(
        [
            zero,
            -z,
            y,
            shift[..., 0],
            z,
            zero,
            -x,
            shift[..., 1],
            -y,
            x,
            zero,
            shift[..., 2],
            zero,
            zero,
            zero,
            zero,
        ],
        -1,
    )
    # The matrix exponential and not Rodrigues' formula: its gradient at zero, where we start, is
    # right.
    motion = torch.linalg.matrix_exp(rows.unflatten(-1, (4, 4)))
    return Cameras(motion @ cameras.cam2world, cameras.intrinsics)


def turn_cameras(cameras: Cameras, yaws: list[float]) -> Cameras:  # (B,), degrees -> (B, len(yaws))
    """Turn every camera round the head's vertical axis by each of ``yaws``.

    > 0 goes to the subject's left.
    """
    pose = cameras.cam2world
    angles = pose.new_tensor([math.radians(yaw) for yaw in yaws])
    omega = torch.stack([torch.zeros_like(angles), angles, torch.zeros_like(angles)], -1)
    batch, count = len(cameras), len(yaws)
    spread = Cameras(
        pose[:, None].expand(batch, count, 4, 4),
        cameras.intrinsics[:, None].expand(batch, count, 3, 3),
    )
    return move_cameras(
        spread,
        omega.expand(batch, count, 3),
        torch.zeros(batch, count, 3, dtype=pose.dtype, device=pose.device),
    )


# [B, 3] -> [B, 3] of length < limit; the identity near zero
def _bound(vectors: Tensor, limit: float) -> Tensor:
    if limit <= 0:
        return torch.zeros_like(vectors)
    return vectors / (1 + vectors.square().sum(-1, keepdim=True) / limit**2).sqrt()
