"""Adding one noise image to all channels, each with its bias, as a matrix product.

``y + bias + noise`` broadcasts along the innermost dimension of a channels-last tensor, for which torch has no vector
code in bf16: 6.7 ms for [16, 32, 64, 64] on one core. As [pixels, 2] @ [2, channels] it takes 0.5 ms.
"""

import torch
from torch import Tensor


def add_noise_and_bias(
    y: Tensor,  # [B, C, H, W]
    bias: Tensor,  # [C]
    noise: Tensor,  # [1 or B, 1, H, W]
    strength: Tensor,  # []
) -> Tensor:  # [B, C, H, W]
    """Return ``y + bias + strength * noise`` in the type of ``y``; sums in float32 where ``y`` is bf16."""
    batch, channels, height, width = y.shape
    rows = torch.stack([bias, strength.expand(channels)]).to(y.dtype)  # [2, C]
    columns = torch.cat([torch.ones_like(noise), noise], dim=1).to(y.dtype)  # [1 or B, 2, H, W]
    if y.is_contiguous(memory_format=torch.channels_last):
        columns = columns.permute(0, 2, 3, 1).expand(batch, -1, -1, -1).reshape(-1, 2)
        flat = y.permute(0, 2, 3, 1).reshape(-1, channels)
        return torch.addmm(flat, columns, rows).reshape(batch, height, width, channels).permute(0, 3, 1, 2)
    columns = columns.flatten(2).expand(batch, -1, -1)
    return torch.baddbmm(y.flatten(2), rows.t().expand(batch, -1, -1), columns).reshape(y.shape)
