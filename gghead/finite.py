"""Gaussians and cameras with NaN or infinity.

Replaced by ones that draw nothing, before anything is computed.

A number that is not finite spoils all that it is multiplied with or added to, zeros and gradients
too, so it has to go at the entrance: ``masked_fill`` gives a gradient of zero to what it replaces.
"""

import math

import torch
from torch import Tensor

from gghead.torch_utils.skip_compile import skip_compile


@skip_compile
@torch.no_grad()
# [..., any] each, with ... that can be broadcast
def find_nonfinite(*values: Tensor) -> Tensor | None:
    """Where [...] the last dimension of any of ``values`` holds NaN or infinity.

    On CPUs None if nowhere.

    There one sum over everything settles the usual case: a sum of finite terms is finite, but for
    overflow. On other devices the sum would have to be waited for, so they always get a mask.
    """
    if values[0].device.type == "cpu" and math.isfinite(
        sum(float(value.sum()) for value in values)
    ):
        return None
    bad = ~values[0].isfinite().all(-1)
    for value in values[1:]:
        bad = bad | ~value.isfinite().all(-1)
    return bad


def hide_gaussians(
    bad: Tensor,  # [..., N] bool
    means: Tensor,  # [..., N, 3]
    quats: Tensor,  # [..., N, 4]
    scales: Tensor,  # [..., N, 3]
    opacities: Tensor,  # [..., N]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Transparent points at the origin in place of the bad Gaussians."""
    rows = bad[..., None]
    return (
        means.masked_fill(rows, 0.0),
        quats.masked_fill(rows, 1.0),
        scales.masked_fill(rows, 1e-3),
        opacities.masked_fill(bad, 0.0),
    )


def hide_cameras(
    bad: Tensor,  # [..., C] bool
    viewmats: Tensor,  # [..., C, 4, 4]
    Ks: Tensor,  # [..., C, 3, 3]
) -> tuple[Tensor, Tensor]:
    """Cameras in place of the bad ones that have everything behind them.

    Their matrices can be inverted.
    """
    # made without waiting for the device
    away = 1e-20 * torch.eye(4, dtype=viewmats.dtype, device=viewmats.device)
    away[2, 3], away[3, 3] = -1.0, 1.0
    unit = torch.eye(3, dtype=Ks.dtype, device=Ks.device)
    chosen = bad[..., None, None]
    return torch.where(chosen, away, viewmats), torch.where(chosen, unit, Ks)
