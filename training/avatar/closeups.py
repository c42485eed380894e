"""Mouths or eyes of several avatars beside the truth, cut out of chosen frames: what means over frames do not show."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gghead.animation.frames import Frames
from gghead.animation.player import Player
from gghead.models.avatar import AvatarModel
from gghead.sheets import with_labels
from gghead.torch_utils.errors import UserError
from gghead.training import images
from gghead.training.avatar.score import region_masks

_SIZES = {"mouth": (144, 144), "eyes": (192, 84)}  # width and height of a cut-out in pixels


@torch.no_grad()
def closeups(avatars: Sequence[AvatarModel], labels: Sequence[str], frames: Frames, chosen: Sequence[int],
             region: str) -> np.ndarray:  # uint8 [H, W, 3]
    """A column per chosen frame (its place in ``frames``); a row for the truth and one per avatar.

    ``region`` is a key of ``score.REGIONS``. Raises ``UserError`` for frames that there are not or whose landmarks are
    missing.
    """
    players, rows = [Player(avatar) for avatar in avatars], [[] for _ in range(1 + len(avatars))]
    for index in chosen:
        if not 0 <= index < len(frames):
            raise UserError(f"There is no frame {index} to cut out of; the frames are 0 to {len(frames) - 1}.")
        mask = region_masks(frames, index).get(region)
        if mask is None:
            raise UserError(f"Frame {index} has no {region} to cut out: it is out of sight, or the sequence has no 68 "
                            "landmarks.")
        shown = [player.draw(frames.expression[index][: player.avatar.config.width], frames.camera(index), frames.size)
                 for player in players]  # avatars of fewer coefficients take the first
        for row, picture in zip(rows, [frames.over(index), *shown], strict=True):
            row.append(_cut_out(picture.cpu(), mask[0], *_SIZES[region]))
    sheet = images.make_grid(torch.cat([torch.stack(row) for row in rows]) * 2 - 1, (len(chosen), len(rows)))
    return with_labels(sheet, [str(index) for index in chosen], ["truth", *labels])


def _cut_out(picture: Tensor, mask: Tensor, width: int, height: int) -> Tensor:  # [3, H, W], [H, W] -> [3, h, w]
    """The smallest rectangle of this shape around the mask that lies in the picture, at this size."""
    shape, lines = (height, width), (mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0])
    scale = max(len(line) / side for line, side in zip(lines, shape, strict=True))
    scale = min(scale, *(most / side for most, side in zip(mask.shape, shape, strict=True)))
    parts = []
    for line, side, most in zip(lines, shape, mask.shape, strict=True):
        count = min(max(round(scale * side), 1), most)
        first = int((line[0] + line[-1] + 1 - count) // 2)
        first = min(max(first, 0), most - count)
        parts.append(slice(first, first + count))
    return F.interpolate(picture[None, :, *parts], shape, mode="bicubic", align_corners=False)[0].clamp(0, 1)
