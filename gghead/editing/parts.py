"""Named parts of the template as soft masks in UV.

"nose", "mouth", "left eye", … at any resolution.

Small parts are ellipsoids around the template's landmarks, large ones its own soft regions. Left
and right are the subject's.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gghead.template import Template
from gghead.template.texels import TexelMaps, texel_maps
from gghead.torch_utils.errors import UserError

_BAKED = 256  # masks are drawn at this resolution and averaged down: a texel is covered in part

# Part -> landmarks whose bounding box the ellipsoid is put around, and what is added to its half
# axes, world units.
_ELLIPSOIDS = {
    "nose": (
        ("noseBridge", "noseTip", "noseBase", "noseWingLeft", "noseWingRight"),
        (0.018, 0.022, 0.060),
    ),
    "mouth": (
        ("mouthCornerLeft", "mouthCornerRight", "upperLip", "lowerLip"),
        (0.025, 0.024, 0.080),
    ),
    "chin": (("chin",), (0.095, 0.048, 0.120)),
    "left eye": (
        ("eyeInnerLeft", "eyeOuterLeft", "lidTopLeft", "lidBottomLeft"),
        (0.014, 0.022, 0.080),
    ),
    "right eye": (
        ("eyeInnerRight", "eyeOuterRight", "lidTopRight", "lidBottomRight"),
        (0.014, 0.022, 0.080),
    ),
    "left brow": (("browInnerLeft", "browMiddleLeft", "browOuterLeft"), (0.012, 0.016, 0.080)),
    "right brow": (("browInnerRight", "browMiddleRight", "browOuterRight"), (0.012, 0.016, 0.080)),
    "left cheek": (("cheekLeft",), (0.060, 0.070, 0.090)),
    "right cheek": (("cheekRight",), (0.060, 0.070, 0.090)),
    "forehead": (("forehead", "browOuterLeft", "browOuterRight"), (0.030, 0.045, 0.080)),
}
_UNIONS = {
    "eyes": ("left eye", "right eye"),
    "brows": ("left brow", "right brow"),
    "cheeks": ("left cheek", "right cheek"),
}
_REGIONS = {"ears": "ears", "hair": "scalp", "face": "face", "neck": "neck"}


def part_names(template: Template) -> list[str]:
    """Parts that the template has landmarks or regions for."""
    found = [
        name
        for name, (marks, _) in _ELLIPSOIDS.items()
        if all(mark in template.landmarks for mark in marks)
    ]
    found += [
        name for name, members in _UNIONS.items() if all(member in found for member in members)
    ]
    return found + [name for name, region in _REGIONS.items() if region in template.regions]


def part_mask(
    template: Template,
    parts: str,  # one part or several joined by +, such as "nose+mouth"
    resolution: int,
    softness: float = 0.35,
) -> Tensor:  # [1, resolution, resolution] in [0, 1]
    """Return the soft mask of ``parts``: their union.

    ``softness`` is the width of the border that fades, as a share of an ellipsoid's radius (0: a
    hard edge); regions have their own soft borders. Raises ``UserError`` for an unknown part.
    """
    known = part_names(template)
    for part in parts.split("+"):
        if part not in known:
            has = ", ".join(known) or "none"
            raise UserError(
                f"The template '{template.name}' has no part '{part}'; its parts are: {has}."
            )
    baked = max(_BAKED, resolution)
    maps = texel_maps(template, baked)
    weight = torch.stack(
        [_weight(template, maps, part, softness) for part in parts.split("+")]
    ).amax(0)
    weight = (weight * maps.mask)[None, None]
    if baked == resolution:
        return weight[0]
    # Texels that lie off the surface are no part of the average.
    area = F.adaptive_avg_pool2d(maps.mask[None, None].float(), resolution)
    return (F.adaptive_avg_pool2d(weight, resolution) / area.clamp_min(1e-6))[0].clamp(0, 1)


def _weight(template: Template, maps: TexelMaps, part: str, softness: float) -> Tensor:  # [R, R]
    if part in _UNIONS:
        return torch.stack(
            [_weight(template, maps, member, softness) for member in _UNIONS[part]]
        ).amax(0)
    if part in _REGIONS:
        values = torch.from_numpy(template.regions[_REGIONS[part]]).float()
        corners = torch.from_numpy(template.faces)[maps.face_index.long().clamp_min(0)]  # [R, R, 3]
        return (values[corners].movedim(-1, 0) * maps.bary).sum(0)
    marks, margin = _ELLIPSOIDS[part]
    points = np.stack([template.landmarks[mark] for mark in marks])
    low, high = points.min(0), points.max(0)
    center = torch.from_numpy((low + high) / 2).float()[:, None, None]
    half = torch.from_numpy((high - low) / 2 + np.asarray(margin)).float()[:, None, None]
    radius = ((maps.position - center) / half).norm(dim=0)  # 1 on the ellipsoid
    if softness <= 0:
        return (radius < 1).float()
    inner = ((1 + softness / 2 - radius) / softness).clamp(0, 1)
    return inner * inner * (3 - 2 * inner)
