"""Cutting heads out by their masks: exactly where the colour behind them is known, by the usual product elsewhere.

At the outline a picture may already be a mixture of head and backdrop. Multiplying it by its mask once more lets the
backdrop shine through a second time; on renders over white that alone costs 29 dB inside the mask. Pictures that hold
the head's own colour up to the outline (straight alpha) may have a plain colour beyond it all the same: there the
product is right, and taking a backdrop off would blacken the outline. So the outline itself is asked.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from gghead.torch_utils.errors import UserError

if TYPE_CHECKING:  # a set of frames knows its backdrop
    from gghead.data.frame_set import FrameSet

LOOKED_AT = 16  # pictures
_FAR = 4  # pixels from the mask, beyond which a JPEG's ringing has ended
_SAME = 2.5  # of 255: how far the backdrop's pixels may lie from their median
_PARTIAL, _SOLID = (0.05, 0.95), 0.95  # alpha of outlines, and of what is as good as opaque
_REACH = 2  # pixels from an outline to the solid head whose colour it should have


def find_backdrop(frames: "FrameSet") -> Tensor | None:  # [3] in [0, 1]
    """The one colour behind all heads of a set, or ``None`` where there is none, or no masks to tell.

    Colours beside an alpha channel of their own are not mixtures, whatever stands where alpha is zero.
    """
    if frames.pictures.mask_kind in ("none", "embedded"):
        return None
    indices = torch.linspace(0, len(frames) - 1, min(LOOKED_AT, len(frames))).round().long().tolist()
    return mixed_backdrop(_readable(frames, indices))


def _readable(frames: "FrameSet", indices: list[int]) -> Iterator[tuple[Tensor, Tensor]]:
    """Colours and alpha of frames; those that are broken speak up when they are asked for."""
    for index in indices:
        try:
            frame = frames.get(index)
        except UserError:
            continue
        yield frame.rgb, frame.alpha


def mixed_backdrop(pictures: Iterable[tuple[Tensor, Tensor]]) -> Tensor | None:  # uint8 [3, H, W], [1, H, W] -> [3]
    """The one colour in [0, 1] that all outlines are mixed with; ``None`` where what is behind the heads differs, and
    where outlines have the colour of the head beside them."""
    behind, outlines = [], []
    for rgb, alpha in pictures:
        near = F.max_pool2d(alpha[None].float(), 2 * _FAR + 1, 1, _FAR)[0, 0]
        if bool((near == 0).any()):
            behind.append(rgb[:, near == 0].float())
            outlines.append(_outline(rgb.float() / 255, alpha.float() / 255))
    if not behind:
        return None
    behind = torch.cat(behind, 1)
    colour = behind.median(1).values
    if (behind - colour[:, None]).abs().mean() > _SAME:
        return None
    seen, coverage, head = (torch.cat(parts, 1) for parts in zip(*outlines, strict=True))
    backdrop = colour / 255
    mixed = head * coverage + backdrop[:, None] * (1 - coverage)
    return backdrop if (seen - mixed).abs().sum() <= (seen - head).abs().sum() else None


def describe(backdrop: Tensor) -> str:
    """What people are told of it."""
    shown = " ".join(f"{255 * float(value):.0f}" for value in backdrop)
    return f"all pictures have the backdrop {shown}, which is taken off exactly"


def _outline(rgb: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # [3, n], [1, n], [3, n]
    """Colour and alpha of the pixels that are partly covered, and the mean colour of the solid head beside them."""
    solid = (alpha >= _SOLID).float()
    window = dict(kernel_size=2 * _REACH + 1, stride=1, padding=_REACH)
    share = F.avg_pool2d(solid, **window)
    head = F.avg_pool2d(rgb * solid, **window) / share.clamp_min(1e-6)
    chosen = ((alpha > _PARTIAL[0]) & (alpha < _PARTIAL[1]) & (share > 0))[0]
    return rgb[:, chosen], alpha[:, chosen], head[:, chosen]


def foreground(rgb: Tensor, alpha: Tensor, backdrop: Tensor | None) -> Tensor:  # [..., 3, H, W], [..., 1, H, W]
    """Colours times coverage, in [0, 1]: what is left over black. Add ``(1 - alpha) * colour`` to put it over one."""
    if backdrop is None:
        return rgb * alpha
    return (rgb - (1 - alpha) * backdrop[:, None, None].to(rgb)).clamp_min(0)


def own_colours(rgb: Tensor, alpha: Tensor, backdrop: Tensor) -> Tensor:  # uint8 [3, H, W], [1, H, W] -> [3, H, W]
    """The head's own colours, not mixed with the backdrop; where alpha is zero the picture stays as it is.

    Eight bits suffice: put over any colour, the error is that of rounding the mixture.
    """
    coverage = alpha.float() / 255
    own = foreground(rgb.float() / 255, coverage, backdrop) / coverage.clamp_min(1 / 255)
    return torch.where(alpha > 0, (255 * own.clamp_max(1)).round().byte(), rgb)
