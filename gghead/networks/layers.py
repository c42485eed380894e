"""Layers with an equalized learning rate.

Karras et al. 2018, "Progressive growing of GANs", section 4.1.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gghead.torch_utils.checks import at_least_float32
from gghead.torch_utils.ops.convolution import add_noise_and_bias, modulated_conv2d
from gghead.torch_utils.ops.resample import conv2d_down, fir_kernel

LRELU_SLOPE = 0.2
LRELU_GAIN = math.sqrt(2.0)  # keeps the second moment of a leaky rectifier's output


def normalize_second_moment(x: Tensor, eps: float = 1e-8) -> Tensor:  # [B, C] -> [B, C]
    """Scale every row to a mean square of one."""
    return x * (x.square().mean(dim=1, keepdim=True) + eps).rsqrt()


class Linear(nn.Module):
    """Fully connected layer; weights are stored at unit variance and scaled at run time."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        activation: str = "linear",
        lr_multiplier: float = 1.0,
        bias_init: float = 0.0,
        zero_init: bool = False,
    ) -> None:
        super().__init__()
        scale = 0.0 if zero_init else 1.0 / lr_multiplier
        self.weight = nn.Parameter(torch.randn(out_features, in_features) * scale)
        self.bias = nn.Parameter(torch.full((out_features,), bias_init / lr_multiplier))
        self.activation = activation
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier

    def forward(self, x: Tensor) -> Tensor:  # [B, I] -> [B, O]
        y = F.linear(
            x, self.weight.to(x.dtype) * self.weight_gain, self.bias.to(x.dtype) * self.bias_gain
        )
        return F.leaky_relu(y, LRELU_SLOPE) * LRELU_GAIN if self.activation == "lrelu" else y


class Conv2d(nn.Module):
    """Convolution with bias, optional stride-two low-pass downsampling and leaky rectifier.

    The rectifier's gain is folded into weight and bias, so that the activation is a single pass
    over the data.
    """

    fir: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        activation: str = "lrelu",
        down: bool = False,
        bias: bool = True,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.activation = activation
        self.gain = gain * (LRELU_GAIN if activation == "lrelu" else 1.0)
        self.weight_gain = self.gain / math.sqrt(in_channels * kernel_size**2)
        self.down = down
        self.register_buffer("fir", fir_kernel(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:  # [B, I, H, W] -> [B, O, H', W']
        weight = (self.weight * self.weight_gain).to(x.dtype)
        bias = None if self.bias is None else (self.bias * self.gain).to(x.dtype)
        if self.down:
            y = conv2d_down(x, weight, self.fir, bias)
        else:
            y = F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)
        return F.leaky_relu(y, LRELU_SLOPE) if self.activation == "lrelu" else y


class SynthesisLayer(nn.Module):
    """Modulated 3x3 convolution, noise, bias, leaky rectifier (StyleGAN2, figure 2c)."""

    noise_const: Tensor  # [R, R]
    fir: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, w_dim: int, resolution: int, up: bool = False
    ) -> None:
        super().__init__()
        self.resolution = resolution
        self.up = up
        self.affine = Linear(w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.register_buffer("fir", fir_kernel(), persistent=False)

    def forward(
        self,
        x: Tensor,  # [B, I, H, W]
        w: Tensor,  # [B, w_dim]
        noise_mode: str,  # const, random or none
        generator: torch.Generator | None,
    ) -> Tensor:  # [B, O, R, R]
        # The gain of the rectifier is folded into demodulation, noise and bias.
        y = modulated_conv2d(
            x, self.weight, self.affine(w), kernel=self.fir if self.up else None, gain=LRELU_GAIN
        )
        bias = self.bias * LRELU_GAIN
        noise = layer_noise(self.noise_const, len(x), noise_mode, generator)
        if noise is None:
            y = y + bias.to(y.dtype)[None, :, None, None]
        else:
            y = add_noise_and_bias(y, bias, noise, self.noise_strength * LRELU_GAIN)
        return F.leaky_relu(y, LRELU_SLOPE)


def layer_noise(
    const: Tensor, batch: int, mode: str, generator: torch.Generator | None
) -> Tensor | None:
    """Return noise [1 or B, 1, R, R] for one layer, or ``None`` for mode ``none``."""
    if mode == "none":
        return None
    if mode == "const":
        return const[None, None]
    if mode == "random":
        device = generator.device if generator is not None else const.device
        return torch.randn(batch, 1, *const.shape, generator=generator, device=device).to(
            const.device
        )
    raise ValueError(f"noise_mode must be const, random or none, but it is '{mode}'.")


class ToPlanes(nn.Module):
    """Modulated 1x1 convolution without demodulation to the raw attribute planes, zero-initialized.

    With all weights and biases zero the planes are zero, so the attribute activations alone decide
    what step 0 shows.
    """

    def __init__(self, in_channels: int, out_channels: int, w_dim: int) -> None:
        super().__init__()
        self.affine = Linear(w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.zeros(out_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.weight_gain = 1.0 / math.sqrt(in_channels)

    # [B, I, R, R], [B, w_dim] -> [B, O, R, R], float32 or float64
    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        styles = self.affine(w) * self.weight_gain
        y = modulated_conv2d(x, self.weight, styles, demodulate=False)
        return at_least_float32(y) + self.bias[None, :, None, None]
