"""Diffusion transformer with adaptive layer norm, over tokens of several kinds.

Peebles and Xie 2023, section 3.2.

Their adaLN-zero closes every block's gate at the start. Here only the way out starts at zero and
the gates are ajar: what the network is asked for has no linear part (``gghead.models.prior``), and
with both at zero nothing but a linear part could tell it where to begin. For the same reason what
enters a rectifier starts ``_BEND`` times wider than usual: near zero a GELU is a straight line and
an even function, which cannot tell two heaps of data from one.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gghead.networks.uv_transformer import zero_layer
from gghead.torch_utils.checks import at_least_float32

_FREQUENCIES = 256
_BEND = 3.0


def time_features(t: Tensor) -> Tensor:  # [B] in [0, 1] -> [B, 256]
    """Sines and cosines of t at geometrically spaced frequencies.

    t is in thousandths, as in diffusion models.
    """
    half = _FREQUENCIES // 2
    t = at_least_float32(t)
    frequencies = torch.exp(
        -math.log(10_000.0) * torch.arange(half, dtype=t.dtype, device=t.device) / half
    )
    angles = 1000.0 * t[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:  # [B, T, W], [B, W], [B, W]
    """Scale and shift normalized tokens."""
    return x * (1 + scale[:, None]) + shift[:, None]


def _start_modulation(layer: nn.Linear, values: tuple[float, ...]) -> None:
    """Start at ``values``, with small changes over time.

    There is one for each of the layer's outputs of a token's width.
    """
    nn.init.normal_(layer.weight, std=0.02)
    with torch.no_grad():
        layer.bias.copy_(torch.tensor(values).repeat_interleave(len(layer.bias) // len(values)))


def _widen(layer: nn.Linear) -> None:
    with torch.no_grad():
        layer.weight.mul_(_BEND)


class Block(nn.Module):
    """Attention and a perceptron, each scaled, shifted and gated by time and condition."""

    def __init__(self, width: int, heads: int, mlp_ratio: int, gate: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        first = nn.Linear(width, mlp_ratio * width)
        self.mlp = nn.Sequential(
            first, nn.GELU(approximate="tanh"), nn.Linear(mlp_ratio * width, width)
        )
        self.modulation = nn.Linear(width, 6 * width)
        _start_modulation(self.modulation, (0.0, 0.0, gate) * 2)
        _widen(first)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:  # [B, T, W], [B, W] -> [B, T, W]
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(F.silu(embedding)).chunk(
            6, dim=1
        )
        queries, keys, values = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(modulate(self.norm1(x), shift1, scale1)).chunk(3, dim=2)
        )
        seen = F.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).flatten(2)
        x = x + gate1[:, None] * self.project(seen)
        return x + gate2[:, None] * self.mlp(modulate(self.norm2(x), shift2, scale2))


class DiT(nn.Module):
    """Tokens of several kinds, time and (optionally) a condition -> a velocity per token.

    A kind has its own size of token, way in and way out; all share the blocks. Places are learned.
    """

    def __init__(
        self,
        kinds: list[tuple[int, int]],
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: int = 4,
        cond_dim: int = 0,
    ) -> None:
        """``kinds``: (tokens, numbers per token) of each."""
        super().__init__()
        self.kinds = kinds
        enter = [nn.Linear(size, width) for _, size in kinds]
        leave = [nn.Linear(width, size) for _, size in kinds]
        self.enter, self.leave = nn.ModuleList(enter), nn.ModuleList(leave)
        self.place = nn.Parameter(0.7 * torch.randn(1, sum(count for count, _ in kinds), width))
        self.time = nn.Sequential(
            nn.Linear(_FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.condition = (
            nn.Sequential(nn.Linear(cond_dim, width), nn.SiLU(), nn.Linear(width, width))
            if cond_dim
            else None
        )
        # what stands for no condition
        self.nothing = nn.Parameter(torch.zeros(width)) if cond_dim else None
        self.blocks = nn.ModuleList(
            Block(width, heads, mlp_ratio, depth**-0.5) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = nn.Linear(width, 2 * width)
        _start_modulation(self.modulation, (0.0, 0.0))
        for layer in enter:
            _widen(layer)
        for layer in leave:
            zero_layer(layer)

    def forward(
        self,
        x: Tensor,  # [B, sum of tokens * numbers], kind after kind
        t: Tensor,  # [B] in [0, 1]
        cond: Tensor | None = None,  # [B, cond_dim]; None: no condition
        keep: Tensor | None = None,  # bool [B]: heads whose condition counts; None: all
    ) -> Tensor:  # as x
        parts = x.split([count * size for count, size in self.kinds], dim=1)
        tokens = (
            torch.cat(
                [
                    enter(part.unflatten(1, kind))
                    for enter, part, kind in zip(self.enter, parts, self.kinds, strict=True)
                ],
                dim=1,
            )
            + self.place
        )
        embedding = self.time(time_features(t))
        if self.condition is not None and self.nothing is not None:
            nothing = self.nothing.expand(len(x), -1)
            given = nothing if cond is None else self.condition(cond)
            embedding = embedding + (
                given if keep is None else torch.where(keep[:, None], given, nothing)
            )
        for block in self.blocks:
            tokens = block(tokens, embedding)
        shift, scale = self.modulation(F.silu(embedding)).chunk(2, dim=1)
        tokens = modulate(self.norm(tokens), shift, scale)
        outputs = tokens.split([count for count, _ in self.kinds], dim=1)
        return torch.cat(
            [leave(part).flatten(1) for leave, part in zip(self.leave, outputs, strict=True)], dim=1
        )
