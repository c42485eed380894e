"""What one training of an encoder is, and the presets; ``headsup`` has the paper's numbers."""

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from gghead.models.config import SURFACE, DiscriminatorConfig, GeneratorConfig
from gghead.models.reconstructor_config import ReconstructorConfig, RigBackgroundConfig
from gghead.torch_utils.config import NO_OPTIONS, ConfigError, Option, Range, check_ranges
from gghead.torch_utils.errors import UserError

NO_DATA = (
    "{data.path} is missing: name captures, or train on a GAN's own heads with {init}=RUN"
    " {data.gan_share}=1."
)


@dataclass(frozen=True)
class EncoderDataConfig:
    """Where heads come from: captures, the GAN's own samples, or both mixed."""

    path: Annotated[str, Option("--data", metavar="DIR|ZIP", resume=True)] = ""
    """Multi-view captures with masks (docs/formats.md); empty: the GAN's samples alone."""
    holdout: Annotated[tuple[str, ...], Option(form="names and ranges")] = ()
    """Subjects that are not trained on, such as 108-119 or anna,ben."""
    identities: Annotated[int | None, Range(1), Option("--max-subjects")] = None
    """Use only the first so many of the other subjects."""
    cameras: Annotated[int | None, Range(2), Option("--max-cameras")] = None
    """Use only so many cameras of each head, spread evenly over its list."""
    gan_share: Annotated[float, Range(0, 1), Option(default="0, or 1 without --data")] = 0.0
    """Share of steps that see samples of the generator given by --init (exact, endless)."""
    mirror: Annotated[bool, Option()] = True
    """Half of the heads are seen mirrored, with mirrored cameras."""
    jitter: float = 0.15
    """Colors of each head are multiplied by a random factor per channel, up to this far from
    one."""
    background: Annotated[Literal["white", "image"], Option()] = "white"
    """white: everything is put over white by its mask; image: images as they are, and the model
    has what stands behind the head too."""
    cache_mb: int = 4096
    """Decoded images are kept in memory if they take no more than that, in MiB."""


@dataclass(frozen=True)
class EncoderStage:
    """From ``start`` on: sizes and numbers."""

    start: int = 0
    """First step."""
    image_size: Annotated[
        int,
        Range(16),
        Option("--resolution", form="resolution", default="that of --init, or the preset's"),
    ] = 128
    """Side of inputs and targets."""
    views: Annotated[tuple[int, ...], Range(1), Option(default="the preset's")] = (1, 2, 4, 8)
    """Numbers of input views; one is drawn per step."""
    targets: int = 4
    """Views per head that are rendered and compared; one of them is an input."""
    batch: Annotated[int, Range(1), Option()] = 4
    """Heads per step over all processes."""
    region: float = 0.0
    """Additional weight of pixels that show eyes and mouth."""


@dataclass(frozen=True)
class EncoderLossConfig:
    """Weights."""

    l1: float = 1.0
    """Mean absolute difference over a pyramid of halved images."""
    l2: float = 2.0
    """Mean squared difference, likewise."""
    gradient: float = 1.0
    """Mean absolute difference of neighboring pixels' differences, likewise."""
    ssim: float = 0.0
    """1 - SSIM."""
    perceptual: float = 0.0
    """Distance of ``perceptual_net``."""
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
    place: float = 0.2
    """Mean distance of the encoder's own idea of the surface from the decoder's (guided
    encoders)."""
    latent: float = 0.1
    """Mean squared difference of Z and styles where they are known (the GAN's samples)."""
    adversarial: float = 0.0
    """Non-saturating loss of a discriminator that is trained along."""
    adversarial_from: int = 0
    """First step with it."""
    r1_gamma: float = 0.4
    """Its gradient penalty, every 16 steps."""


@dataclass(frozen=True)
class EncoderRates:
    """Adam's learning rates."""

    encoder: Annotated[float, Range(0, 1, above=True), Option("--lr", resume=True)] = 2e-4
    """Largest learning rate of the encoder; the option scales the decoder's with it. Less than half
    the preset's continues a finished encoder."""
    decoder: float = 2e-3
    """Of the decoder, whose layers are equalized; 0 leaves it as it is (--decoder=frozen)."""
    warmup: int = 1000
    """Steps of linear growth."""
    last: float = 0.05
    """Share of the rates that is left at the end, falling along a cosine."""
    beta1: float = 0.9
    """First beta."""
    beta2: float = 0.95
    """Second beta."""
    clip: float = 1.0
    """Largest norm of the encoder's gradient."""
    ema_steps: float = 1000.0
    """Half-life of the moving average in steps; at most a tenth of the steps so far."""


@dataclass(frozen=True)
class EncoderTrainConfig:
    """One run."""

    preset: Annotated[str, Option()]
    """Named settings that the run starts from. tiny: hours on a CPU; headsup: the paper's
    numbers."""
    data: EncoderDataConfig = field(default_factory=EncoderDataConfig)
    """Where heads come from."""
    model: ReconstructorConfig = field(default_factory=ReconstructorConfig)
    """The encoder and the generator behind it."""
    init: Annotated[str | None, Option(metavar="RUN|FILE")] = None
    """Start from this GAN's generator, or from this reconstructor."""
    discriminator: Annotated[DiscriminatorConfig, NO_OPTIONS] = field(
        default_factory=DiscriminatorConfig
    )
    """The late discriminator."""
    loss: EncoderLossConfig = field(default_factory=EncoderLossConfig)
    """Weights."""
    rates: EncoderRates = field(default_factory=EncoderRates)
    """Optimizer."""
    stages: tuple[EncoderStage, ...] = (EncoderStage(),)
    """The schedule."""
    steps: Annotated[int, Range(1), Option(resume=True)] = 20_000
    """Where the run ends."""
    tick: Annotated[int, Range(1), Option(resume=True)] = 100
    """Steps between status lines."""
    snapshot_ticks: Annotated[int, Range(1), Option("--snap", resume=True)] = 10
    """Status lines between snapshots."""
    precision: Annotated[
        Literal["bf16", "tf32", "fp32"], Option(default="what is faster, timed")
    ] = "fp32"
    """Precision of convolutions and attention; tf32: on NVIDIA GPUs."""
    seed: Annotated[int, Range(0), Option()] = 0
    """Every random choice of the run derives from it."""


# 16,384 Gaussians and an image of 128 pixels a side: about half a second a step on one core.
_TINY = EncoderTrainConfig(
    preset="tiny",
    model=ReconstructorConfig(
        generator=GeneratorConfig(
            z_dim=128,
            w_dim=128,
            plane_resolution=128,
            latent_resolution=32,
            cbase=4096,
            cmax=128,
            grid=128,
            image_size=128,
            attributes=SURFACE,
        ),
        channels=(32, 48, 64, 128),
        blocks=1,
        width=128,
        layers=3,
        heads=4,
        mlp_ratio=2.0,
        mixing="convolution",
        corrections=1,
    ),
    loss=EncoderLossConfig(l2=5.0),
    discriminator=DiscriminatorConfig(cbase=4096, cmax=128, map_depth=2),
    rates=EncoderRates(encoder=1e-3, decoder=4e-3, warmup=200, ema_steps=500),
    stages=(EncoderStage(views=(1, 2, 3, 4, 8), targets=4, batch=4),),
    steps=10_000,
    tick=50,
    snapshot_ticks=10,
)
_SMALL = replace(
    _TINY,
    preset="small",
    model=replace(
        _TINY.model,
        generator=replace(_TINY.model.generator, w_dim=256, z_dim=256, cbase=8192, cmax=256),
        channels=(48, 96, 128, 256),
        blocks=2,
        width=256,
        layers=6,
        heads=8,
        mlp_ratio=4.0,
        mixing="attention",
    ),
    rates=replace(_TINY.rates, encoder=5e-4),
    steps=100_000,
    tick=100,
    stages=(
        EncoderStage(views=(1, 2, 4, 6, 8), targets=4, batch=8),
        EncoderStage(start=80_000, views=(1, 2, 4, 8, 16), targets=4, batch=4, region=2.0),
    ),
)
# HeadsUp: 4,096 tokens of 512, 65,536 Gaussians with harmonics of degree 1, 900,000 + 200,000
# steps, a discriminator after 240,000, 10 then 16 views, batch 64 then 32, Adam at 2e-4. What it
# leaves open is in docs/reconstruction.md.
_HEADSUP = EncoderTrainConfig(
    preset="headsup",
    data=EncoderDataConfig(background="image"),
    model=ReconstructorConfig(
        generator=GeneratorConfig(
            plane_resolution=256,
            latent_resolution=64,
            grid=256,
            image_size=512,
            attributes=replace(SURFACE, sh_degree=1, opacity_init=0.1),
        ),
        guided=False,
        background=RigBackgroundConfig(kind="sphere"),
    ),
    loss=EncoderLossConfig(perceptual=1.0, adversarial=0.05, adversarial_from=240_000),
    rates=EncoderRates(warmup=3000),
    stages=(
        EncoderStage(image_size=512, views=(10,), targets=4, batch=64),
        EncoderStage(start=900_000, image_size=1024, views=(16,), targets=4, batch=32, region=10.0),
    ),
    steps=1_100_000,
    tick=1000,
    snapshot_ticks=25,
)

PRESETS = {config.preset: config for config in (_TINY, _SMALL, _HEADSUP)}


def stage_at(stages: tuple[EncoderStage, ...], step: int) -> EncoderStage:
    """The stage in force."""
    return max((stage for stage in stages if stage.start <= step), key=lambda stage: stage.start)


def check(config: EncoderTrainConfig, world_size: int = 1) -> None:
    """Raise ``UserError`` for a config that cannot train, naming the key."""
    check_ranges(config)
    data, rates = config.data, config.rates
    if not config.stages or min(stage.start for stage in config.stages) != 0:
        raise UserError("The stages must start at step 0.")
    if not data.path and data.gan_share < 1:
        raise ConfigError(NO_DATA)
    if data.gan_share > 0 and config.init is None:
        raise ConfigError(
            "{data.gan_share} needs the network whose samples are seen: name it with {init}."
        )
    if rates.decoder == 0 and config.init is None:
        raise ConfigError(
            "{rates.decoder=0} needs a decoder that has been trained: name its network with {init}."
        )
    for stage in config.stages:
        if stage.batch % world_size:
            raise UserError(
                f"A batch of {stage.batch} heads cannot be shared by {world_size} processes."
            )
        if config.loss.adversarial > 0 and stage.image_size & (stage.image_size - 1):
            raise UserError(
                f"The discriminator needs sizes that are powers of two, not {stage.image_size}."
            )
        if not stage.views or stage.targets < 1:
            raise UserError("Every stage needs at least one input view and one target.")
