"""The one color behind all heads of a set: found by the outlines, and taken off.

At the outline an image may already be a mixture of head and backdrop. Multiplying it by its mask
once more lets the backdrop shine through a second time; on renders over white that alone costs 29
dB inside the mask. Images that hold the head's own color up to the outline (straight alpha) may
have a plain color beyond it all the same: there the product is right, and taking a backdrop off
would blacken the outline. So the outline itself is asked.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LOOKED_AT = 16  # images
_FAR = 4  # pixels from the mask, beyond which a JPEG's ringing has ended
_SAME = 2.5  # of 255: how far the backdrop's pixels may lie from their median
_PARTIAL, _SOLID = (0.05, 0.95), 0.95  # alpha of outlines, and of what is as good as opaque
_REACH = 2  # pixels from an outline to the solid head whose color it should have


# uint8 [3, H, W], [1, H, W] -> [3]
def find_backdrop(images: Iterable[tuple[Tensor, Tensor]]) -> Tensor | None:
    """The one color in [0, 1] that all outlines are mixed with.

    ``None`` where what is behind the heads differs, and where outlines have the color of the head
    beside them.
    """
    behind, outlines = [], []
    for rgb, alpha in images:
        near = F.max_pool2d(alpha[None].float(), 2 * _FAR + 1, 1, _FAR)[0, 0]
        if bool((near == 0).any()):
            behind.append(rgb[:, near == 0].float())
            outlines.append(_outline(rgb.float() / 255, alpha.float() / 255))
    if not behind:
        return None
    behind = torch.cat(behind, 1)
    color = behind.median(1).values
    if (behind - color[:, None]).abs().mean() > _SAME:
        return None
    seen, coverage, head = (torch.cat(parts, 1) for parts in zip(*outlines, strict=True))
    backdrop = color / 255
    mixed = head * coverage + backdrop[:, None] * (1 - coverage)
    return backdrop if (seen - mixed).abs().sum() <= (seen - head).abs().sum() else None


def describe_backdrop(backdrop: Tensor) -> str:
    """What people are told of it."""
    shown = " ".join(f"{255 * float(value):.0f}" for value in backdrop)
    return f"all images have the backdrop {shown}, which is taken off exactly"


def _outline(rgb: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # [3, n], [1, n], [3, n]
    """Color and alpha of partly covered pixels, and the mean color of the solid head beside."""
    solid = (alpha >= _SOLID).float()
    pooled = nn.AvgPool2d(2 * _REACH + 1, stride=1, padding=_REACH)
    share = pooled(solid)
    head = pooled(rgb * solid) / share.clamp_min(1e-6)
    chosen = ((alpha > _PARTIAL[0]) & (alpha < _PARTIAL[1]) & (share > 0))[0]
    return rgb[:, chosen], alpha[:, chosen], head[:, chosen]


# [..., 3, H, W], [..., 1, H, W]
def foreground(rgb: Tensor, alpha: Tensor, backdrop: Tensor | None) -> Tensor:
    """Colors times coverage, in [0, 1]: what is left over black.

    Add ``(1 - alpha) * color`` to put it over one.
    """
    if backdrop is None:
        return rgb * alpha
    return (rgb - (1 - alpha) * backdrop[:, None, None].to(rgb)).clamp_min(0)


# uint8 [3, H, W], [1, H, W] -> [3, H, W]
def own_colors(rgb: Tensor, alpha: Tensor, backdrop: Tensor) -> Tensor:
    """The head's own colors, not mixed with the backdrop.

    Where alpha is zero the image stays as it is.

    Eight bits suffice: put over any color, the error is that of rounding the mixture.
    """
    coverage = alpha.float() / 255
    own = foreground(rgb.float() / 255, coverage, backdrop) / coverage.clamp_min(1 / 255)
    return torch.where(alpha > 0, (255 * own.clamp_max(1)).round().byte(), rgb)
