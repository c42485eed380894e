"""What shows between parting lips: a dark sheet behind them, on the faces of the template that an open jaw tears."""

import functools
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gghead.animation.surface import MovingSurface, Places
from gghead.gaussians import Gaussians
from gghead.rendering import sh
from gghead.rotations import matrix_to_quat

_OPENING = "jawOpen"  # the blendshape whose torn faces are the inside of the mouth
_TORN = 2.5  # stretch at weight one from which a face counts as torn
_SHOWN = (1.5, 3.0)  # stretch at which the sheet begins to show, and at which it is opaque
_DEPTH = 0.015  # world units that it lies behind the lips
_SHADE = 0.4  # its colour, as a share of the lips' mean colour
_OVERLAP = 1.8  # of its splats


@dataclass(frozen=True)
class Cavity:
    """The sheet at rest, on the template."""

    places: Places  # [M]
    sheet: Gaussians  # [M], colours not yet known


@functools.lru_cache(maxsize=4)
def cavity_of(surface: MovingSurface) -> Cavity | None:
    """The sheet of a template; None where nothing tears (no such blendshape, or lips that are no slit)."""
    if _OPENING not in surface.names:
        return None
    new, count = surface.positions.new_ones, len(surface.faces)
    centres = Places(torch.arange(count, device=surface.faces.device), new(count, 3) / 3, new(count, 1))
    weights = new(len(surface.names)) * 0
    weights[surface.names.index(_OPENING)] = 1.0
    torn = (surface.moved(centres, weights).stretch()[:, 0] > _TORN).nonzero()[:, 0]
    if not len(torn):
        return None
    bary = (new(3, 3) / 6 + new(3).diag() / 2).repeat(len(torn), 1)  # three places per face
    places = Places(torn.repeat_interleave(3), bary, new(3 * len(torn), 1))
    corners = surface.positions[surface.faces[places.face]]
    arms = corners - corners.mean(1, keepdim=True)
    # Covariance of an even triangle, a third of its area for each of the three splats.
    variances, axes = torch.linalg.eigh(arms.mT @ arms / 36)
    axes = axes * torch.linalg.det(axes).sign()[:, None, None]
    scales = _OVERLAP * variances.clamp_min(0).sqrt()
    scales = torch.cat([0.2 * scales[:, 1:2], scales[:, 1:]], 1)  # flat, but not infinitely thin
    points = surface.point(places)
    ones = torch.ones_like(points)
    return Cavity(places, Gaussians(points, matrix_to_quat(axes), scales, ones[:, 0], ones))


def opened(head: Gaussians, places: Places, surface: MovingSurface, weights: Tensor) -> Gaussians | None:
    """The sheets [T, M] of ``head`` [1 or T, N] (at rest) for weights [T, K]; None where all mouths are shut.

    It lies behind the head's own lips, wherever they stand off the template, and is as dark as their colour asks for.
    """
    cavity = cavity_of(surface)
    if cavity is None:
        return None
    motion = surface.moved(cavity.places, weights)
    low, high = _SHOWN
    shown = ((motion.stretch()[..., 0] - low) / (high - low)).clamp(0, 1)
    if not bool((shown > 0).any()):
        return None
    lips = (surface.lips[surface.faces[places.face]] * places.bary).sum(-1) * head.opacities  # [B, N]
    share = (lips / lips.sum(-1, keepdim=True).clamp_min(1e-6))[..., None]
    colors = head.colors if head.sh_degree is None else sh.dc_to_rgb(head.colors[..., 0, :])
    color = _SHADE * (share * colors).sum(-2, keepdim=True)
    # How far forward the lips stand: their height over the surface, measured along z.
    normal = surface.moved(places, torch.zeros_like(weights[:1])).normal
    height = ((head.means - surface.point(places)) * normal).sum(-1, keepdim=True) / normal[..., 2:].clamp_min(0.3)
    back = ((share * height).sum(-2, keepdim=True) - _DEPTH) * normal.new_tensor([0.0, 0.0, 1.0])
    sheet, count = motion.carry(cavity.sheet[None], most=math.inf), len(weights)
    return replace(sheet, means=sheet.means + back, opacities=shown, colors=color.expand(sheet.colors.shape),
                   uv=surface.uv(cavity.places).expand(count, -1, -1),
                   features=None if head.features is None else torch.ones_like(head.features[..., :1, :]).expand(
                       count, sheet.num, -1))
