"""Which floating-point type a sum is made in."""

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """``x`` in float32, or in float64 if it is in float64: half precisions lose small terms of long sums."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
