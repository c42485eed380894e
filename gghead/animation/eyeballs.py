"""Eyeballs behind the lids of the template.

Balls that turn about their centers by the coefficients of the gaze.

The template is one sheet. Its blink drags the surface of the open eye along with the lid, and
nothing turns with the gaze: ARKit's eight coefficients of it have no shape, because an eye is not
bent by them. An avatar has Gaussians for eyeballs from the start, in place of the skin that would
lie over the open eye; lids cover them or do not.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gghead.models.motion import MOTION, as_motion
from gghead.rotations import axis_angle_to_matrix, matrix_to_quat
from gghead.template import Template
from gghead.template.sliders import canonical
from gghead.torch_utils.rng import derive_seed

_SIDES = {"Left": 1.0, "Right": -1.0}  # the sign of x
_CAP = math.radians(66)  # how far from straight ahead the points reach
_GAZE = math.radians(30)  # turn at weight one; training corrects it
_TURNS = {
    "eyeLookUp": (-1.0, 0.0),
    "eyeLookDown": (1.0, 0.0),
    "eyeLookIn": (0.0, -1.0),
    "eyeLookOut": (0.0, 1.0),
}
_OPEN = 0.5  # weight in the region "eyes" from which a point lies over the open eye


@dataclass(frozen=True)
class Eyeballs:
    """Points at rest, those of the left eye first, and what moves them."""

    points: Tensor  # [M, 3] world units
    motion: Tensor  # [B, M, 6], see gghead.models.motion


def has_eyeballs(template: Template, names: Sequence[str]) -> bool:
    """Whether the template says where they are, and one of the coefficients turns them."""
    known = {
        "eyeCentre" + side for side in _SIDES
    } <= template.landmarks.keys() and "eyes" in template.regions
    return known and any(_turn(name, side) is not None for name in names for side in _SIDES)


@torch.no_grad()
def eyeballs(template: Template, names: Sequence[str], count: int, seed: int) -> Eyeballs:
    """Draw ``count`` points evenly from the fronts of both eyeballs.

    Returns them and what the coefficients ``names`` do to them.
    """
    random = np.random.RandomState(derive_seed(seed, "eyeballs") % 2**32)
    counts = {"Left": count - count // 2, "Right": count // 2}
    parts = [_eyeball(template, names, side, number, random) for side, number in counts.items()]
    return Eyeballs(
        torch.cat([part.points for part in parts]), torch.cat([part.motion for part in parts], 1)
    )


def over_eyes(template: Template, points: Tensor) -> Tensor:  # [N, 3] -> [N] bool
    """Which points of the surface lie over the open eye, where an eyeball is to be seen instead."""
    weights = torch.from_numpy(template.regions["eyes"]).to(points)
    return (
        weights[torch.cdist(points, torch.from_numpy(template.vertices).to(points)).argmin(1)]
        > _OPEN
    )


def _eyeball(
    template: Template, names: Sequence[str], side: str, count: int, random: np.random.RandomState
) -> Eyeballs:
    center, sign = template.landmarks["eyeCentre" + side], _SIDES[side]
    own = template.vertices[
        (template.regions["eyes"] > _OPEN) & (sign * template.vertices[:, 0] > 0)
    ]
    radius = np.median(np.linalg.norm(own - center, axis=1))
    # even by area
    height, angle = random.uniform(math.cos(_CAP), 1, count), random.uniform(0, 2 * math.pi, count)
    ring = np.sqrt(1 - height**2)
    arm = _float(radius * np.stack([ring * np.cos(angle), ring * np.sin(angle), height], 1))
    motion = torch.zeros(len(names), count, MOTION)
    for row, name in enumerate(names):
        if (turn := _turn(name, side)) is not None:
            matrix = axis_angle_to_matrix(_GAZE * torch.tensor([turn[0], sign * turn[1], 0.0]))
            motion[row] = as_motion(arm @ matrix.T - arm, matrix_to_quat(matrix).expand(count, 4))
    return Eyeballs(_float(center) + arm, motion)


def _turn(name: str, side: str) -> tuple[float, float] | None:
    """The axis that a coefficient turns the eye of this side about, if it does.

    Its x and y, those of the left eye.
    """
    plain = canonical(name)
    return _TURNS.get(plain.removesuffix(side)) if plain.endswith(side) else None


def _float(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(array)).float()
