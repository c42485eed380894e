"""What mirrored regions of a face share.

A coarse UV grid of feature bases, added to the Gaussians' own.

A Gaussian takes what the grid says at its place (u, v) of the template for the coefficients e, and
what it says at (1 - u, v) for the mirrored coefficients, in which left and right are exchanged. The
sum H obeys H(e, u) = H(mirrored e, 1 - u): what one side of the face learns, the other side knows.
Sides that differ do so by the Gaussians' own bases.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gghead.template.sliders import canonical, mirror_name
from gghead.torch_utils.errors import UserError


def mirror_order(names: Sequence[str]) -> list[int]:
    """For each coefficient the index of the same thing on the other side.

    Raises ``UserError`` without any pair.
    """
    own = {canonical(name): index for index, name in enumerate(names)}
    order = [own.get(mirror_name(canonical(name)), index) for index, name in enumerate(names)]
    if order == list(range(len(order))):
        raise UserError(
            "`mirrored_grid` needs coefficients with a left and a right side in their names"
            " (eyeBlinkLeft, mouthSmile_R), but this sequence names none; leave it out."
        )
    return order


class MirroredGrid(nn.Module):
    """``grid(expression, anchors) -> features``; everything is zero at first."""

    order: Tensor  # [B] where each coefficient's other side stands

    def __init__(self, names: Sequence[str], features: int, side: int) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(len(names), features, side, side))
        self.register_buffer("order", torch.tensor(mirror_order(names)), persistent=False)

    # [T, B], [N, 2] in [-1, 1] -> [T, N, F]
    def forward(self, expression: Tensor, anchors: Tensor) -> Tensor:
        frames = len(expression)
        both = torch.cat([expression, expression[:, self.order]])
        maps = (both @ self.values.flatten(1)).unflatten(1, self.values.shape[1:])  # [2 T, F, R, R]
        # [2, N, 1, 2]
        places = torch.stack([anchors, anchors * anchors.new_tensor([-1.0, 1.0])])[:, :, None]
        places = places.repeat_interleave(frames, 0)
        # [2 T, F, N]
        found = F.grid_sample(maps, places, padding_mode="border", align_corners=False)[..., 0]
        return (found[:frames] + found[frames:]).transpose(1, 2)
