"""What lies behind the skin of the template: eyeballs, and teeth, tongue and palate. Each moves as a rigid body.

The template is one sheet. Its blink drags the surface of the open eye along with the lid, nothing turns with the gaze,
and between its lips there is nothing. An avatar has Gaussians for these parts from the start: eyeballs that turn about
their centres by the eight coefficients of the gaze, an upper half of the mouth that stays and a lower half that goes
with the jaw. Lids and lips cover them or do not, from wherever one looks: what a mouth shows from below is what is
there, and need not be learnt as an expression.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gghead.animation.binding import template_motion
from gghead.animation.sliders import canonical
from gghead.models.motion import MOTION, as_motion, displaced
from gghead.rendering.projection import quat_to_rotmat
from gghead.rotations import axis_angle_to_matrix, matrix_to_quat
from gghead.template import Template
from torch_utils.rng import derive_seed

_SIDES = {"Left": 1.0, "Right": -1.0}  # the sign of x
_NEEDED = ("eyeCentre", "mouthCorner")  # landmarks on both sides
_EYE = 3 / 16  # of the points in each eyeball, the others in the mouth
_CAP = math.radians(66)  # how far from straight ahead an eyeball's points reach
_GAZE = math.radians(30)  # turn of an eye at weight one; training corrects it
_TURNS = {"eyeLookUp": (-1.0, 0.0), "eyeLookDown": (1.0, 0.0), "eyeLookIn": (0.0, -1.0), "eyeLookOut": (0.0, 1.0)}
_HALF = (0.065, 0.030, 0.100)  # width, height and depth of half a mouth: 24, 11 and 37 mm
_BEHIND = 0.015  # world units from the line between the lips to the front teeth
_JAW = ("jawOpen", "jawForward", "jawLeft", "jawRight")
_OPEN = 0.5  # weight in the region "eyes" from which a point lies over the open eye


@dataclass(frozen=True)
class Insides:
    """Points at rest and what moves them."""

    points: Tensor  # [M, 3] world units
    motion: Tensor  # [B, M, 6], see gghead.models.motion


def has_insides(template: Template) -> bool:
    """Whether the template says where eyeballs and mouth are."""
    needed = {"mouthCentre", "chin", *(mark + side for mark in _NEEDED for side in _SIDES)}
    return needed <= template.landmarks.keys() and "eyes" in template.regions


@torch.no_grad()
def insides(template: Template, names: Sequence[str], count: int, seed: int) -> Insides:
    """``count`` points of eyeballs and mouth, and what the coefficients ``names`` do to them. They are drawn evenly,
    over the front of the eyeballs and in the volume of the mouth."""
    eye = int(_EYE * count)
    random = np.random.RandomState(derive_seed(seed, "insides") % 2**32)
    parts = [_eyeball(template, names, side, eye, random) for side in _SIDES]
    parts.append(_mouth(template, names, count - len(_SIDES) * eye, random))
    return Insides(torch.cat([part.points for part in parts]), torch.cat([part.motion for part in parts], 1))


def over_eyes(template: Template, points: Tensor) -> Tensor:  # [N, 3] -> [N] bool
    """Which points of the surface lie over the open eye, where an eyeball is to be seen instead."""
    weights = torch.from_numpy(template.regions["eyes"]).to(points)
    return weights[torch.cdist(points, torch.from_numpy(template.vertices).to(points)).argmin(1)] > _OPEN


def _eyeball(template: Template, names: Sequence[str], side: str, count: int, random: np.random.RandomState) \
        -> Insides:  # fmt: skip
    centre, sign = template.landmarks["eyeCentre" + side], _SIDES[side]
    own = template.vertices[(template.regions["eyes"] > _OPEN) & (sign * template.vertices[:, 0] > 0)]
    radius = np.median(np.linalg.norm(own - centre, axis=1))
    height, angle = random.uniform(math.cos(_CAP), 1, count), random.uniform(0, 2 * math.pi, count)  # even by area
    ring = np.sqrt(1 - height**2)
    arm = _float(radius * np.stack([ring * np.cos(angle), ring * np.sin(angle), height], 1))
    motion = torch.zeros(len(names), count, MOTION)
    for row, name in enumerate(names):
        turn = _TURNS.get(canonical(name).removesuffix(side)) if canonical(name).endswith(side) else None
        if turn is not None:
            axis = torch.tensor([turn[0], sign * turn[1], 0.0])
            motion[row] = _rigid(axis_angle_to_matrix(_GAZE * axis), arm)
    return Insides(_float(centre) + arm, motion)


def _mouth(template: Template, names: Sequence[str], count: int, random: np.random.RandomState) -> Insides:
    """Half an ellipsoid, round at the front, around the line between the lips."""
    middle = np.array([0.0, template.landmarks["mouthCornerLeft"][1],
                       template.landmarks["mouthCentre"][2] - _BEHIND - _HALF[2]])  # fmt: skip
    direction, radius = random.randn(count, 3), random.rand(count, 1) ** (1 / 3)
    unit = radius * direction / np.linalg.norm(direction, axis=1, keepdims=True)
    unit[:, 2] = np.abs(unit[:, 2])
    points, lower = _float(middle + np.array(_HALF) * unit), torch.from_numpy(unit[:, 1] < 0)
    chin, motion = _float(template.landmarks["chin"])[None], torch.zeros(len(names), count, MOTION)
    follows = [row for row, name in enumerate(names) if canonical(name) in _JAW]
    if follows:  # all of the chin follows the jaw, so where it goes and how it turns is where the teeth go
        at_chin = template_motion(template, [names[row] for row in follows], chin)
        moved, turned = displaced(chin, torch.tensor([[1.0, 0, 0, 0]]), at_chin)
        for row, shift, quat in zip(follows, moved[:, 0] - chin, turned[:, 0], strict=True):
            motion[row, lower] = _rigid(quat_to_rotmat(quat), points[lower] - chin, shift)
    return Insides(points, motion)


def _rigid(turn: Tensor, arm: Tensor, shift: Tensor | float = 0.0) -> Tensor:  # [3, 3], [N, 3], [3] -> [N, 6]
    """The motions of points at ``arm`` from a pivot that is shifted and around which they turn."""
    return as_motion(arm @ turn.T - arm + shift, matrix_to_quat(turn).expand(len(arm), 4))


def _float(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(array)).float()
