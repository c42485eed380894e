"""Shaded images of a template, to look at its shape and its expressions.

python -m gghead.template.preview --dest=docs/images/template.png
"""

import sys
from pathlib import Path

import numpy as np

from gghead.template import load_template
from gghead.template.mesh import Template, vertex_normals
from gghead.template.rasterize import rasterize_triangles
from gghead.template.rig import brow_plane, eye_plane, lip_plane

SKIN, LIPS, MOUTH, BROWS = (
    (0.86, 0.70, 0.60),
    (0.76, 0.44, 0.41),
    (0.30, 0.10, 0.10),
    (0.36, 0.26, 0.20),
)
WHITE, IRIS, PUPIL = (0.93, 0.92, 0.90), (0.36, 0.27, 0.18), (0.05, 0.05, 0.05)
VIEWS = ((0.0, 0.0), (0.6, 0.05), (1.57, 0.0), (2.5, 0.15), (-0.6, -0.2))
EXPRESSIONS = (
    {"jawOpen": 0.7},
    {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0},
    {
        "mouthSmileLeft": 1.0,
        "mouthSmileRight": 1.0,
        "cheekSquintLeft": 0.5,
        "cheekSquintRight": 0.5,
    },
    {"browDownLeft": 1.0, "browDownRight": 1.0, "mouthFrownLeft": 0.8, "mouthFrownRight": 0.8},
    {"mouthPucker": 1.0, "browInnerUp": 1.0, "browOuterUpLeft": 0.8, "browOuterUpRight": 0.8},
)


def head_colors(points: np.ndarray) -> np.ndarray:  # [..., 3] neutral positions -> [..., 3] RGB
    """A plain face painted by the head's analytic planes: skin, brows, lips, eyes."""
    colors = np.broadcast_to(np.array(SKIN), points.shape).copy()
    front = points[..., 2] > 0.12
    s, t = brow_plane(points)
    colors[front & (s > 0) & (s < 1) & (np.abs(t) < 1)] = BROWS
    s, t = lip_plane(points)
    colors[front & (np.abs(s) < 1) & (np.abs(t) < 1)] = LIPS
    colors[front & (np.abs(s) < 0.93) & (np.abs(t) < 0.12)] = MOUTH
    s, t, r = eye_plane(points)
    opening = front & (np.abs(s) < 1) & (np.abs(t) < 1)
    for radius, color in ((np.inf, WHITE), (0.0155, IRIS), (0.007, PUPIL)):
        colors[opening & (r < radius)] = color
    return colors


def shade(
    template: Template,
    vertices: np.ndarray,  # [V, 3]
    yaw: float = 0.0,
    pitch: float = 0.0,
    size: int = 256,
    focal: float = 3.4,
    painted: bool = True,
) -> np.ndarray:  # [size, size, 3] uint8
    """The mesh under two lights on white, 2 x 2 supersampled.

    Camera at radius 2.7, angles in radians.
    """
    position = 2.7 * np.array(
        [np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)]
    )
    forward = -position / np.linalg.norm(position)
    right = np.cross(forward, [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(forward, right), forward])
    camera = (vertices - position) @ axes.T
    pixels = 2 * size
    xy = (camera[:, :2] / camera[:, 2:] * focal + 0.5) * pixels
    face, bary = rasterize_triangles(
        xy, camera[:, 2], template.faces, pixels, pixels, perspective=True
    )
    corner = template.faces[face]
    normal = (bary[..., None] * vertex_normals(vertices, template.faces)[corner]).sum(2) @ axes.T
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
    light = 0.16
    for direction, power in (((-0.45, -0.55, -0.75), 0.70), ((0.80, -0.10, -0.50), 0.24)):
        light = light + power * np.clip(
            normal @ (np.array(direction) / np.linalg.norm(direction)), 0.0, 1.0
        )
    neutral = (bary[..., None] * template.vertices[corner]).sum(2)
    albedo = head_colors(neutral) if painted else np.array(SKIN)
    image = np.where((face >= 0)[..., None], albedo * light[..., None], 1.0)
    image = image.reshape(size, 2, size, 2, 3).mean((1, 3))
    return np.round(np.clip(image, 0.0, 1.0) ** (1 / 1.5) * 255).astype(np.uint8)


def sheet(template: Template, size: int = 256) -> np.ndarray:  # [2 * size, 5 * size, 3] uint8
    """Five views of the neutral head above five expressions."""
    views = [shade(template, template.vertices, yaw, pitch, size) for yaw, pitch in VIEWS]
    faces = [shade(template, template.pose(e), 0.25, 0.0, size, focal=4.6) for e in EXPRESSIONS]
    return np.concatenate([np.concatenate(views, 1), np.concatenate(faces, 1)], 0)


def main(arguments: list[str]) -> None:
    from PIL import Image

    dest = Path("template.png")
    for argument in arguments:
        if not argument.startswith("--dest="):
            sys.exit(f"Unknown argument '{argument}'; use --dest=FILE.png.")
        dest = Path(argument.removeprefix("--dest="))
    dest.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet(load_template("head"))).quantize(128).save(dest, optimize=True)
    print(f"Wrote {dest}.")


if __name__ == "__main__":
    main(sys.argv[1:])
