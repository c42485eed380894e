"""UV tokens that look at all views.

Cross-attention (HeadsUp) and, guided by the template, at where they project to.

Both are sums over views weighted by a softmax, so the order of the views does not matter, any
number will do, and the cost is linear in the number of image tokens.
"""

import math
from collections.abc import Callable
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gghead.torch_utils.checks import at_least_float32

# world units that a token's place may leave the template; the decoder's own range
_OFFSET_RANGE = 0.25


Lookup = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Offsets [B, T, 3] of the tokens' places -> samples [B, V, T, S] of the views there, and whether
[B, V, T] they lie inside."""

_Layer = TypeVar("_Layer", nn.Linear, nn.Conv2d)


class Attention(nn.Module):
    """Multi-head attention of queries [B, T, D] to keys and values from [B, S, D'].

    Vaswani et al. 2017.
    """

    def __init__(self, width: int, heads: int, source: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(source or width, 2 * width)
        self.out = zero_layer(nn.Linear(width, width))

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        def split(y: Tensor) -> Tensor:  # [B, L, D] -> [B, heads, L, D / heads]
            return y.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        key, value = self.key_value(source).chunk(2, -1)
        mixed = F.scaled_dot_product_attention(split(self.query(x)), split(key), split(value))
        return self.out(mixed.transpose(1, 2).flatten(-2))


class GuidedAttention(nn.Module):
    """Every token attends to V samples of its own, one per view: softmax over views per head.

    The values are linear in the samples, so colors that views agree on pass unchanged.
    """

    def __init__(self, width: int, heads: int, source: int) -> None:
        super().__init__()
        self.heads = heads
        self.embed = nn.Linear(source, width)
        self.key = nn.Sequential(nn.LayerNorm(width), nn.GELU(), nn.Linear(width, width))
        self.query, self.value, self.out = (nn.Linear(width, width) for _ in range(3))
        # logit taken off where the point lies outside the image
        self.unseen = nn.Parameter(torch.zeros(heads))

    def forward(self, x: Tensor, samples: Tensor, inside: Tensor) -> Tensor:
        """Attend to ``samples`` [B, V, T, S] with ``x`` [B, T, D] -> [B, T, D].

        ``inside`` [B, V, T] lies in [0, 1].
        """
        embedded = self.embed(samples)
        key = self.key(embedded).unflatten(-1, (self.heads, -1))  # [B, V, T, h, d]
        query = self.query(x).unflatten(-1, (self.heads, -1))  # [B, T, h, d]
        logits = at_least_float32((key * query[:, None]).sum(-1)) / math.sqrt(key.shape[-1])
        weights = (
            (logits - (1 - inside[..., None]) * (4.0 + self.unseen)).softmax(1).to(embedded.dtype)
        )
        value = self.value(embedded).unflatten(-1, (self.heads, -1))
        return self.out((weights[..., None] * value).sum(1).flatten(-2))


class Block(nn.Module):
    """Guided attention, cross-attention, mixing among UV tokens, perceptron (all pre-norm).

    The cross-attention is to all image tokens.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_ratio: float,
        source: int,
        samples: int | None,
        mixing: str,
    ) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.guided = None
        if samples is not None:
            self.norm_guided, self.guided = (
                nn.LayerNorm(width),
                GuidedAttention(width, heads, samples),
            )
            self.offset = zero_layer(nn.Linear(width, 3))
        self.norm_cross, self.cross = nn.LayerNorm(width), Attention(width, heads, source)
        self.norm_mix = nn.LayerNorm(width)
        self.mix = (
            Attention(width, heads)
            if mixing == "attention"
            else zero_layer(nn.Conv2d(width, width, 3, padding=1))
        )
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), zero_layer(nn.Linear(hidden, width))
        )

    def forward(
        self, x: Tensor, source: Tensor, lookup: Lookup | None, offset: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """``x`` [B, T, D] with T a square, ``source`` [B, S, D'].

        Lookup and ``offset`` [B, T, 3] where guided.
        """
        if self.guided is not None:
            assert lookup is not None and offset is not None
            x = x + self.guided(self.norm_guided(x), *lookup(offset))
        x = x + self.cross(self.norm_cross(x), source)
        normed = self.norm_mix(x)
        if isinstance(self.mix, Attention):
            x = x + self.mix(normed, normed)
        else:
            side = math.isqrt(x.shape[1])
            x = x + self.mix(normed.unflatten(1, (side, side)).permute(0, 3, 1, 2)).permute(
                0, 2, 3, 1
            ).flatten(1, 2)
        x = x + self.mlp(self.norm_mlp(x))
        if self.guided is not None and offset is not None:
            offset = offset + _OFFSET_RANGE * torch.tanh(at_least_float32(self.offset(x)))
        return x, offset


class UVTransformer(nn.Module):
    """Learnt tokens on the UV grid, through the blocks.

    Each has the template's place of its cell.
    """

    place: Tensor  # [T, numbers of ``fourier``]

    def __init__(
        self,
        position: Tensor,
        width: int,
        layers: int,
        heads: int,
        mlp_ratio: float,
        source: int,
        samples: int | None,
        mixing: str,
    ) -> None:
        """``position`` [3, R, R]: the template at the cells' centers.

        ``samples``: numbers per view, None: unguided.
        """
        super().__init__()
        place = fourier(position.flatten(1).T)
        self.register_buffer("place", place, persistent=False)
        self.embed_place = nn.Linear(place.shape[1], width)
        self.tokens = nn.Parameter(0.02 * torch.randn(len(place), width))
        self.blocks = nn.ModuleList(
            Block(width, heads, mlp_ratio, source, samples, mixing) for _ in range(layers)
        )

    def forward(self, source: Tensor, lookup: Lookup | None) -> tuple[Tensor, Tensor | None]:
        """``source`` [B, S, D'] -> tokens [B, R * R, D] and their places' offsets.

        The offsets are [B, R * R, 3], or None if unguided.
        """
        x = (self.tokens + self.embed_place(self.place)).expand(len(source), -1, -1)
        offset = (
            at_least_float32(x.new_zeros(*x.shape[:2], 3))
            if self.blocks[0].guided is not None
            else None
        )
        for block in self.blocks:
            x, offset = block(x, source, lookup, offset)
        return x, offset


# [N, 3] world units -> [N, 3 + 6 * octaves]
def fourier(points: Tensor, octaves: int = 6) -> Tensor:
    """The points with sines and cosines of ``octaves`` octaves.

    Mildenhall et al. 2020, "NeRF", equation 4.
    """
    angles = (points[:, :, None] * (math.pi * 2.0 ** torch.arange(octaves))).flatten(1)
    return torch.cat([points, angles.sin(), angles.cos()], 1)


def zero_layer(layer: _Layer) -> _Layer:
    """The layer with all its numbers zero."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
