"""A second look.

How the views differ from what the first guess renders to, brought back to the UV tokens.

The rendering error says directly what is still wrong and where, which the views alone do not; a few
learned steps on it stand for many of gradient descent (Xu et al. 2025, "ReSplat: learning recurrent
Gaussian splats").
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gghead.cameras import Cameras
from gghead.networks.layers import LRELU_SLOPE
from gghead.networks.uv_transformer import GuidedAttention, zero_layer
from gghead.networks.view_encoder import ResidualBlock, ViewLookup
from gghead.template import Template

_ERROR_GAIN = 4.0  # differences are small beside the images themselves


class ErrorEncoder(nn.Module):
    """Views, differences and coverage [M, 7, H, W] -> features [M, C, H / 2, W / 2]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(7, channels, 4, stride=2, padding=1)
        self.block = ResidualBlock(channels)
        nn.init.kaiming_normal_(self.down.weight, a=LRELU_SLOPE)
        assert self.down.bias is not None
        nn.init.zeros_(self.down.bias)

    def forward(self, x: Tensor) -> Tensor:
        more = x.shape[-1] % 2, x.shape[-2] % 2
        x = F.pad(x, (0, more[0], 0, more[1]), mode="replicate") if any(more) else x
        return self.block(self.down(x.contiguous(memory_format=torch.channels_last)))


class Correction(nn.Module):
    """Tokens, views and renderings of the guess -> changes of tokens, residual and styles.

    The same weights serve every pass. The outputs start at zero, so that a network without this is
    the starting point.
    """

    def __init__(
        self,
        template: Template,
        side: int,
        detail: int,
        width: int,
        heads: int,
        mlp_ratio: float,
        features: int,
        residual: int,
        styles: int,
    ) -> None:
        """``side`` tokens and ``detail`` texels per token's side.

        ``residual`` and ``styles`` numbers are changed.
        """
        super().__init__()
        self.side = side
        self.encoder = ErrorEncoder(features)
        self.lookup = ViewLookup(template, side, detail, features)
        hidden = int(width * mlp_ratio)
        self.norm_guided, self.guided = (
            nn.LayerNorm(width),
            GuidedAttention(width, heads, self.lookup.channels),
        )
        self.mix = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.to_residual = zero_layer(nn.Linear(width, residual))
        self.to_styles = zero_layer(nn.Linear(width, styles))

    def forward(
        self,
        x: Tensor,  # [B, T, D] tokens
        rgb: Tensor,  # [B, V, 3, H, W] in [0, 1]
        shown: Tensor,  # [B, V, 3, H, W] what the guess renders to
        alpha: Tensor,  # [B, V, 1, H, W] its coverage
        offset: Tensor,  # [B, T, 3] where its surface lies beside the template, world units
        cameras: Cameras,  # [B, V]
        # tokens [B, T, D], changes [B, T, residual] and [B, styles]
    ) -> tuple[Tensor, Tensor, Tensor]:
        error = _ERROR_GAIN * (rgb - shown)
        height, width = rgb.shape[-2:]
        features = self.encoder(torch.cat([rgb * 2 - 1, error, alpha * 2 - 1], 2).flatten(0, 1))
        extent = width / (width + width % 2), height / (height + height % 2)
        with torch.autocast(rgb.device.type, enabled=False):
            samples, inside = self.lookup(offset, (error + 1) / 2, features, extent, cameras)
        x = x + self.guided(self.norm_guided(x), samples, inside)
        for convolution in self.mix:
            y = convolution(F.gelu(x).unflatten(1, (self.side, self.side)).permute(0, 3, 1, 2))
            x = x + y.permute(0, 2, 3, 1).flatten(1, 2) / math.sqrt(2)
        x = x + self.mlp(self.norm_mlp(x))
        return x, self.to_residual(x), self.to_styles(x.mean(1))
