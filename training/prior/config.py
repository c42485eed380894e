"""What one training of a prior is, and the presets."""

from dataclasses import dataclass, field, replace
from typing import Annotated

from gghead.models.prior_config import DiTConfig
from gghead.torch_utils.config import Option, Range


@dataclass(frozen=True)
class TokenConfig:
    """How latents become tokens."""

    patch: Annotated[int, Range(1), Option()] = 4
    """Side of the squares that the residual on Z is cut into, texels of Z."""
    w_share: float = 0.999
    """Share of the styles' variance that the components kept explain."""
    z_share: float = 0.99
    """The same of the residual's channels."""
    z_limit: int = 64
    """At most so many components of the residual's channels."""
    components: Annotated[int, Range(0), Option()] = 0
    """Take so many principal components of whole heads instead of all that, for few heads; 0:
    none."""


@dataclass(frozen=True)
class PriorTrainConfig:
    """One run."""

    preset: Annotated[str, Option()]
    """Named settings that the run starts from. tiny: minutes on a CPU; few: for encoded heads of
    some hundred people."""
    network: Annotated[str, Option(metavar="FILE|RUN|demo")] = "demo"
    """Generator that the latents belong to; it stays as it is."""
    latents: Annotated[str | None, Option(metavar="FILE[,FILE…]|DIR")] = None
    """Files and folders of latents (of an encoder or inversion), comma-separated."""
    samples: Annotated[int, Range(0), Option()] = 0
    """Seeds 0 to samples - 1 of the generator are training heads too."""
    cond: Annotated[str | None, Option(metavar="FILE")] = None
    """.npz or .csv with a condition vector per head's name; none: unconditional."""
    cond_drop: float = 0.1
    """Share of heads whose condition is hidden, for classifier-free guidance."""
    holdout: Annotated[float, Range(0, 0.9), Option("--holdout-share")] = 0.1
    """Share of the people that is kept aside, to see when a prior starts to learn its heads by
    heart."""
    tokens: TokenConfig = field(default_factory=TokenConfig)
    """How latents are cut."""
    dit: DiTConfig = field(default_factory=DiTConfig)
    """The network."""
    steps: Annotated[int, Range(1), Option(resume=True)] = 5000
    """Optimizer steps in all."""
    batch: Annotated[int, Range(1), Option()] = 64
    """Heads per step."""
    lr: Annotated[float, Range(0, above=True), Option(resume=True)] = 1e-3
    """AdamW's learning rate after the warm-up; it falls to a twentieth along half a cosine."""
    warmup: int = 100
    """Steps of linear warm-up."""
    weight_decay: float = 0.0
    """AdamW's weight decay."""
    patience: Annotated[int, Range(0), Option()] = 0
    """Stop after so many ticks in which the held-out loss has not fallen, and keep the best; 0:
    never."""
    ema: float = 0.999
    """Decay per step of the average that is saved; it ramps up over the first steps."""
    t_mean: float = 0.0
    """Mean of the logit of t (Esser et al. 2024, equation 19: logit-normal times)."""
    t_std: float = 1.0
    """Standard deviation of the logit of t."""
    tick: Annotated[int, Range(1), Option(resume=True)] = 250
    """Steps between status lines."""
    snapshot_ticks: Annotated[int, Range(1), Option("--snap", resume=True)] = 4
    """Status lines between snapshots."""
    seed: Annotated[int, Range(0), Option()] = 0
    """Seed of everything random."""


_TINY = PriorTrainConfig(preset="tiny")
_SMALL = replace(
    _TINY,
    preset="small",
    dit=DiTConfig(width=384, depth=12, heads=6),
    steps=100_000,
    batch=128,
    lr=3e-4,
    warmup=1000,
    ema=0.9999,
    tick=500,
    snapshot_ticks=10,
)
_LARGE = replace(
    _SMALL,
    preset="large",
    dit=DiTConfig(width=1024, depth=24, heads=16),
    steps=400_000,
    batch=256,
    lr=1e-4,
    tick=1000,
)

# Some hundreds of encoded heads: learned by heart within some hundred steps, hence the components
# and the patience.
_FEW = replace(
    _TINY,
    preset="few",
    tokens=TokenConfig(components=48),
    dit=DiTConfig(width=128, depth=3),
    lr=5e-4,
    weight_decay=0.1,
    steps=3000,
    ema=0.99,
    holdout=0.15,
    tick=25,
    patience=12,
)

PRESETS = {config.preset: config for config in (_TINY, _FEW, _SMALL, _LARGE)}
"""tiny: minutes on one core; few: heads of a hundred people; small and large: DiT-S and DiT-L in
Peebles and Xie's table 1."""
