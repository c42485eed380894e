"""How coefficients move an avatar's Gaussians: a motion basis, blended like the features.

A Gaussian's motion is six numbers per coefficient, a shift and a turn, summed up with the coefficients as weights. It
may start as what the blendshapes of the template do at the point of its surface where the Gaussian was born
(``gghead.animation.binding``), or at zero; pictures then correct it. Linear blendshapes of Gaussians are those of Ma et
al., "3D Gaussian Blendshapes for Head Avatar Animation" (SIGGRAPH 2024); here appearance stays HeadGaS's.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from gghead.rotations import quat_multiply

MOTION = 6
"""Numbers of a motion: the shift in units, then the turn as axis times tan(angle / 2)."""
UNIT = 0.01
"""World units of a shift of one, so that one learning rate suits shifts and turns."""
_STEEP = 0.5  # least cosine of half an angle that turns are taken from: beyond 120 degrees they stay there


def displaced(means: Tensor, quats: Tensor, motion: Tensor) -> tuple[Tensor, Tensor]:
    """Means [N, 3] and rotations [N, 4] after motions [T, N, 6] -> [T, N, 3], [T, N, 4]; zero motions change no bit."""
    turn = F.normalize(torch.cat([torch.ones_like(motion[..., :1]), motion[..., 3:]], -1), dim=-1)
    return means + UNIT * motion[..., :3], quat_multiply(turn, quats.expand(*turn.shape))


def as_motion(shift: Tensor, rotation: Tensor) -> Tensor:  # [..., 3] world units, [..., 4] unit quaternions -> [..., 6]
    """The motion that shifts and turns by this much."""
    sign = torch.where(rotation[..., :1] < 0, -1.0, 1.0)
    return torch.cat([shift / UNIT, rotation[..., 1:] * sign / (rotation[..., :1] * sign).clamp_min(_STEEP)], -1)
