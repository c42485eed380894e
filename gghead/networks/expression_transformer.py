"""Expression coefficients -> the change of a latent: UV tokens of Z that look at tokens made of the coefficients.

HeadsUp's F(Z_neutral, b) = Z_b; the paper states neither size nor loss, so those are ours. The answer is a difference,
F(Z, b) - F(Z, 0), so that no expression changes nothing, trained or not.
"""

import torch
from torch import Tensor, nn

from gghead.networks.uv_transformer import Block


class ExpressionTransformer(nn.Module):
    """Tokens of Z plus learnt places, through blocks of cross-attention (expression), mixing (UV) and perceptron."""

    def __init__(self, channels: int, side: int, coefficients: int, styles: int, width: int, layers: int, heads: int,
                 mlp_ratio: float, tokens: int, mixing: str, dropout: float) -> None:
        """``channels`` and ``side`` are those of Z, ``styles`` counts the numbers in all styles together."""
        super().__init__()
        self.side, self.count = side, tokens
        self.embed = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, width))
        self.places = nn.Parameter(torch.randn(side * side, width))  # as large as what they are added to
        self.kinds = nn.Parameter(0.5 * torch.randn(tokens, width))
        self.linear = nn.Linear(coefficients, tokens * width, bias=False)
        self.bent = nn.Sequential(nn.Linear(coefficients, width), nn.GELU(), nn.Linear(width, tokens * width))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio, width, None, mixing) for _ in range(layers))
        self.norm = nn.LayerNorm(width, bias=False)  # a bias would cancel in the difference
        self.to_change, self.to_styles = (nn.Linear(width, size, bias=False) for size in (channels, styles))

    def forward(self, z: Tensor, expression: Tensor) -> tuple[Tensor, Tensor]:
        """``z`` [B, C, R, R], ``expression`` [B, K] -> change of Z [B, C, R, R] and of all styles [B, S].

        Both are zero, to the last bit, where the expression is.
        """
        both = torch.cat([expression, torch.zeros_like(expression)])
        tokens = self.embed(z.flatten(2).transpose(1, 2)) + self.places
        source = self.kinds + (self.linear(both) + self.bent(both)).unflatten(1, (self.count, -1))
        x = torch.cat([tokens, tokens])
        for block in self.blocks:
            x, _ = block(x, self.dropout(source), None, None)
        with_it, without = self.norm(x).chunk(2)
        difference = (with_it - without) * (expression != 0).any(1)[:, None, None]
        change = self.to_change(difference)
        styles = self.to_styles(difference.mean(1))
        return change.transpose(1, 2).unflatten(2, (self.side, self.side)), styles
