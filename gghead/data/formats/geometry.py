"""From other people's axes, units and frames to ours.

OpenCV camera axes, y up, face along +z, 1 unit = 0.373 m.

An image's coordinates start at the outer corner of its first pixel, here as in PyTorch3D, COLMAP
and gsplat; OpenCV's start at that pixel's center, so half a pixel is added to the principal point
of formats calibrated with OpenCV.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from gghead.cameras import FFHQ_FOCAL, FFHQ_RADIUS, Cameras
from gghead.data.formats.parsing import ReadOptions
from gghead.data.json_values import array
from gghead.torch_utils.errors import UserError

METERS_PER_UNIT = 0.373  # one world unit of an average head (docs of mvheads: 10 cm / 0.27)
_GL_AXES = np.diag([1.0, -1.0, -1.0, 1.0])


# [..., 4, 4] x right, y up, z backward -> x right, y down, z on
def from_opengl(cam2world: np.ndarray) -> np.ndarray:
    """OpenGL (NeRF, Blender) camera axes to OpenCV's."""
    return cam2world @ _GL_AXES


def invert(pose: np.ndarray) -> np.ndarray:  # [..., 4, 4] -> [..., 4, 4]
    """World-to-camera to camera-to-world, or back.

    Checked for being rigid only where frames are put together.
    """
    try:
        return np.linalg.inv(pose)
    except np.linalg.LinAlgError as error:
        raise UserError(
            "A world-to-camera matrix cannot be inverted; the file that holds it is damaged."
        ) from error


def intrinsics(
    fx: float,
    fy: float,
    cx: float,
    cy: float,
    width: float,
    height: float,
    origin_at_center: bool = False,
) -> np.ndarray:  # [3, 3] divided by the image size
    """Intrinsics in pixels to ours.

    ``origin_at_center``: (0, 0) is the center of the first pixel, as in OpenCV.
    """
    half = 0.5 if origin_at_center else 0.0
    return np.array(
        [[fx / width, 0, (cx + half) / width], [0, fy / height, (cy + half) / height], [0, 0, 1.0]]
    )


def matrix_intrinsics(
    k: np.ndarray, width: float, height: float, what: str, origin_at_center: bool = False
) -> np.ndarray:  # 3x3 in pixels -> 3x3 divided by the image size
    """As ``intrinsics`` from a matrix.

    Raises ``UserError`` for skewed pixels, which no image of ours has.
    """
    if abs(k[0, 1]) > 1e-3 * abs(k[0, 0]) or abs(k[1, 0]) > 1e-3 * abs(k[1, 1]):
        raise UserError(
            f"{what} has a skew of {k[0, 1]:g} pixels; resample the images to a camera without"
            " skew."
        )
    return intrinsics(k[0, 0], k[1, 1], k[0, 2], k[1, 2], width, height, origin_at_center)


def make_cameras(cam2world: np.ndarray, matrices: np.ndarray) -> Cameras:
    """Cameras [N] in float64 from [N, 4, 4] and [N, 3, 3]."""
    return Cameras(
        torch.from_numpy(np.ascontiguousarray(cam2world, np.float64)),
        torch.from_numpy(np.ascontiguousarray(matrices, np.float64)),
    )


# [N, 4, 4], [N, 4, 4] -> [N, 4, 4]
def relative_to_head(cam2world: np.ndarray, head: np.ndarray) -> np.ndarray:
    """Cameras as the head at rest sees them.

    ``head`` takes points of the head at rest to where they were filmed.

    ``head`` may scale: sR in its upper left. The result is in units of the head at rest.
    """
    scale = np.cbrt(np.linalg.det(head[:, :3, :3]))[:, None, None]
    back = head[:, :3, :3].transpose(0, 2, 1) / scale
    result = cam2world.copy()
    result[:, :3, :3] = back @ cam2world[:, :3, :3]
    result[:, :3, 3:] = back @ (cam2world[:, :3, 3:] - head[:, :3, 3:]) / scale
    return result


@dataclass(frozen=True)
class Placement:
    """A similarity from a data set's frame to our world: ``scale * rotation @ x + offset``."""

    scale: float
    rotation: np.ndarray  # [3, 3]
    offset: np.ndarray  # [3]
    follows_scale: bool = False
    """The offset was found for this scale: another scale changes it too."""

    def cameras(self, cam2world: np.ndarray) -> np.ndarray:  # [N, 4, 4] -> [N, 4, 4]
        result = cam2world.copy()
        result[:, :3, :3] = self.rotation @ cam2world[:, :3, :3]
        result[:, :3, 3] = self.points(cam2world[:, :3, 3])
        return result

    def points(self, points: np.ndarray) -> np.ndarray:  # [..., 3] -> [..., 3]
        return self.scale * points @ self.rotation.T + self.offset

    def with_options(self, options: ReadOptions) -> "Placement":
        """This placement, or what the user gave instead."""
        if options.world is not None:
            given = array(options.world, (4, 4), "`world`")
            determinant = np.linalg.det(given[:3, :3])
            scale = np.cbrt(determinant)
            rotation = given[:3, :3] / scale if determinant > 0 else np.zeros((3, 3))
            if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3) or not np.allclose(
                given[3], [0, 0, 0, 1]
            ):
                raise UserError(
                    "`world` must be a rotation times one positive scale, a shift, and the row 0 0"
                    " 0 1."
                )
            return Placement(float(scale), rotation, given[:3, 3])
        scale = self.scale if options.scale is None else options.scale
        if not (math.isfinite(scale) and scale > 0):
            raise UserError(f"`scale` must be a positive number, but it is {scale}.")
        # Around a guessed center the offset follows the scale, so that the center stays where it
        # is.
        offset = self.offset * (scale / self.scale) if self.follows_scale else self.offset
        return Placement(
            scale,
            self.rotation,
            offset if options.offset is None else np.array(options.offset, float),
        )


def place_by_cameras(
    cam2world: np.ndarray,  # [N, 4, 4] OpenCV axes
    matrices: np.ndarray,  # [N, 3, 3] divided by the image size
    where: str,
    options: ReadOptions,
    meters_per_unit: float | None = None,
) -> Placement:
    """Place captures of an arbitrary frame by their cameras alone, or as the user says.

    The head is where the optical axes pass closest to each other; up is the cameras' mean up; the
    face looks to the mean camera. Without a unit, the scale is such that the images frame the
    head as FFHQ's do: the median camera stands at 2.7 for a focal length of 4.2647. Rigs look at
    the head from its front and frame it alone, so this is right to some degrees and per cent;
    ``scale``, ``offset`` or ``world`` of the options replace it.

    Raises ``UserError`` where the axes are parallel.
    """
    if options.world is not None:
        return Placement(1.0, np.eye(3), np.zeros(3)).with_options(options)
    position, axis = cam2world[:, :3, 3], cam2world[:, :3, 2]
    away = np.eye(3) - axis[:, :, None] * axis[:, None, :]  # removes the part along the axis
    system = away.sum(0)
    if np.linalg.eigvalsh(system)[0] < 1e-3 * len(axis):
        raise UserError(
            f"Where the head of {where} is cannot be told from its cameras (their axes are"
            " parallel); give `world`, or a format that says it."
        )
    center = np.linalg.solve(system, (away @ position[:, :, None]).sum(0))[:, 0]
    up = -cam2world[:, :3, 1].mean(0)
    up /= np.linalg.norm(up)
    towards = position - center
    front = towards.mean(0)
    front -= up * (front @ up)
    if np.linalg.norm(front) < 0.05 * np.linalg.norm(towards, axis=1).mean():
        raise UserError(
            f"Where the face of {where} looks cannot be told from its cameras, which stand all"
            " around; give `world`."
        )
    front /= np.linalg.norm(front)
    rotation = np.stack([np.cross(up, front), up, front])
    if meters_per_unit is not None:
        scale = meters_per_unit / METERS_PER_UNIT
    else:
        focal = np.maximum(matrices[:, 0, 0], matrices[:, 1, 1])  # of the image's shorter side
        scale = float(np.median(FFHQ_RADIUS * focal / FFHQ_FOCAL / np.linalg.norm(towards, axis=1)))
    return Placement(scale, rotation, -scale * rotation @ center, follows_scale=True).with_options(
        options
    )
