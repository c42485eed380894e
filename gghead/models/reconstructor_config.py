"""What a multi-view reconstructor is made of.

It is frozen dataclasses that survive JSON (``torch_utils.config``).
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from gghead.models.config import GeneratorConfig
from gghead.torch_utils.config import NO_OPTIONS, Option, Range


@dataclass(frozen=True)
class RigBackgroundConfig:
    """What stands around the head: Gaussians on a sphere that holds the cameras.

    HeadsUp calls it the background branch.
    """

    kind: Literal["none", "sphere"] = "none"
    """none: images have a plain background; sphere: a code of all views becomes Gaussians on a
    sphere."""
    code: int = 32
    """Numbers in that code."""
    channels: tuple[int, ...] = (32, 64, 128, 128)
    """Widths of the branch's own image encoder, one per halving of the image."""
    resolution: int = 64
    """Rows of the sphere's map; it has twice as many columns."""
    radius: float = 1.1
    """Smallest radius of the sphere about the head, as a multiple of the largest distance of a
    camera from it."""


@dataclass(frozen=True)
class ReconstructorConfig:
    """Views -> (w+, Z) of the generator whose decoder is used."""

    generator: Annotated[GeneratorConfig, NO_OPTIONS] = field(default_factory=GeneratorConfig)
    """The generator: its template, decoder and latent space."""
    channels: tuple[int, ...] = (64, 128, 256, 512)
    """Widths of the image encoder, one per halving; the last level gives the tokens."""
    blocks: int = 2
    """Residual blocks per level."""
    width: Annotated[int, Range(8), Option()] = 512
    """Width of the tokens."""
    layers: Annotated[int, Range(1), Option()] = 8
    """Transformer blocks."""
    heads: int = 8
    """Attention heads."""
    mlp_ratio: float = 4.0
    """Hidden width of the blocks' multilayer perceptron, as a multiple of the width."""
    mixing: Literal["attention", "convolution"] = "attention"
    """How UV tokens see each other: all of them (self-attention), or neighbors (a 3x3 convolution,
    far cheaper)."""
    guided: Annotated[bool, Option()] = True
    """Every block also looks at what each view shows where a token's texels project to; 0:
    HeadsUp's blocks."""
    detail: int = 4
    """Texels per side of a token's cell that are looked up in the images (guided)."""
    fine_level: int = 1
    """Level of the image encoder whose features are looked up beside the colors (guided); 0 has
    half the pixels."""
    corrections: Annotated[int, Range(0), Option(default="those of --init, or the preset's")] = 0
    """Passes that render the guess in the given views, compare, and correct it."""
    correction_features: int = 32
    """Features per pixel of what is compared, at half the views' size."""
    styles: bool = True
    """Predict w+ too; False: the average styles for everyone."""
    background: RigBackgroundConfig = field(default_factory=RigBackgroundConfig)
    """What stands around the head."""
