"""How much of the sky and of a soft light every vertex of the neutral head sees."""

from dataclasses import dataclass

import numpy as np

from gghead.template.mesh import Template
from gghead.template.rasterize import rasterize_samples

_DIRECTIONS, _SIZE = 128, 160
_SOFTNESS = 9.0  # concentration of a soft light (von Mises and Fisher): about 0.3 radians wide


@dataclass(frozen=True)
class Visibility:
    """For directions evenly over the sphere."""

    directions: np.ndarray  # [D, 3]
    facing: np.ndarray  # [D, V] float32, cosine to the normal, not below zero
    seen: np.ndarray  # [D, V] float32, the same where nothing lies between, else zero

    def sky(self) -> np.ndarray:  # [V]
        """Share of the sky that is seen, weighted by the cosine."""
        return self.seen.sum(0) / np.maximum(self.facing.sum(0), 1e-6)

    def soft_light(self, towards: np.ndarray) -> np.ndarray:  # [3] unit -> [V]
        """Share of a broad light in a direction that is seen; one where the skin faces away."""
        weights = np.exp(_SOFTNESS * ((self.directions * towards).sum(1) - 1)).astype(np.float32)
        used = np.nonzero(weights > 0.02)[0]
        seen = np.full(self.seen.shape[1], 0.01, np.float32)
        facing = seen.copy()
        for index in used:
            seen += weights[index] * self.seen[index]
            facing += weights[index] * self.facing[index]
        return seen / facing


def compute_visibility(template: Template) -> Visibility:
    """Look at the head from all directions."""
    index = np.arange(_DIRECTIONS) + 0.5
    height, turn = 1 - 2 * index / _DIRECTIONS, index * np.pi * (1 + 5**0.5)
    flat = np.sqrt(1 - height**2)
    directions = np.stack([flat * np.cos(turn), height, flat * np.sin(turn)], -1)
    facing = np.zeros((_DIRECTIONS, len(template.vertices)), np.float32)
    seen = np.zeros_like(facing)
    for number, towards in enumerate(directions):
        facing[number] = np.maximum((template.vertex_normals * towards).sum(1), 0)
        right = np.cross(towards, (0.3, 0.9, 0.3))
        right /= np.sqrt((right**2).sum())
        down = np.cross(towards, right)
        plane = np.stack([(template.vertices * axis).sum(1) for axis in (right, down)], -1)
        plane = (plane + 0.75) / 1.5 * _SIZE
        depth = 2 - (template.vertices * towards).sum(1)
        front = rasterize_samples(plane, depth, template.faces, _SIZE, _SIZE)
        nearest = np.full(_SIZE * _SIZE, np.inf)
        nearest[front.pixel] = front.depth
        column, row = np.clip(plane.astype(int), 0, _SIZE - 1).T
        seen[number] = facing[number] * (depth < nearest[row * _SIZE + column] + 0.02)
    return Visibility(directions, facing, seen)
