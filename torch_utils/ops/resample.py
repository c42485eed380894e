"""Low-pass filtering around changes of resolution, with StyleGAN2's [1, 3, 3, 1] filter.

The filter runs as a depthwise convolution at stride 1: on CPUs and GPUs alike that is the layout
for which torch has fast kernels in every precision, and it has a correct double backward, which R1
needs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

FIR_TAPS = (1.0, 3.0, 3.0, 1.0)


def fir_kernel() -> Tensor:
    """Return the normalized 4x4 outer product of [1, 3, 3, 1].

    Karras et al. 2019, "StyleGAN2", section 4.
    """
    taps = torch.tensor(FIR_TAPS)
    kernel = taps[:, None] * taps[None, :]
    return kernel / kernel.sum()


def blur(
    x: Tensor,  # [B, C, H, W]
    kernel: Tensor,  # [4, 4]
    pad: int,  # zeros added on every side
    gain: float = 1.0,
) -> Tensor:  # [B, C, H + 2 pad - 3, W + 2 pad - 3]
    """Filter every channel with ``kernel * gain``."""
    channels = x.shape[1]
    weight = (kernel * gain).to(x.dtype).expand(channels, 1, *kernel.shape)
    return F.conv2d(x, weight, padding=pad, groups=channels)


def conv2d_up(
    x: Tensor,  # [B, I, H, W]
    weight: Tensor,  # [O, I, 3, 3]
    kernel: Tensor,  # [4, 4]
) -> Tensor:  # [B, O, 2H, 2W]
    """Upsample by two and convolve: a strided transposed convolution, then the low-pass filter."""
    y = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)  # [B, O, 2H + 1, 2W + 1]
    return blur(y, kernel, pad=1, gain=4.0)


def conv2d_down(
    x: Tensor,  # [B, I, H, W]
    weight: Tensor,  # [O, I, k, k] with k = 1 or 3
    kernel: Tensor,  # [4, 4]
    bias: Tensor | None = None,  # [O]
) -> Tensor:  # [B, O, H / 2, W / 2]
    """Low-pass filter, then convolve with stride two."""
    size = weight.shape[-1]
    return F.conv2d(blur(x, kernel, pad=(size + 1) // 2), weight, bias, stride=2)


def upsample2x(x: Tensor) -> Tensor:  # [B, C, H, W] -> [B, C, 2H, 2W]
    """Interpolate by two with the same [1, 3, 3, 1] taps, edges held.

    Bilinear weights are exactly these.
    """
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def downsample2x(x: Tensor, kernel: Tensor) -> Tensor:  # [B, C, H, W] -> [B, C, H / 2, W / 2]
    """Filter and drop every other pixel; edges are held so that borders keep their brightness."""
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    return blur(padded, kernel, pad=0)[:, :, ::2, ::2]
