"""How coefficients move an avatar's Gaussians: a motion basis, blended like the features.

A Gaussian's motion is six numbers per coefficient, a shift and a turn, summed up with the
coefficients as weights. At birth they are what the blendshapes of the template do at the point of
its surface where the Gaussian is (``gghead.animation.blendshapes``); images then correct them.
Linear blendshapes of Gaussians are those of Ma et al., "3D Gaussian Blendshapes for Head Avatar
Animation" (SIGGRAPH 2024); here appearance stays HeadGaS's.

Stored are reach, how far a coefficient moves a Gaussian, which stays, and where to, in multiples of
it, which is learned. So what the template leaves still stays still: motions without that bound
explained the outlines of hair and shoulders in the training frames by expressions, and whole
images of other frames got worse by 2 dB.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from gghead.rotations import quat_multiply

MOTION = 6
"""Numbers of a motion: the shift in SHIFT, then the turn as axis times tan(angle / 2) in TURN."""
SHIFT = 0.01
"""World units."""
TURN = 0.1
"""What turns by that on an arm of 0.05 world units shifts by SHIFT, so that one rate of learning
suits both."""
# least cosine of half an angle that turns are taken from: beyond 120 degrees they stay there
_STEEP = 0.5


def displace(means: Tensor, quats: Tensor, motion: Tensor) -> tuple[Tensor, Tensor]:
    """Means [N, 3] and rotations [N, 4] after motions [T, N, 6] -> [T, N, 3], [T, N, 4].

    Zero motions change no bit.
    """
    turn = F.normalize(
        torch.cat([torch.ones_like(motion[..., :1]), TURN * motion[..., 3:]], -1), dim=-1
    )
    return means + SHIFT * motion[..., :3], quat_multiply(turn, quats.expand(*turn.shape))


# [..., 3] world units, [..., 4] unit quaternions -> [..., 6]
def as_motion(shift: Tensor, rotation: Tensor) -> Tensor:
    """The motion that shifts and turns by this much."""
    sign = torch.where(rotation[..., :1] < 0, -1.0, 1.0)
    turn = rotation[..., 1:] * sign / (rotation[..., :1] * sign).clamp_min(_STEEP)
    return torch.cat([shift / SHIFT, turn / TURN], -1)


def split(motion: Tensor) -> tuple[Tensor, Tensor]:  # [..., 6] -> [...], [..., 6]
    """Reach and multiples of it; zero motions have none."""
    reach = motion.norm(dim=-1)
    return reach, motion / reach.clamp_min(torch.finfo(motion.dtype).tiny)[..., None]
