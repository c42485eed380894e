"""What the template's blendshapes do where a Gaussian is born: the start of an avatar's motion basis.

The Gaussian is bound to the point of the template's surface below it. For each coefficient its motion is the offset of
that point and the rotation of the surface there, both at weight one, so that blending them is what the blendshapes do:
exactly for the offsets, to about a tenth of a degree for the rotations.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from gghead.animation.sliders import Sliders
from gghead.animation.surface import MovingSurface, Places, moving_surface
from gghead.models.motion import MOTION, as_motion
from gghead.template import Template
from gghead.torch_utils.errors import UserError

_WEIGHT = 0.5  # at which rotations are taken: they are no linear function of it, and usual expressions lie around it
_AT_ONCE = 2048  # points


def unmoved(template: Template, names: Sequence[str]) -> tuple[str, ...]:
    """The coefficients that the template has no shape for. Raises ``UserError`` where it has none for any."""
    table = _table(template, names)
    return tuple(name for name, row in zip(names, table, strict=True) if not bool(row.any()))


def has_shapes(template: Template, names: Sequence[str]) -> bool:
    """Whether the template has a shape for any of the coefficients."""
    return bool(template.blendshapes) and bool(Sliders(moving_surface(template).names).matrix(names).any())


@torch.no_grad()
def template_motion(template: Template, names: Sequence[str], points: Tensor) -> Tensor:  # [N, 3] -> [B, N, 6]
    """Motions of ``points`` (world units, on or near the template) for the coefficients ``names``.

    Coefficients without a shape get zeros. Raises ``UserError`` where the template has a shape for none of them.
    """
    table, surface = _table(template, names), moving_surface(template)
    motions = [_motions(surface, table, part) for part in points.cpu().float().split(_AT_ONCE)]
    return torch.cat([*motions, torch.zeros(len(table), 0, MOTION)], 1).to(points)


def _motions(surface: MovingSurface, table: Tensor, points: Tensor) -> Tensor:
    places = _places(surface, points)
    shift = surface.moved(places, table).offset
    turn = surface.moved(places, _WEIGHT * table).rotation()
    motion = as_motion(shift, turn)
    motion[..., 3:] /= _WEIGHT
    return motion


@torch.no_grad()
def template_uv(template: Template, points: Tensor) -> Tensor:  # [N, 3] -> [N, 2] in [-1, 1]
    """The UV places that points on or near the template lie over."""
    surface = moving_surface(template)
    places = [surface.uv(_places(surface, part)) for part in points.cpu().float().split(_AT_ONCE)]
    return torch.cat([*places, torch.zeros(0, 2)]).to(points)


def _places(surface: MovingSurface, points: Tensor) -> Places:
    nearest = torch.cdist(points, surface.positions).argmin(1)
    return surface.below(points, surface.vertex_uv[nearest])


def _table(template: Template, names: Sequence[str]) -> Tensor:  # [B, K]: which shapes a coefficient mixes
    table = Sliders(moving_surface(template).names).matrix(names)
    if not table.any():
        said = f"has the coefficients {', '.join(names[:3])} …" if names else "does not name its coefficients"
        raise UserError(f"--motion=blendshapes needs coefficients with names of ARKit or ICT-FaceKit (jawOpen, "
                        f"eyeBlink_L), but the sequence {said}; use --motion=features.")
    return table
