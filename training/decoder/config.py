"""What one training of a decoder is, and the presets."""

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from gghead.models.config import SURFACE, DiscriminatorConfig, GeneratorConfig
from gghead.torch_utils.config import NO_OPTIONS, ConfigError, Option, Range, check_ranges

NO_DATA = (
    "{data.path} is missing: name captures of many people, each seen by several cameras at once."
)


@dataclass(frozen=True)
class DecoderDataConfig:
    """The heads that styles are learned for."""

    path: Annotated[str, Option("--data", metavar="DIR|ZIP", resume=True)] = ""
    """Multi-view captures with masks, such as `gghead data synthetic --views=12 --cameras=full`."""
    held_out_views: Annotated[int, Range(0)] = 1
    """Views of each head that are never trained on; the preview's scores are theirs."""
    identities: Annotated[int | None, Range(1), Option()] = None
    """Use only the first so many subjects."""
    cache_mb: int = 8192
    """Decoded images are kept in memory if they take no more than that, in MiB."""


@dataclass(frozen=True)
class DecoderLossConfig:
    """Weights."""

    l1: float = 1.0
    """Mean absolute difference over a pyramid of halved images."""
    l2: float = 0.0
    """Mean squared difference, likewise."""
    gradient: float = 1.0
    """Mean absolute difference of neighboring pixels' differences, likewise."""
    perceptual: Annotated[float, Range(0), Option()] = 0.0
    """Weight of the distance of ``perceptual_net``."""
    perceptual_net: Annotated[str | None, Option(metavar="SPEC", default="none", resume=True)] = (
        None
    )
    """lpips-vgg, efficientnet-lite0, discriminator:RUN, a TorchScript file …
    (docs/perceptual.md)."""
    silhouette: float = 1.0
    """Mean absolute difference of alpha and mask."""
    position: float = 0.01
    """Mean distance of the Gaussians from the template, world units."""
    tv: float = 0.02
    """Total variation of raw offsets and scales over the UV map."""
    region: Annotated[float, Range(0), Option()] = 4.0
    """Additional weight of pixels that show eyes and mouth."""
    style: float = 1e-4
    """Mean square of the styles: keeps them near each other."""
    adversarial: Annotated[float, Range(0), Option()] = 0.03
    """Weight of a discriminator's loss. It sees captured heads and as many heads of drawn styles:
    both get sharper."""
    adversarial_from: Annotated[float, Range(0, 1), Option()] = 0.5
    """Share of the steps before it: blurred heads teach a discriminator nothing."""
    r1_gamma: Annotated[float, Range(0)] = 0.4
    """Its gradient penalty, every 16 steps."""


@dataclass(frozen=True)
class DecoderRates:
    """Adam's learning rates."""

    generator: Annotated[float, Range(0, above=True), Option("--lr", resume=True)] = 4e-3
    """Largest learning rate of the generator, whose layers are equalized."""
    styles: Annotated[float, Range(0, above=True), Option("--style-lr", resume=True)] = 2e-2
    """Largest learning rate of the styles."""
    warmup: int = 100
    """Steps of linear growth."""
    last: float = 0.02
    """Share of the rates that is left at the end, falling along a cosine."""
    ema_steps: float = 300.0
    """Half-life of the moving average in steps; at most a tenth of the steps so far."""


@dataclass(frozen=True)
class DecoderTrainConfig:
    """One run."""

    preset: Annotated[str, Option()]
    """Named settings that the run starts from. tiny: minutes on a CPU; small: an hour."""
    data: DecoderDataConfig = field(default_factory=DecoderDataConfig)
    """Where heads come from."""
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    """The generator."""
    discriminator: Annotated[DiscriminatorConfig, NO_OPTIONS] = field(
        default_factory=lambda: DiscriminatorConfig(cbase=2048, cmax=128, map_depth=2)
    )
    """What judges images where the loss has an adversarial term."""
    loss: DecoderLossConfig = field(default_factory=DecoderLossConfig)
    """Weights."""
    style_noise: Annotated[float, Range(0)] = 0.05
    """Standard deviation of the noise on styles in training: neighbors in the latent space must
    look alike."""
    rates: DecoderRates = field(default_factory=DecoderRates)
    """Optimizers."""
    batch: Annotated[int, Range(1), Option()] = 4
    """Heads per step."""
    views: Annotated[int, Range(1), Option()] = 4
    """Views of each head per step; all are rendered from one pass of the generator."""
    steps: Annotated[int, Range(1), Option(resume=True)] = 4000
    """Where the run ends."""
    tick: Annotated[int, Range(1), Option(resume=True)] = 50
    """Steps between status lines."""
    snapshot_ticks: Annotated[int, Range(1), Option("--snap", resume=True)] = 10
    """Status lines between snapshots."""
    precision: Annotated[
        Literal["bf16", "tf32", "fp32"], Option(default="what is faster, timed")
    ] = "fp32"
    """Precision of convolutions; tf32: on NVIDIA GPUs."""
    seed: Annotated[int, Range(0), Option()] = 0
    """Every random choice of the run derives from it."""


_TINY = DecoderTrainConfig(
    preset="tiny",
    generator=GeneratorConfig(
        z_dim=128,
        w_dim=128,
        plane_resolution=64,
        latent_resolution=16,
        cbase=2048,
        cmax=128,
        uv_maps=True,
        grid=64,
        image_size=64,
        attributes=SURFACE,
    ),
)
_SMALL = replace(
    _TINY,
    preset="small",
    generator=replace(
        _TINY.generator,
        plane_resolution=128,
        latent_resolution=32,
        cbase=4096,
        grid=128,
        image_size=128,
    ),
    discriminator=DiscriminatorConfig(cbase=4096, cmax=128, map_depth=2),
    # many heads, each seen often: a style is learned by the steps that see its head
    batch=8,
    views=2,
    steps=10_000,
)

PRESETS = {config.preset: config for config in (_TINY, _SMALL)}


def check(config: DecoderTrainConfig) -> None:
    """Raise ``UserError`` for a config that cannot train, naming the key."""
    check_ranges(config)
    if not config.data.path:
        raise ConfigError(NO_DATA)
    size = config.generator.image_size
    if config.loss.adversarial > 0 and (size < 8 or size & (size - 1)):
        raise ConfigError(
            f"{{loss.adversarial}} needs images of a power of two, but they have {size} pixels."
        )
    if config.generator.pose_cond:
        raise ConfigError(
            "generator.pose_cond must be false: a captured head has one style for all its cameras."
        )
