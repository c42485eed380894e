"""What shows between parting lips.

A dark sheet behind them, on the faces of the template that an open jaw tears.
"""

import functools
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gghead import sh
from gghead.animation.surface import Motion, MovingSurface, Places
from gghead.gaussians import Gaussians
from gghead.rotations import matrix_to_quat

_OPENING = "jawOpen"  # the blendshape whose torn faces are the inside of the mouth
_SLIT = 2.0  # stretch at weight one from which a face lies between the lips
_SHOWN = (1.05, 1.4)  # stretch at which the sheet begins to show, and at which it is opaque
_DEPTH = 0.03  # world units that it lies behind the lips
# its color at the upper and at the lower lip, as a share of the lips' mean color
_SHADES = (0.3, 0.65)
_RINGS = 2  # rings of faces around the slit that it reaches under: a head's lips may meet elsewhere
_OVERLAP = 2.5  # of its splats
# stretch at which splats between the lips begin to fade, and at which they are gone
_PARTED = (1.5, 2.5)


@dataclass(frozen=True)
class Cavity:
    """The sheet at rest, on the template."""

    slit: Tensor  # [F] bool: faces between the lips
    places: Places  # [M]
    sheet: Gaussians  # [M], colors are shares of the lips' color


@functools.lru_cache(maxsize=4)
def cavity_of(surface: MovingSurface) -> Cavity | None:
    """The sheet of a template.

    None where nothing tears (no such blendshape, or lips that are no slit).
    """
    if _OPENING not in surface.names:
        return None
    new, count = surface.positions.new_ones, len(surface.faces)
    centers = Places(
        torch.arange(count, device=surface.faces.device), new(count, 3) / 3, new(count, 1)
    )
    weights = new(len(surface.names)) * 0
    weights[surface.names.index(_OPENING)] = 1.0
    slit = surface.motion_of(centers, weights).stretch()[:, 0] > _SLIT
    if not bool(slit.any()):
        return None
    wide = slit
    for _ in range(_RINGS):
        wide = torch.isin(surface.faces, surface.faces[wide]).any(1)
    torn = wide.nonzero()[:, 0]
    # the middles of a face's four quarters
    bary = torch.cat([new(3, 3) / 6 + new(3).diag() / 2, new(1, 3) / 3])
    places = Places(torn.repeat_interleave(4), bary.repeat(len(torn), 1), new(4 * len(torn), 1))
    corners = surface.positions[surface.faces[places.face]]
    arms = corners - corners.mean(1, keepdim=True)
    # Covariance of an even triangle, a quarter of its area for each splat.
    variances, axes = torch.linalg.eigh(arms.mT @ arms / 48)
    axes = axes * torch.linalg.det(axes).sign()[:, None, None]
    scales = _OVERLAP * variances.clamp_min(0).sqrt()
    scales = torch.cat([0.2 * scales[:, 1:2], scales[:, 1:]], 1)  # flat, but not infinitely thin
    points = surface.point(places)
    height = points[:, 1:2]
    down = ((height.max() - height) / (height.max() - height.min())).clamp(0, 1)
    shades = (_SHADES[0] + (_SHADES[1] - _SHADES[0]) * down).expand(-1, 3)
    return Cavity(
        slit,
        places,
        Gaussians(points, matrix_to_quat(axes), scales, torch.ones_like(down[:, 0]), shades),
    )


# [..., N, 1] in [0, 1]
def parted_share(places: Places, motion: Motion, surface: MovingSurface) -> Tensor:
    """What is left of splats: those between the lips fade when these part."""
    cavity, (begin, end) = cavity_of(surface), _PARTED
    left = ((end - motion.stretch()) / (end - begin)).clamp(0, 1)
    return (
        torch.ones_like(left)
        if cavity is None
        else torch.where(cavity.slit[places.face][..., None], left, 1.0)
    )


def open_mouth(
    head: Gaussians, places: Places, surface: MovingSurface, weights: Tensor
) -> Gaussians | None:
    """The sheets [T, M] of ``head`` [1 or T, N] (at rest) for weights [T, K].

    None where all mouths are shut.

    It lies behind the head's own lips, wherever they stand off the template, and has their color,
    darkened.
    """
    cavity = cavity_of(surface)
    if cavity is None:
        return None
    motion = surface.motion_of(cavity.places, weights)
    low, high = _SHOWN
    stretch = torch.where(cavity.slit[cavity.places.face][:, None], motion.stretch(), 1.0).amax(
        (-2, -1)
    )
    shown = ((stretch - low) / (high - low)).clamp(0, 1)[:, None]  # [T, 1]
    if not bool((shown > 0).any()):
        return None
    # [B, N]
    lips = (surface.lips[surface.faces[places.face]] * places.bary).sum(-1) * head.opacities
    share = (lips / lips.sum(-1, keepdim=True).clamp_min(1e-6))[..., None]
    colors = head.colors if head.sh_degree is None else sh.dc_to_rgb(head.colors[..., 0, :])
    color = (share * colors).sum(-2, keepdim=True)
    # How far forward the lips stand: their height over the surface, measured along z.
    normal = surface.motion_of(places, torch.zeros_like(weights[:1])).normal
    height = ((head.means - surface.point(places)) * normal).sum(-1, keepdim=True) / normal[
        ..., 2:
    ].clamp_min(0.3)
    back = ((share * height).sum(-2, keepdim=True) - _DEPTH) * normal.new_tensor([0.0, 0.0, 1.0])
    sheet, count = motion.carry(cavity.sheet[None], most=math.inf), len(weights)
    return replace(
        sheet,
        means=sheet.means + back,
        opacities=shown * sheet.opacities,
        colors=color * sheet.colors,
        uv=surface.uv(cavity.places).expand(count, -1, -1),
        features=(
            None
            if head.features is None
            else torch.ones_like(head.features[..., :1, :]).expand(count, sheet.num, -1)
        ),
    )
