"""Expressions without training: the blendshapes of the template move the Gaussians of any head that lives on it.

Means take the offset of the surface below them, rotations the rotation of its deformation gradient, scales its
stretch. Where it is squeezed to a line (an eye under its lid) or torn (between parting lips) splats fade, and behind
parting lips a dark sheet shows (``gghead.animation.mouth``).
"""

from dataclasses import replace

from torch import Tensor

from gghead.animation.mouth import opened, parted
from gghead.animation.surface import MovingSurface
from gghead.gaussians import Gaussians
from gghead.torch_utils.errors import UserError

# Chosen by looking at heads of 64 x 64 to 192 x 192 Gaussians.
_SQUEEZED = 0.3  # share of its area at which a patch of surface begins to fade
_BEHIND = 0.015  # world units that it moves in below its neighbours meanwhile
_STRETCHED = 2.5  # most that scales grow


def pose(
    head: Gaussians,  # [1 or T, N]
    weights: Tensor,  # [T, K]
    surface: MovingSurface,
) -> Gaussians:  # [T, N or more]
    """Move ``head`` by ``weights`` of ``surface.names``; zero weights give it back bit for bit.

    The Gaussians of the mouth's inside are appended where lips part. Where ``features`` tells head (1) from background
    (0), the background stays. Differentiable in the weights and in everything of the head.

    Raises ``UserError`` for Gaussians without UV places and for batches that do not fit.
    """
    posed, left, inside = carried(head, weights, surface)
    posed = replace(posed, opacities=posed.opacities * left[..., 0])
    return posed if inside is None else Gaussians.merge([posed, inside])


def carried(head: Gaussians, weights: Tensor, surface: MovingSurface) -> tuple[Gaussians, Tensor, Gaussians | None]:
    """The parts of :func:`pose`: the head's own Gaussians [T, N] moved, what parting lips leave of each [T, N, 1], and
    the mouth's inside if there is any. Raises as it does."""
    if head.uv is None:
        raise UserError("These Gaussians have no UV places, so blendshapes cannot move them; heads of a generator, an "
                        "inversion or a reconstructor have them, splats from a .ply do not.")
    if len(head.shape) != 1 or head.shape[0] not in (1, len(weights)):
        raise UserError(f"Weights of {len(weights)} frames move one head or as many heads, but the batch shape of "
                        f"these Gaussians is {list(head.shape)}.")
    places = surface.below(head.means, head.uv)
    if head.features is not None:
        places = replace(places, follows=places.follows * (head.features[..., :1] > 0.5))
    motion = surface.moved(places, weights)
    squeezed = (motion.area / _SQUEEZED).clamp(0, 1)
    posed = motion.carry(head, most=_STRETCHED)
    posed = replace(posed, means=posed.means - _BEHIND * (1 - squeezed) * motion.normal,
                    opacities=posed.opacities * squeezed[..., 0])
    return posed, parted(places, motion, surface), opened(head, places, surface, weights)
