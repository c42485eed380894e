"""Expression coefficients as blendshapes, and the binding of Gaussians to the template's surface.

The Gaussian is bound to the point of the template's surface below it. For each coefficient its
motion is the offset of that point and the rotation of the surface there, both at weight one, so
that blending them is what the blendshapes do: exactly for the offsets, to about a tenth of a degree
for the rotations.

Means take the offset of the surface below them, rotations the rotation of its deformation gradient,
scales its stretch. Where it is squeezed to a line (an eye under its lid) or torn (between parting
lips) splats fade, and behind parting lips a dark sheet shows (``gghead.animation.mouth``).
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gghead.animation.mouth import open_mouth, parted_share
from gghead.animation.surface import MovingSurface, Places, moving_surface
from gghead.gaussians import Gaussians
from gghead.models.motion import MOTION, as_motion
from gghead.template import Template
from gghead.template.sliders import Sliders
from gghead.torch_utils.errors import UserError

# at which rotations are taken: they are no linear function of it, and usual expressions lie around
# it
_WEIGHT = 0.5
_AT_ONCE = 2048  # points


def names_without_shapes(template: Template, names: Sequence[str]) -> tuple[str, ...]:
    """The coefficients that the template has no shape for.

    Raises ``UserError`` where it has none for any.
    """
    table = _table(template, names)
    return tuple(name for name, row in zip(names, table, strict=True) if not bool(row.any()))


def has_shapes(template: Template, names: Sequence[str]) -> bool:
    """Whether the template has a shape for any of the coefficients."""
    return bool(template.blendshapes) and bool(
        Sliders(moving_surface(template).names).matrix(names).any()
    )


@torch.no_grad()
# [N, 3] -> [B, N, 6]
def template_motion(template: Template, names: Sequence[str], points: Tensor) -> Tensor:
    """Motions of ``points`` (world units, on or near the template) for the coefficients ``names``.

    Coefficients without a shape get zeros. Raises ``UserError`` where the template has a shape for
    none of them.
    """
    table, surface = _table(template, names), moving_surface(template)
    motions = [_motions(surface, table, part) for part in points.cpu().float().split(_AT_ONCE)]
    return torch.cat([*motions, torch.zeros(len(table), 0, MOTION)], 1).to(points)


def _motions(surface: MovingSurface, table: Tensor, points: Tensor) -> Tensor:
    places = _places(surface, points)
    shift = surface.motion_of(places, table).offset
    turn = surface.motion_of(places, _WEIGHT * table).rotation()
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


# [B, K]: which shapes a coefficient mixes
def _table(template: Template, names: Sequence[str]) -> Tensor:
    table = Sliders(moving_surface(template).names).matrix(names)
    if not table.any():
        said = (
            f"has the coefficients {', '.join(names[:3])} …"
            if names
            else "does not name its coefficients"
        )
        raise UserError(
            "`motion='blendshapes'` needs coefficients with names of ARKit or ICT-FaceKit (jawOpen,"
            f" eyeBlink_L), but the sequence {said}; use `motion='features'`."
        )
    return table


# Chosen by looking at heads of 64 x 64 to 192 x 192 Gaussians.
_SQUEEZED = 0.3  # share of its area at which a patch of surface begins to fade
_BEHIND = 0.015  # world units that it moves in below its neighbors meanwhile
_STRETCHED = 2.5  # most that scales grow


def pose(
    head: Gaussians,  # [1 or T, N]
    weights: Tensor,  # [T, K]
    surface: MovingSurface,
) -> Gaussians:  # [T, N or more]
    """Move ``head`` by ``weights`` of ``surface.names``; zero weights give it back bit for bit.

    The Gaussians of the mouth's inside are appended where lips part. Where ``features`` tells head
    (1) from background (0), the background stays. Differentiable in the weights and in everything
    of the head.

    Raises ``UserError`` for Gaussians without UV places, ``ValueError`` for batches that do not
    fit.
    """
    posed, left, inside = carry_gaussians(head, weights, surface)
    posed = replace(posed, opacities=posed.opacities * left[..., 0])
    return posed if inside is None else Gaussians.merge([posed, inside])


def carry_gaussians(
    head: Gaussians, weights: Tensor, surface: MovingSurface
) -> tuple[Gaussians, Tensor, Gaussians | None]:
    """Move the head's own Gaussians [T, N], and fade what parting lips leave [T, N, 1].

    Returns both and the mouth's inside, if there is any. Raises as ``pose`` does.
    """
    if head.uv is None:
        raise UserError(
            "These Gaussians have no UV places, so blendshapes cannot move them; heads of a"
            " generator, an inversion or a reconstructor have them, splats from a .ply do not."
        )
    if len(head.shape) != 1 or head.shape[0] not in (1, len(weights)):
        raise ValueError(
            f"Weights of {len(weights)} frames move one head or as many heads, but the batch shape"
            f" of these Gaussians is {list(head.shape)}."
        )
    places = surface.below(head.means, head.uv)
    if head.features is not None:
        places = replace(places, follows=places.follows * (head.features[..., :1] > 0.5))
    motion = surface.motion_of(places, weights)
    squeezed = (motion.area / _SQUEEZED).clamp(0, 1)
    posed = motion.carry(head, most=_STRETCHED)
    posed = replace(
        posed,
        means=posed.means - _BEHIND * (1 - squeezed) * motion.normal,
        opacities=posed.opacities * squeezed[..., 0],
    )
    return posed, parted_share(places, motion, surface), open_mouth(head, places, surface, weights)
