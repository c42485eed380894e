"""A head of known points that moves in front of still cameras, filmed from first principles: what
readers must find."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

# Points of a head at rest in meters: x to the subject's left, y up, z out of the face; not
# symmetric on purpose.
POINTS = np.array(
    [
        [0.000, -0.008, 0.076],
        [0.032, 0.021, 0.036],
        [-0.031, 0.022, 0.035],
        [0.024, -0.045, 0.044],
        [-0.026, -0.046, 0.043],
        [0.071, -0.010, -0.045],
        [-0.074, -0.012, -0.047],
        [0.006, 0.110, 0.010],
    ]
)


@dataclass
class Example:
    """A data set on disk and what is known of it."""

    path: Path
    points: np.ndarray  # [P, 3] of the head at rest, or of the scene, in the units of the files
    pixels: np.ndarray  # [N, P, 2] from the outer corner of the first pixel, per image
    names: list[str]  # [N] of the images, to find them again
    size: tuple[int, int]
    coefficients: np.ndarray | None = None  # [N, K]
    extras: dict = field(default_factory=dict)


def turn(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """Rotation about y, then x, then z (degrees), written out."""
    (cy, sy), (cx, sx), (cz, sz) = (
        (np.cos(np.radians(a)), np.sin(np.radians(a))) for a in (yaw, pitch, roll)
    )
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_x @ about_y


def rotation_vector(matrix: np.ndarray) -> np.ndarray:
    """Axis times angle of a rotation of less than half a turn, from its skew part."""
    axis = (
        np.array(
            [matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]]
        )
        / 2
    )
    sine = np.linalg.norm(axis)
    return axis * (np.arcsin(np.clip(sine, 0, 1)) / sine if sine > 1e-12 else 1.0)


def motions(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rotations and shifts of a head that turns, nods, leans and sways (meters)."""
    phases = np.arange(count) / 3.0
    return [
        (
            turn(22 * np.sin(t), 9 * np.cos(1.3 * t), 6 * np.sin(0.7 * t)),
            np.array([0.02 * np.sin(2 * t), 0.015 * np.cos(t), 0.03 * np.sin(t)]),
        )
        for t in phases
    ]


def look_at(
    position: np.ndarray, target: np.ndarray, roll: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Right, up and forward of a camera (unit vectors of the world) that looks at a point, y being
    up."""
    forward = (target - position) / np.linalg.norm(target - position)
    right = np.cross(forward, [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    cos, sin = np.cos(np.radians(roll)), np.sin(np.radians(roll))
    return cos * right + sin * up, cos * up - sin * right, forward


def see(
    points: np.ndarray,
    position: np.ndarray,
    axes: tuple,
    fx: float,
    fy: float,
    cx: float,
    cy: float,
) -> np.ndarray:
    """Pixels of points: how far right and down of the axis they lie, divided by how far ahead."""
    right, up, forward = axes
    away = points - position
    ahead = away @ forward
    return np.stack([cx + fx * (away @ right) / ahead, cy - fy * (away @ up) / ahead], axis=-1)


def opengl_pose(position: np.ndarray, axes: tuple) -> np.ndarray:
    """Camera-to-world of a camera whose x is right, y up and z backward."""
    right, up, forward = axes
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = right, up, -forward, position
    return pose


def opencv_extrinsics(position: np.ndarray, axes: tuple) -> np.ndarray:
    """World-to-camera of a camera whose x is right, y down and z forward."""
    right, up, forward = axes
    pose = np.eye(4)
    for row, axis in enumerate((right, -up, forward)):
        pose[row, :3], pose[row, 3] = axis, -axis @ position
    return pose


def photo(
    size: tuple[int, int], pixels: np.ndarray, color=(40, 60, 90), dot=(250, 240, 230), radius=3
) -> Image.Image:
    """An image with a light dot at every pixel position."""
    # drawn larger and averaged down, so that the dots lie where they should to a fraction of a
    # pixel
    fine = 8
    image = Image.new("RGB", (size[0] * fine, size[1] * fine), color)
    draw = ImageDraw.Draw(image)
    for u, v in np.asarray(pixels) * fine - 0.5:  # PIL's coordinates are those of pixel centers
        draw.ellipse(
            [u - radius * fine, v - radius * fine, u + radius * fine, v + radius * fine], fill=dot
        )
    return image.resize(size, Image.Resampling.BOX)


def disc(size: tuple[int, int], value: int = 255) -> Image.Image:
    """A mask: a disc in the middle."""
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).ellipse(
        [size[0] * 0.1, size[1] * 0.1, size[0] * 0.9, size[1] * 0.9], fill=value
    )
    return mask


def save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
