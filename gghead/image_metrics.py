"""Distances between images, as measured and as trained on: PSNR, SSIM, gradient pyramids.

Needs no download, so it is what is used where nobody names a perceptual network. Every loss is one
number per image.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from gghead.image_loss_config import ImageLossConfig
from gghead.torch_utils.errors import UserError

_WINDOW, _SIGMA = 11, 1.5  # of Wang et al. 2004
_C1, _C2 = 0.01**2, 0.03**2  # for a range of 1


def psnr(
    first: Tensor,  # [..., C, H, W] in [0, 1]
    second: Tensor,  # same
    mask: Tensor | None = None,  # [..., 1, H, W] weights in [0, 1]
) -> Tensor:  # [...] dB
    """Peak signal-to-noise ratio for a peak of 1.

    Values are clamped to [0, 1] first; equal images give 100 dB. With ``mask`` the squared error is
    the weighted mean over it. Raises ``ValueError`` for unequal shapes, ``UserError`` for an empty
    mask.
    """
    _check(first, second, mask)
    error = (first.clamp(0, 1) - second.clamp(0, 1)).square().mean(-3, keepdim=True)
    return -10.0 * _mean(error, mask).clamp_min(1e-10).log10()


def ssim(
    first: Tensor,  # [..., C, H, W] in [0, 1]
    second: Tensor,  # same
    mask: Tensor | None = None,  # [..., 1, H, W] weights in [0, 1]
) -> Tensor:  # [...]
    """Structural similarity, mean over channels.

    Wang et al. 2004: a Gaussian window of 11 pixels, sigma 1.5. Windows lie wholly inside the
    image, so the outer 5 pixels have none; with ``mask`` the map is averaged with the mask's
    weights at the windows' centers. Raises what ``psnr`` raises, and ``UserError`` for images
    smaller than the window.
    """
    _check(first, second, mask)
    height, width = first.shape[-2:]
    if min(height, width) < _WINDOW:
        raise UserError(
            f"SSIM needs images of at least {_WINDOW}x{_WINDOW} pixels, but these are"
            f" {width}x{height}."
        )
    x, y = (
        first.clamp(0, 1).reshape(-1, 1, height, width),
        second.clamp(0, 1).reshape(-1, 1, height, width),
    )
    moments = _blur(torch.cat([x, y, x * x, y * y, x * y], dim=1))
    mean_x, mean_y, xx, yy, xy = moments.unbind(1)
    var_x, var_y, cov = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
    values = (
        (2 * mean_x * mean_y + _C1)
        * (2 * cov + _C2)
        / ((mean_x**2 + mean_y**2 + _C1) * (var_x + var_y + _C2))
    )
    values = values.reshape(*first.shape[:-2], *values.shape[-2:]).mean(-3, keepdim=True)
    border = _WINDOW // 2
    return _mean(
        values,
        None if mask is None else mask[..., border : height - border, border : width - border],
    )


def _blur(planes: Tensor) -> Tensor:  # [B, C, H, W] -> [B, C, H - 10, W - 10]
    channels = planes.shape[1]
    offset = torch.arange(_WINDOW, dtype=planes.dtype, device=planes.device) - _WINDOW // 2
    taps = (-0.5 * (offset / _SIGMA).square()).exp()
    taps = (taps / taps.sum()).expand(channels, 1, 1, -1)
    return F.conv2d(F.conv2d(planes, taps, groups=channels), taps.transpose(2, 3), groups=channels)


def _mean(values: Tensor, weights: Tensor | None) -> Tensor:  # [..., 1, H, W] -> [...]
    if weights is None:
        return values.mean((-3, -2, -1))
    total = weights.sum((-3, -2, -1))
    if (total <= 0).any():
        raise UserError(
            "A mask is empty, so nothing can be measured inside it; mend it or measure the whole"
            " image."
        )
    return (values * weights).sum((-3, -2, -1)) / total


def _check(first: Tensor, second: Tensor, mask: Tensor | None) -> None:
    if first.shape != second.shape or first.ndim < 3:
        raise ValueError(
            "Images to compare must have one shape [..., C, H, W], but these have"
            f" {list(first.shape)} and {list(second.shape)}."
        )
    if mask is not None and mask.shape != (*first.shape[:-3], 1, *first.shape[-2:]):
        raise ValueError(
            f"The mask must have the shape {[*first.shape[:-3], 1, *first.shape[-2:]]}, but it has "
            f"{list(mask.shape)}."
        )


_SMALLEST = 8  # pixels a side of the coarsest level


# [B, 3, H, W] twice -> [B]
def image_loss(shown: Tensor, wanted: Tensor, config: ImageLossConfig) -> Tensor:
    """Pixel and gradient differences over a pyramid of halved images."""
    difference, total, levels = shown - wanted, 0.0, 0
    while True:
        total = (
            total
            + config.l1 * _mean_each(difference.abs())
            + config.l2 * _mean_each(difference.square())
        )
        total = total + config.gradient * (
            _mean_each((difference[..., 1:] - difference[..., :-1]).abs())
            + _mean_each((difference[..., 1:, :] - difference[..., :-1, :]).abs())
        )
        levels += 1
        if min(difference.shape[-2:]) < 2 * _SMALLEST:
            return total / levels
        # linear, so pooling the difference is pooling both
        difference = F.avg_pool2d(difference, 2)


def _mean_each(values: Tensor) -> Tensor:  # [B, ...] -> [B]
    return values.flatten(1).mean(1)
