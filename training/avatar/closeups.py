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
from torch_utils.errors import UserError
from training import images
from training.avatar.score import region_masks

_SIDE = 144  # pixels of a cut-out


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
            row.append(_square(picture.cpu(), mask[0]))
    sheet = images.make_grid(torch.cat([torch.stack(row) for row in rows]) * 2 - 1, (len(chosen), len(rows)))
    return with_labels(sheet, [str(index) for index in chosen], ["truth", *labels])


def _square(picture: Tensor, mask: Tensor) -> Tensor:  # [3, H, W], [H, W] -> [3, side, side]
    """The smallest square around the mask that lies in the picture, enlarged."""
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    side = min(max(len(rows), len(columns)), *mask.shape)
    top, left = (int((line[0] + line[-1] + 1 - side) // 2) for line in (rows, columns))
    top, left = min(max(top, 0), mask.shape[0] - side), min(max(left, 0), mask.shape[1] - side)
    part = picture[None, :, top : top + side, left : left + side]
    return F.interpolate(part, (_SIDE, _SIDE), mode="bicubic", align_corners=False)[0].clamp(0, 1)
