"""Expression coefficients -> the change of a latent.

UV tokens of Z that look at tokens made of the coefficients.

HeadsUp's F(Z_neutral, b) = Z_b; the paper states neither size nor loss, so those are ours. What an
expression does depends on the place before all else: every coefficient has a map over UV, and the
mix of the maps is added to the tokens and scales and shifts them before every block (FiLM: Perez et
al. 2018); a basis at every place makes of it what all heads have in common. The answer is a
difference, F(Z, b) - F(Z, 0), so that no expression changes nothing, trained or not.
"""

import torch
from torch import Tensor, nn

from gghead.networks.uv_transformer import Block, zero_layer


class ExpressionTransformer(nn.Module):
    """Tokens of Z plus learned places, through blocks.

    A block has cross-attention (expression), mixing (UV) and a perceptron.
    """

    def __init__(
        self,
        channels: int,
        side: int,
        coefficients: int,
        styles: int,
        width: int,
        layers: int,
        heads: int,
        mlp_ratio: float,
        tokens: int,
        mixing: str,
        dropout: float,
        maps: int,
    ) -> None:
        """``channels`` and ``side`` are those of Z.

        ``styles`` counts the numbers in all styles together, ``maps`` those of a coefficient at a
        place.
        """
        super().__init__()
        self.side, self.count = side, tokens
        self.embed = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, width))
        # as large as what they are added to
        self.places = nn.Parameter(torch.randn(side * side, width))
        self.maps = nn.Parameter(0.02 * torch.randn(coefficients, maps, side, side))
        self.basis = nn.Parameter(torch.zeros(maps, channels, side, side))
        self.embed_maps = nn.Linear(maps, width, bias=False)
        self.film = nn.ModuleList(
            zero_layer(nn.Linear(maps, 2 * width, bias=False)) for _ in range(layers)
        )
        self.kinds = nn.Parameter(0.5 * torch.randn(tokens, width))
        self.linear = nn.Linear(coefficients, tokens * width, bias=False)
        self.bent = nn.Sequential(
            nn.Linear(coefficients, width), nn.GELU(), nn.Linear(width, tokens * width)
        )
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            Block(width, heads, mlp_ratio, width, None, mixing) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width, bias=False)  # a bias would cancel in the difference
        self.to_change, self.to_styles = (
            zero_layer(nn.Linear(width, size, bias=False)) for size in (channels, styles)
        )

    def forward(self, z: Tensor, expression: Tensor) -> tuple[Tensor, Tensor]:
        """``z`` [B, C, R, R], ``expression`` [B, K] -> changes of Z and of all styles [B, S].

        The change of Z is [B, C, R, R].

        Both are zero, to the last bit, where the expression is.
        """
        both = torch.cat([expression, torch.zeros_like(expression)])
        tokens = self.embed(z.flatten(2).transpose(1, 2)) + self.places
        local = torch.einsum("bk,kmp->bpm", both, self.maps.flatten(2))
        source = self.kinds + (self.linear(both) + self.bent(both)).unflatten(1, (self.count, -1))
        x = torch.cat([tokens, tokens]) + self.embed_maps(local)
        for film, block in zip(self.film, self.blocks, strict=True):
            scale, shift = film(local).chunk(2, -1)
            x, _ = block(x * (1 + scale) + shift, self.dropout(source), None, None)
        with_it, without = self.norm(x).chunk(2)
        difference = (with_it - without) * (expression != 0).any(1)[:, None, None]
        change = self.to_change(difference).transpose(1, 2)
        change = change + torch.einsum("bpm,mcp->bcp", local[: len(z)], self.basis.flatten(2))
        return change.unflatten(2, (self.side, self.side)), self.to_styles(difference.mean(1))
