"""Front-to-back compositing in plain torch.

The readable specification that every other backend is compared with.

The rules are those of 3D Gaussian Splatting (Kerbl et al. 2023) with the constants of gsplat 1.5.3.
For the Gaussians of an image in the order of their depth (ties in the order of their index), at a
pixel center with offset d from the mean::

    sigma = d^T conic d / 2        alpha = min(0.999, opacity * exp(-sigma))
    skip the pair where sigma < 0 or alpha < 1/255
    leave out a Gaussian with a number that is not finite or a conic that is not positive definite
    stop before a Gaussian that would leave a transmittance T * (1 - alpha) <= 1e-4
    color += alpha * T * c,  T *= 1 - alpha;  at the end: color += T * background, opacity = 1 - T

How it is done: without gradients, list the pairs (Gaussian, pixel) whose alpha reaches 1/255, sort
them by pixel (stable, so that the depth order stays) and drop those behind the stop. Then, with
gradients, blend that list: the transmittance in front of a pair is exp of a running sum of log(1 -
alpha) in float64, taken relative to the pixel's first pair, which is exact to about 1e-9 for any
length of the list.

Cost: time O(pairs * (D + 20)) plus two sorts. The candidates are the pixels inside the ellipse
alpha >= 1/255, so hardly any is listed in vain, except behind the stop. Memory: images are worked
off in bands of pixel rows with at most ``BAND_PAIRS`` candidates (or one row, if a single row has
more), at about 150 bytes a candidate. For gradients the kept pairs of all bands are stored, about
100 bytes each; where there are more than ``STORED_BANDS`` bands only their indices are (16 bytes),
and the blend is repeated in the backward pass.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from gghead.rendering.projection import MIN_ALPHA, MIN_CURVATURE

MAX_ALPHA = 0.999
MIN_TRANSMITTANCE = 1e-4
BAND_PAIRS = 2**18  # larger arrays leave the cache
STORED_BANDS = 64


def composite(
    means2d: Tensor,  # [I, N, 2] pixels
    conics: Tensor,  # [I, N, 3]
    opacities: Tensor,  # [I, N]
    colors: Tensor,  # [I, N, D]
    depths: Tensor,  # [I, N]
    radii: Tensor,  # [I, N, 2] int32, <= 0: culled
    backgrounds: Tensor | None,  # [I, D]
    width: int,
    height: int,
) -> tuple[Tensor, Tensor]:
    """Blend projected Gaussians to colors [I, H, W, D] and alphas [I, H, W, 1].

    See the seam in ``registry.py``.
    """
    images, count, channels = colors.shape
    # One contiguous list per parameter over all Gaussians of all images, so that gathering pairs is
    # sequential work.
    splats = [
        *means2d.reshape(-1, 2).unbind(1),
        *conics.reshape(-1, 3).unbind(1),
        opacities.reshape(-1),
    ]
    splats = [values.contiguous() for values in splats]
    planes = colors.reshape(-1, channels).mT.contiguous()
    usable = _usable(means2d, conics, opacities, colors, depths, radii)
    order = _depth_order(depths, usable)
    bands = list(_bands(order, [s.detach() for s in splats], radii, images, count, width, height))
    repeat_in_backward = torch.is_grad_enabled() and len(bands) > STORED_BANDS
    parts = []
    for ids, pixels, first_row, rows in bands:
        arguments = (
            ids,
            pixels,
            _pixel_centers(first_row, rows, width, height, depths.dtype, depths.device),
            planes,
        )
        if repeat_in_backward:
            parts.append(
                checkpoint(
                    _blend, *arguments, *splats, use_reentrant=False, preserve_rng_state=False
                )
            )
        else:
            parts.append(_blend(*arguments, *splats))
    if not parts:  # no image, so no row of one; the sums keep what is returned differentiable
        return (
            colors.sum() * colors.new_zeros(0, height, width, channels),
            opacities.sum() * colors.new_zeros(0, height, width, 1),
        )
    blended = torch.cat([part[0] for part in parts]).reshape(images, height, width, channels)
    transmittance = torch.cat([part[1] for part in parts]).reshape(images, height, width, 1)
    if backgrounds is not None:
        blended = blended + transmittance * backgrounds[:, None, None]
    return blended, 1 - transmittance


def _alphas(
    ids: Tensor, pixels: Tensor, centers: tuple[Tensor, Tensor], *splats: Tensor
) -> tuple[Tensor, Tensor]:
    """Sigma and alpha [P] of pairs of Gaussians ``ids [P]`` and ``pixels [P]``."""
    mean_x, mean_y, xx, xy, yy, opacity = (values.index_select(0, ids) for values in splats)
    dx = centers[0].index_select(0, pixels) - mean_x
    dy = centers[1].index_select(0, pixels) - mean_y
    sigma = 0.5 * (xx * dx * dx + yy * dy * dy) + xy * dx * dy
    # clamp passes no gradient where opacity * exp(-sigma) is above the limit, as the specification
    # asks.
    return sigma, (opacity * torch.exp(-sigma)).clamp_max(MAX_ALPHA)


def _blend(
    ids: Tensor,  # [P] flat index of the Gaussian
    pixels: Tensor,  # [P] pixel in the band, ascending; depth ascending within a pixel
    centers: tuple[Tensor, Tensor],  # x and y of every pixel of the band
    planes: Tensor,  # [D, I * N] colors
    *splats: Tensor,
) -> tuple[Tensor, Tensor]:
    """Colors [pixels, D] without background and remaining transmittance [pixels] of a band."""
    num_pixels = len(centers[0])
    _, alpha = _alphas(ids, pixels, centers, *splats)
    log_t = torch.nn.functional.pad(torch.log1p(-alpha.double()).cumsum(0), (1, 0))
    ends = torch.bincount(pixels, minlength=num_pixels).cumsum(0)
    ends = torch.nn.functional.pad(ends, (1, 0))
    at_ends = log_t.index_select(0, ends)
    weight = alpha * torch.exp(log_t[:-1] - at_ends.index_select(0, pixels)).to(alpha.dtype)
    black = weight.new_zeros(num_pixels)
    blended = [
        black.index_add(0, pixels, weight * plane.index_select(0, ids))
        for plane in planes.unbind(0)
    ]
    return torch.stack(blended, -1), torch.exp(at_ends[1:] - at_ends[:-1]).to(alpha.dtype)


# ------------------------------------------------------------------- the list of contributing pairs
@torch.no_grad()
def _usable(
    means2d: Tensor,
    conics: Tensor,
    opacities: Tensor,
    colors: Tensor,
    depths: Tensor,
    radii: Tensor,
) -> Tensor:
    """Where [I, N] a Gaussian is not culled, is finite and has a conic that float can use."""
    xx, xy, yy = conics.double().unbind(-1)
    usable = (radii > 0).all(-1) & (opacities >= MIN_ALPHA)
    usable &= (xx >= MIN_CURVATURE) & (yy >= MIN_CURVATURE) & (xx * yy > xy.square())
    for values in (means2d, conics, colors, opacities[..., None], depths[..., None]):
        usable &= values.isfinite().all(-1)
    return usable


@torch.no_grad()
def _depth_order(depths: Tensor, usable: Tensor) -> Tensor:
    """Flat indices [V] of the usable Gaussians, by image, then depth, then index."""
    images, count = depths.shape
    order = (
        torch.sort(depths, dim=1, stable=True).indices
        + torch.arange(images, device=depths.device)[:, None] * count
    )
    order = order.reshape(-1)
    return order[usable.reshape(-1)[order]]


@torch.no_grad()
def _bands(
    order: Tensor,
    splats: list[Tensor],
    radii: Tensor,
    images: int,
    count: int,
    width: int,
    height: int,
) -> Iterator[tuple[Tensor, Tensor, int, int]]:
    """Yield (ids, pixels, first row, rows) for bands that together cover all stacked rows."""
    mean_y, half_width, half_height = (
        splats[1][order].double(),
        *radii.reshape(-1, 2)[order].double().unbind(1),
    )
    top = torch.ceil(mean_y - half_height - 0.5).clamp(0, height).long()
    bottom = (torch.floor(mean_y + half_height - 0.5) + 1).clamp(0, height).long()
    image = order // max(count, 1)
    top, bottom = top + image * height, bottom + image * height

    # Upper bound of the candidates in every row: +width where a Gaussian starts, -width where it
    # ends.
    widths = (2 * half_width + 1).clamp_max(width).long()
    change = torch.zeros(images * height + 1, dtype=torch.int64, device=order.device)
    change.index_add_(0, top, widths).index_add_(0, bottom, -widths)
    candidates = change.cumsum(0)[:-1].cumsum(0).cpu()
    first_of_image = torch.searchsorted(
        image, torch.arange(images + 1, device=order.device)
    ).tolist()

    row = 0
    while row < images * height:
        done = candidates[row - 1] if row else 0
        end = max(row + 1, int(torch.searchsorted(candidates, done + BAND_PAIRS, right=True)))
        begin_id, end_id = first_of_image[row // height], first_of_image[(end - 1) // height + 1]
        touched = ((top[begin_id:end_id] < end) & (bottom[begin_id:end_id] > row)).nonzero()[
            :, 0
        ] + begin_id
        starts, stops = top[touched].clamp_min(row), bottom[touched].clamp_max(end)
        ids, pixels = _candidates(
            order[touched], starts - row, stops - row, row, splats, width, height
        )
        centers = _pixel_centers(row, end - row, width, height, splats[0].dtype, splats[0].device)
        yield *_contributing(ids, pixels, centers, splats), row, end - row
        row = end


def _candidates(
    ids: Tensor,
    starts: Tensor,
    stops: Tensor,
    first_row: int,
    splats: list[Tensor],
    width: int,
    height: int,
) -> tuple[Tensor, Tensor]:
    """Pairs (Gaussian, pixel of the band) with alpha >= 1/255, in the order of ``ids``.

    Pixels of a Gaussian go row by row.
    """
    span, local_row = _enumerate(starts, stops)
    ids = ids[span]
    # Where sigma <= limit along a row is the interval between the roots of a quadratic in dx. It is
    # taken in float64 and widened a little; what is too much is dropped by the exact test
    # afterwards.
    mean_x, mean_y, xx, xy, yy, opacity = (
        values.index_select(0, ids).double() for values in splats
    )
    dy = (local_row + first_row) % height + 0.5 - mean_y
    limit = torch.log(opacity / MIN_ALPHA) * (1 + 1e-6) + 1e-6
    root = (2 * xx * limit - dy.square() * (xx * yy - xy.square())).clamp_min(0).sqrt()
    slack = 1e-3
    xx = xx.clamp_min(torch.finfo(xx.dtype).tiny)
    left = torch.ceil(mean_x + (-xy * dy - root) / xx - 0.5 - slack).clamp(0, width)
    right = torch.floor(mean_x + (-xy * dy + root) / xx - 0.5 + slack).clamp(-1, width - 1)
    # an overflow in float64 ends here, without a pixel
    left, right = left.nan_to_num(width), right.nan_to_num(-1.0)
    pair, x = _enumerate(left.long(), right.long() + 1)
    return ids.index_select(0, pair), (local_row * width).index_select(0, pair) + x


def _enumerate(starts: Tensor, stops: Tensor) -> tuple[Tensor, Tensor]:
    """The index of the range and the number, for every number of ranges [starts, stops)."""
    lengths = (stops - starts).clamp_min(0)
    index = torch.repeat_interleave(lengths)
    shift = starts - (lengths.cumsum(0) - lengths)
    return index, torch.arange(len(index), device=starts.device) + shift.index_select(0, index)


def _contributing(
    ids: Tensor, pixels: Tensor, centers: tuple[Tensor, Tensor], splats: list[Tensor]
) -> tuple[Tensor, Tensor]:
    """Sort candidate pairs by pixel and drop those too faint or behind the pixel's stop."""
    sigma, alpha = _alphas(ids, pixels, centers, *splats)
    kept = ((sigma >= 0) & (alpha >= MIN_ALPHA)).nonzero()[:, 0]
    pixels, by_pixel = torch.sort(pixels.index_select(0, kept).int(), stable=True)
    kept = kept.index_select(0, by_pixel)
    ids, alpha, pixels = ids.index_select(0, kept), alpha.index_select(0, kept), pixels.long()
    log_t = torch.log1p(-alpha.double()).cumsum(0)
    before = torch.nn.functional.pad(log_t, (1, 0))
    counts = torch.bincount(pixels, minlength=len(centers[0]))
    at_start = before.index_select(0, counts.cumsum(0) - counts)
    # T falls along a pixel's list, so "T after this pair > limit" holds for a prefix of it: exactly
    # the stopping rule.
    alive = (torch.exp(log_t - at_start.index_select(0, pixels)) > MIN_TRANSMITTANCE).nonzero()[
        :, 0
    ]
    return ids.index_select(0, alive), pixels.index_select(0, alive)


def _pixel_centers(
    first_row: int, rows: int, width: int, height: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """x and y [rows * width] of the pixel centers of a band."""
    x = torch.arange(width, dtype=dtype, device=device) + 0.5
    y = (torch.arange(first_row, first_row + rows, device=device) % height).to(dtype) + 0.5
    return x.repeat(rows), y.repeat_interleave(width)
