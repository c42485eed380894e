"""What one training of an expression transformer is, and the presets."""

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from gghead.models.expression_config import ExpressionConfig
from gghead.torch_utils.config import ConfigError, Option, Range, check_ranges


@dataclass(frozen=True)
class ExpressionDataConfig:
    """Where triplets (neutral, expression, coefficients) come from."""

    path: Annotated[str, Option("--data", metavar="DIR|ZIP", resume=True)] = ""
    """Multi-view captures with masks and expression coefficients (docs/formats.md)."""
    holdout: Annotated[tuple[str, ...], Option(form="names and ranges")] = ()
    """Subjects that are not trained on, such as 108-119 or anna,ben; should hold those that the
    encoder has not seen."""
    views: Annotated[int, Range(1), Option()] = 8
    """Views that latents are encoded from."""
    subsets: Annotated[int, Range(1), Option()] = 2
    """Different choices of these views per head."""
    targets: Annotated[int, Range(1)] = 2
    """Views of the expression that the prediction is compared with as an image."""
    mirror: Annotated[bool, Option()] = True
    """Half of the triplets are seen mirrored, left coefficients exchanged with right ones."""
    cache_mb: int = 4096
    """Decoded images are kept in memory if they take no more than that, in MiB; so are
    latents."""


@dataclass(frozen=True)
class ExpressionLossConfig:
    """Weights."""

    motion: float = 1.0
    """Heads moved by the template's blendshapes, half as many as triplets: squared distance of
    Gaussians as a share of their way. Not for templates without blendshapes."""
    looks: float = 0.3
    """Their colors, sizes and rotations; not too much, or captures cannot teach wrinkles and
    teeth."""
    latent: float = 0.0
    """Squared difference of Z, and of styles, from those of the expression, as shares of what it
    changes in them: what HeadsUp trains with. An encoder paints an open mouth where blendshapes
    move lips, so it goes badly with motion."""
    styles: float = 0.1
    """Weight of the styles in it: they change much less of the image than Z does."""
    images: float = 30.0
    """Images of captured expressions; the following three are shares of it."""
    l1: float = 1.0
    """Mean absolute difference of images over a pyramid of halvings."""
    l2: float = 2.0
    """Mean squared difference, likewise."""
    gradient: float = 1.0
    """Mean absolute difference of neighboring pixels' differences, likewise."""
    images_from: Annotated[int, Range(0), Option()] = 0
    """First step with images; before it only latents are compared, at a fraction of the cost."""
    region: float = 2.0
    """Additional weight of pixels that show eyes and mouth."""


@dataclass(frozen=True)
class ExpressionTrainConfig:
    """One run."""

    preset: Annotated[str, Option()]
    """Named settings that the run starts from. tiny: minutes on a CPU, for hundreds of triplets."""
    network: Annotated[str, Option(metavar="FILE|RUN", resume=True)] = ""
    """Reconstructor whose latents are to move, snapshot or run folder; it stays as it is."""
    data: ExpressionDataConfig = field(default_factory=ExpressionDataConfig)
    """Triplets."""
    model: ExpressionConfig = field(default_factory=ExpressionConfig)
    """The transformer; what depends on data and network is filled in."""
    loss: ExpressionLossConfig = field(default_factory=ExpressionLossConfig)
    """Weights."""
    rate: Annotated[float, Range(0, above=True), Option("--lr", resume=True)] = 2e-3
    """Peak learning rate of AdamW."""
    decay: float = 0.05
    """Weight decay."""
    warmup: int = 50
    """Steps of linear growth."""
    last: float = 0.05
    """Share of the rate that is left at the end, falling along a cosine."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    ema_steps: float = 200.0
    """Half-life of the moving average in steps; at most a tenth of the steps so far."""
    batch: Annotated[int, Range(1), Option()] = 4
    """Triplets per step."""
    steps: Annotated[int, Range(1), Option(resume=True)] = 1000
    """Where the run ends."""
    tick: Annotated[int, Range(1), Option(resume=True)] = 50
    """Steps between status lines."""
    snapshot_ticks: Annotated[int, Range(1), Option("--snap", resume=True)] = 5
    """Status lines between snapshots."""
    precision: Annotated[
        Literal["bf16", "tf32", "fp32"], Option(default="what is faster, timed")
    ] = "fp32"
    """Precision of convolutions and attention; tf32: on NVIDIA GPUs."""
    seed: Annotated[int, Range(0), Option()] = 0
    """Every random choice of the run derives from it."""


_TINY = ExpressionTrainConfig(
    preset="tiny",
    # Hundreds of triplets, not millions: few layers, much dropout, neighbors only.
    model=ExpressionConfig(
        width=96, layers=2, heads=4, mlp_ratio=2.0, tokens=8, mixing="convolution", dropout=0.1
    ),
    loss=ExpressionLossConfig(),
)
_SMALL = replace(
    _TINY,
    preset="small",
    model=ExpressionConfig(width=256, layers=4, heads=8, dropout=0.1),
    loss=ExpressionLossConfig(),
    batch=8,
    rate=3e-4,
    warmup=500,
    ema_steps=1000.0,
    steps=50_000,
    tick=200,
)
# HeadsUp trains F on latents (of 64 x 64 x 512) and says neither size nor steps: those of its
# encoder are taken.
_HEADSUP = replace(
    _SMALL,
    preset="headsup",
    model=ExpressionConfig(width=512, layers=8, heads=8, mlp_ratio=4.0),
    loss=ExpressionLossConfig(latent=1.0, motion=0.0, images=1.0),
    batch=32,
    rate=2e-4,
    warmup=2000,
    ema_steps=5000.0,
    steps=200_000,
    tick=500,
)

PRESETS = {config.preset: config for config in (_TINY, _SMALL, _HEADSUP)}


def check(config: ExpressionTrainConfig) -> None:
    """Raise ``UserError`` for a config that cannot train, naming the key."""
    check_ranges(config)
    if not config.data.path:
        raise ConfigError(
            "{data.path} is missing: name multi-view captures with expression coefficients."
        )
    if not config.network:
        raise ConfigError(
            "{network} is missing: name the reconstructor whose latents are to move (a run of "
            "scripts/train_encoder.py)."
        )
