"""What an expression transformer is made of.

It is a frozen dataclass that survives JSON (``torch_utils.config``).
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from gghead.torch_utils.config import Option, Range


@dataclass(frozen=True)
class ExpressionConfig:
    """What an expression transformer is made of."""

    coefficient_names: tuple[str, ...] = ()
    """Of the data it was trained on, in order."""
    expression_model: str = ""
    """Where they come from, for messages."""
    network: str = ""
    """Fingerprint of the generator whose latents it changes (``gghead.latent.fingerprints``)."""
    channels: int = 128
    """Channels of Z."""
    side: int = 32
    """Side of Z."""
    num_ws: int = 1
    """Styles of the generator."""
    w_dim: int = 128
    """Size of a style."""
    width: Annotated[int, Range(8), Option()] = 128
    """Width of the tokens."""
    layers: Annotated[int, Range(1), Option()] = 4
    """Blocks."""
    heads: int = 4
    """Attention heads."""
    mlp_ratio: float = 2.0
    """Hidden width of the blocks' perceptron, as a multiple of the width."""
    tokens: int = 8
    """Tokens made of the coefficients."""
    mixing: Annotated[Literal["attention", "convolution"], Option()] = "attention"
    """How UV tokens see each other: all of them, or neighbors (a 3x3 convolution, cheaper)."""
    maps: int = 16
    """Numbers that say what a coefficient does at a place of UV; the first 12 start as what the
    template's blendshapes do there."""
    dropout: float = 0.0
    """Share of the numbers in expression tokens that are left out in training."""
