"""Cameras: one convention, 25-number labels, orbits and paths for videos.

Camera axes are OpenCV's (x right, y down, z forward). World: y up, the face looks along +z, +x is
the subject's left, which is the right of a frontal image. A label is what EG3D's ``dataset.json``
holds: the row-major 4x4 camera-to-world matrix, then the row-major 3x3 intrinsics divided by the
image size.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor

from gghead.torch_utils.checks import check_shape
from gghead.torch_utils.errors import UserError

FFHQ_RADIUS = 2.7  # world units between the camera and the world origin in EG3D's FFHQ labels
# focal length / image width in EG3D's FFHQ labels: a field of view of about 13.4 degrees
FFHQ_FOCAL = 4.2647

_FULL_TURN = 2 * math.pi * (1 + 1e-6)  # radians, with room for rounding
# labels are written with a few decimals, so an exact rotation cannot be asked for
_TOLERANCE = 1e-3

BatchIndex = int | slice | Sequence[int] | Tensor | EllipsisType | None
"""What may stand between the brackets for one batch dimension."""


class OrbitOptions(TypedDict, total=False):
    """The options of ``Cameras.orbit`` that paths of cameras leave free."""

    roll: float | Tensor
    radius: float | Tensor
    focal: float | Tensor
    target: Sequence[float] | Tensor
    device: torch.device | str | None


def focal_from_fov_deg(fov: float) -> float:
    """Return the focal length / image width for a horizontal field of view in degrees.

    The field of view lies between 0 and 180.
    """
    if not 0 < fov < 180:
        raise ValueError(f"A field of view must lie between 0 and 180 degrees, but it is {fov}.")
    return 0.5 / math.tan(math.radians(fov) / 2)


@dataclass(frozen=True, eq=False)
class Cameras:
    """Pinhole cameras with any batch shape.

    Raises ``ValueError`` where the shapes do not fit; the values are checked by ``validate``
    only.
    """

    cam2world: Tensor  # [..., 4, 4] rigid, world units
    # [..., 3, 3] divided by the image size (row 0 by the width, row 1 by the height)
    intrinsics: Tensor

    def __post_init__(self) -> None:
        check_shape("cam2world", self.cam2world, (4, 4))
        check_shape("intrinsics", self.intrinsics, (3, 3))
        if self.cam2world.shape[:-2] != self.intrinsics.shape[:-2]:
            raise ValueError(
                "cam2world and intrinsics must have the same batch shape, but they have "
                f"{list(self.cam2world.shape[:-2])} and {list(self.intrinsics.shape[:-2])}."
            )

    # ------------------------------------------------------------------ making
    @classmethod
    def from_label(cls, label: Tensor) -> "Cameras":
        """Cameras of ``label [..., 25]``."""
        check_shape("label", label, (25,))
        batch = label.shape[:-1]
        return cls(label[..., :16].reshape(*batch, 4, 4), label[..., 16:].reshape(*batch, 3, 3))

    @classmethod
    def orbit(
        cls,
        yaw: float | Tensor,  # [...] radians, > 0: the camera stands at the subject's left (+x)
        pitch: float | Tensor = 0.0,  # [...] radians, > 0: the camera stands above
        # [...] radians, > 0: the top of the head leans to the right of the image
        roll: float | Tensor = 0.0,
        radius: float | Tensor = FFHQ_RADIUS,  # [...] world units
        # [...] divided by the image width (pixels are square)
        focal: float | Tensor = FFHQ_FOCAL,
        # [..., 3] the point that the cameras look at
        target: Sequence[float] | Tensor = (0.0, 0.0, 0.0),
        device: torch.device | str | None = None,
    ) -> "Cameras":
        """Cameras on a sphere that look at ``target``.

        The arguments broadcast, and plain numbers give one camera. The position is ``target +
        radius * (sin yaw cos pitch, sin pitch, cos yaw cos pitch)``. Raises ``ValueError`` for
        plain numbers beyond a full turn, which are degrees as a rule.
        """
        for name, value in (("yaw", yaw), ("pitch", pitch), ("roll", roll)):
            if isinstance(value, (int, float)) and not abs(value) <= _FULL_TURN:
                raise ValueError(
                    f"{name}={value:g} is more than a full turn: angles are in radians here; for "
                    f"{value:g} degrees write math.radians({value:g})."
                )
        given = [
            value
            for value in (yaw, pitch, roll, radius, focal, target)
            if isinstance(value, Tensor)
        ]
        dtype = next(
            (value.dtype for value in given if value.is_floating_point()), torch.get_default_dtype()
        )
        device = device if device is not None else (given[0].device if given else None)
        angles = [
            torch.as_tensor(value, dtype=dtype, device=device)
            for value in (yaw, pitch, roll, radius, focal)
        ]
        target = torch.as_tensor(target, dtype=dtype, device=device)
        check_shape("target", target, (3,))
        batch = torch.broadcast_shapes(
            *(value.shape for value in angles), target.shape[:-1]
        ) or torch.Size([1])
        yaw, pitch, roll, radius, focal = (value.expand(batch) for value in angles)

        sin_yaw, cos_yaw, sin_pitch, cos_pitch = yaw.sin(), yaw.cos(), pitch.sin(), pitch.cos()
        zero, one = torch.zeros_like(yaw), torch.ones_like(yaw)
        outwards = torch.stack([sin_yaw * cos_pitch, sin_pitch, cos_yaw * cos_pitch], -1)
        right = torch.stack([cos_yaw, zero, -sin_yaw], -1)
        up = torch.stack([-sin_yaw * sin_pitch, cos_pitch, -cos_yaw * sin_pitch], -1)
        sin_roll, cos_roll = roll.sin()[..., None], roll.cos()[..., None]
        axes = [cos_roll * right + sin_roll * up, sin_roll * right - cos_roll * up, -outwards]
        top = torch.stack([*axes, target + radius[..., None] * outwards], -1)  # [..., 3, 4]
        bottom = torch.stack([zero, zero, zero, one], -1)[..., None, :]
        half = torch.full_like(focal, 0.5)
        intrinsics = torch.stack(
            [focal, zero, half, zero, focal, half, zero, zero, one], -1
        ).reshape(*batch, 3, 3)
        return cls(torch.cat([top, bottom], -2), intrinsics)

    @classmethod
    def turntable(
        cls, frames: int, pitch: float = 0.0, **options: Unpack[OrbitOptions]
    ) -> "Cameras":
        """``frames`` cameras once round the head at equal steps.

        ``options`` as in ``orbit``.
        """
        return cls.orbit(_phases(frames), pitch, **options)

    @classmethod
    def sweep(
        cls,
        frames: int,
        yaw_range: float = 0.6,
        pitch: float = 0.0,
        **options: Unpack[OrbitOptions],
    ) -> "Cameras":
        """``frames`` cameras that swing in front between yaw ``-yaw_range`` and ``+yaw_range``.

        They come back to where they began.
        """
        return cls.orbit(yaw_range * _phases(frames).sin(), pitch, **options)

    @classmethod
    def spiral(
        cls,
        frames: int,
        yaw_range: float = 0.35,
        pitch_range: float = 0.25,
        **options: Unpack[OrbitOptions],
    ) -> "Cameras":
        """``frames`` cameras on an ellipse in front of the face.

        Yaw goes by the sine of the time, pitch by the cosine.
        """
        phases = _phases(frames)
        return cls.orbit(yaw_range * phases.sin(), pitch_range * phases.cos(), **options)

    @classmethod
    def cat(cls, cameras: Sequence["Cameras"]) -> "Cameras":
        """Join cameras along the first batch dimension."""
        return cls(
            torch.cat([c.cam2world for c in cameras]), torch.cat([c.intrinsics for c in cameras])
        )

    # ----------------------------------------------------------------- reading
    @property
    def shape(self) -> torch.Size:
        """The batch shape."""
        return self.cam2world.shape[:-2]

    @property
    def device(self) -> torch.device:
        return self.cam2world.device

    @property
    def position(self) -> Tensor:
        """Camera centers [..., 3] in world units."""
        return self.cam2world[..., :3, 3]

    @property
    def viewmats(self) -> Tensor:
        """World-to-camera matrices [..., 4, 4]: the exact inverse of a rigid ``cam2world``."""
        rotation = self.cam2world[..., :3, :3].mT
        top = torch.cat([rotation, -rotation @ self.cam2world[..., :3, 3:]], -1)
        return torch.cat([top, self.cam2world[..., 3:, :]], -2)

    def Ks(self, width: int, height: int) -> Tensor:  # noqa: N802 (gsplat's name)
        """Intrinsics [..., 3, 3] in pixels for an image of ``width`` by ``height``."""
        return self.intrinsics * self.intrinsics.new_tensor([width, height, 1.0])[:, None]

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """World points [..., N, 3] -> places [..., N, 2] and depths [..., N] along the view.

        Places are divided by the image's width and height, with (0, 0) at its top left corner.
        Those of points behind the camera (depth of zero and less) mean nothing.
        """
        local = (points - self.position[..., None, :]) @ self.cam2world[..., :3, :3]
        depth = local[..., 2]
        plane = local / torch.where(depth.abs() < 1e-9, 1e-9, depth)[..., None]
        return (plane @ self.intrinsics.mT)[..., :2], depth

    def label(self) -> Tensor:
        """Labels [..., 25]; the inverse of ``from_label``."""
        return torch.cat([self.cam2world.flatten(-2), self.intrinsics.flatten(-2)], -1)

    def angles(self) -> tuple[Tensor, Tensor, Tensor]:
        """Yaw, pitch and roll [...] in radians of the viewing direction, signed as in ``orbit``.

        They describe the rotation alone, so they are also right for cameras that do not look at the
        origin. At a pitch of 90 degrees yaw and roll are not unique.
        """
        rotation = self.cam2world[..., :3, :3]
        x, y, z = (-rotation[..., :, 2]).unbind(-1)
        yaw, pitch = torch.atan2(x, z), torch.atan2(y, torch.hypot(x, z))
        # The world's up direction as it stands in the image.
        return yaw, pitch, torch.atan2(rotation[..., 1, 0], -rotation[..., 1, 1])

    def __getitem__(self, index: BatchIndex | tuple[BatchIndex, ...]) -> "Cameras":
        """Index or slice the batch dimensions."""
        index = index if isinstance(index, tuple) else (index,)
        if len([i for i in index if i is not None and i is not Ellipsis]) > len(self.shape):
            raise IndexError(f"too many indices for cameras of batch shape {list(self.shape)}")
        if Ellipsis in [i for i in index if not isinstance(i, Tensor)]:
            index = (*index, slice(None), slice(None))
        return Cameras(self.cam2world[index], self.intrinsics[index])

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("these cameras have no batch dimension")
        return self.shape[0]

    def __iter__(self) -> Iterator["Cameras"]:
        return (self[i] for i in range(len(self)))

    # ---------------------------------------------------------------- changing
    def mirror(self) -> "Cameras":
        """The cameras of the mirrored images (left and right swapped) of the mirrored subject."""
        # S * cam2world * S flips the world's x and the camera's x, so the result is a rotation
        # again.
        sign = self.cam2world.new_tensor([-1.0, 1.0, 1.0, 1.0])
        intrinsics = self.intrinsics * self.intrinsics.new_tensor(
            [[1, -1, -1], [1, 1, 1], [1, 1, 1]]
        )
        intrinsics = intrinsics + intrinsics.new_tensor([[0, 0, 1], [0, 0, 0], [0, 0, 0]])
        return Cameras(self.cam2world * sign * sign[:, None], intrinsics)

    def reshape(self, *shape: int) -> "Cameras":
        """The same cameras with another batch shape."""
        return Cameras(self.cam2world.reshape(*shape, 4, 4), self.intrinsics.reshape(*shape, 3, 3))

    def to(self, *args: Any, **options: Any) -> "Cameras":
        """As ``torch.Tensor.to``."""
        return Cameras(self.cam2world.to(*args, **options), self.intrinsics.to(*args, **options))

    def validate(self, name: str = "camera") -> "Cameras":
        """Return ``self``.

        Raise ``UserError`` naming the first bad camera and its fault otherwise.
        """
        pose, k = self.cam2world.reshape(-1, 4, 4), self.intrinsics.reshape(-1, 3, 3)
        rotation = pose[:, :3, :3]
        eye = torch.eye(3, dtype=pose.dtype, device=pose.device)
        last_row = pose.new_tensor([0.0, 0.0, 0.0, 1.0])
        # The order matters: a number that is not finite would fail the later tests with a
        # misleading sentence.
        faults = {
            "contains numbers that are not finite": ~(
                pose.isfinite().all(-1).all(-1) & k.isfinite().all(-1).all(-1)
            ),
            "has a cam2world matrix whose last row is not 0 0 0 1": (
                (pose[:, 3] - last_row).abs().amax(-1) > _TOLERANCE
            ),
            "has a rotation that is not orthonormal": (
                (rotation @ rotation.mT - eye).abs().amax((-1, -2)) > _TOLERANCE
            ),
            "has a rotation that is left-handed (a mirrored pose)": (
                torch.linalg.det(rotation.nan_to_num()) < 0
            ),
            "has a focal length that is not positive": (k[:, 0, 0] <= 0) | (k[:, 1, 1] <= 0),
            "has intrinsics whose last row is not 0 0 1": (
                (k[:, 2] - last_row[1:]).abs().amax(-1) > _TOLERANCE
            ),
        }
        for fault, bad in faults.items():
            if bad.any():
                index = int(bad.nonzero()[0])
                raise UserError(
                    f"{name} {index} {fault}; correct its 25-number label (OpenCV axes, camera to"
                    " world)."
                )
        return self


def _phases(frames: int) -> Tensor:
    if frames < 1:
        raise ValueError(f"A camera path needs at least one frame, but {frames} were asked for.")
    return torch.arange(frames) * (2 * math.pi / frames)
