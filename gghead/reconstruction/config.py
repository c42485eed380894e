"""How latents are refined, and heads collected.

A module without torch, for what commands declare.
"""

from dataclasses import dataclass, field
from typing import Annotated

from gghead.inversion.config import ObjectiveConfig
from gghead.torch_utils.config import NO_OPTIONS, Option, Range


@dataclass(frozen=True)
class RefineConfig:
    """How a latent is refined."""

    steps: Annotated[int, Range(0), Option("--refine")] = 100
    """Steps of optimizing the encoder's latent on the views afterwards; 0 changes nothing.

    They are Adam's, and each renders all views."""
    rate_ws: Annotated[float, Range(0)] = 0.02
    """Learning rate of the styles, in deviations of the encoded ones."""
    rate_z: Annotated[float, Range(0)] = 0.02
    """Learning rate of the residual, in deviations of Z."""
    prior: Annotated[float, Range(0)] = 0.01
    """Weight of the squared distance from the encoded latent, in the same units: what no view shows
    stays."""
    objective: Annotated[ObjectiveConfig, NO_OPTIONS] = field(default_factory=ObjectiveConfig)
    """Weights of the losses."""


NO_REFINEMENT = RefineConfig(steps=0)
"""What commands do unless told otherwise."""


@dataclass(frozen=True)
class CollectionConfig:
    """How often, and from what, each head is encoded."""

    views: Annotated[tuple[int, ...], Range(1), Option()] = (6, 8, 12)
    """Numbers of input views; one is drawn each time, and then so many cameras in front."""
    draws: Annotated[int, Range(1), Option()] = 3
    """Times that each head is encoded, from other cameras."""
    mirror: Annotated[bool, Option()] = True
    """Also encode every head mirrored, with mirrored cameras: as many heads again."""
    seed: Annotated[int, Range(0), Option()] = 0
    """Seed of all draws; what is drawn for a head does not depend on the other heads."""
