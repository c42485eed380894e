"""Everything a GAN's run depends on, and the presets; JSON and back."""

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from gghead.models.config import AttributeConfig, DiscriminatorConfig, GeneratorConfig
from gghead.torch_utils.config import ConfigError, Option, Range, check_ranges
from gghead.torch_utils.errors import UserError
from gghead.training.metrics.names import check_feature_net, parse_metrics

GROUPS = ("geometry", "color", "noise", "cutout")


@dataclass(frozen=True)
class AugmentConfig:
    """What the discriminator's images go through and how often."""

    mode: Annotated[
        Literal["ada", "fixed", "noaug"],
        Option("--aug", default="ada for small sets, else the preset's"),
    ] = "ada"
    """How the discriminator's images are changed. ada: p follows the discriminator; fixed: p
    stays; noaug: images pass unchanged."""
    p: Annotated[float, Range(0, 1), Option()] = 0.2
    """Probability of each operation in mode 'fixed'; mode 'ada' starts at initial_p instead."""
    initial_p: Annotated[float, Range(0, 1)] = 0.0
    """Where p starts in mode 'ada'."""
    max_p: Annotated[float, Range(0, 1)] = 0.8
    """Upper end of p in mode 'ada'; beyond about 0.8 the changes begin to leak into the generator's
    images."""
    target: Annotated[float, Range(0, 1), Option()] = 0.6
    """Mean sign of the real scores that mode 'ada' aims for."""
    interval: Annotated[int, Range(1)] = 4
    """Training steps between two adjustments of p."""
    kimg: Annotated[float, Range(0, above=True)] = 500.0
    """Thousands of images in which p can rise from 0 to 1: smaller is faster."""
    groups: tuple[str, ...] = GROUPS
    """Which groups of operations are in use."""
    translation: float = 0.05
    """Largest shift as a share of the image size; shifts are whole pixels."""
    scale: Annotated[float, Range(0, 1)] = 0.08
    """Largest relative change of size."""
    rotation: float = 5.0
    """Largest rotation in degrees."""
    brightness: float = 0.2
    """Standard deviation of the added brightness (images span -1 to 1)."""
    contrast: float = 0.5
    """Standard deviation of log2 of the contrast factor."""
    hue: float = 180.0
    """Largest rotation of the hue in degrees."""
    saturation: float = 1.0
    """Standard deviation of log2 of the saturation factor."""
    luma_flip: bool = False
    """Whether light and dark may be exchanged; faces do not survive it."""
    noise: float = 0.1
    """Scale of the half-normal distribution of the noise's standard deviation."""
    cutout: float = 0.5
    """Side of the hidden rectangle as a share of the image size."""

    def __post_init__(self) -> None:
        unknown = [group for group in self.groups if group not in GROUPS]
        if unknown:
            raise UserError(
                f"augment.groups has no group '{unknown[0]}'; choose from {', '.join(GROUPS)}."
            )
        check_ranges(self, "augment")
        if self.scale == 1.0:
            raise UserError("augment.scale must be below 1, where images would shrink to nothing.")

    @property
    def start_p(self) -> float:
        """The p that training starts with."""
        return {"ada": self.initial_p, "fixed": self.p, "noaug": 0.0}[self.mode]


@dataclass(frozen=True)
class DataConfig:
    """The training images."""

    path: Annotated[str, Option("--data", metavar="ZIP|DIR", resume=True)] = ""
    """Training images with cameras: EG3D zip or folder with dataset.json, folder of such zips, or
    WebDataset-style tar files."""
    masks: Annotated[str | None, Option(metavar="auto|none|ZIP|DIR")] = "auto"
    """auto: masks in the zip or GGHead's zip beside it; a path; none: ignore masks."""
    mirror: Annotated[bool, Option()] = False
    """Add every image flipped, with its camera flipped too."""
    max_images: Annotated[int | None, Range(1), Option("--subset")] = None
    """Use only a fixed random subset of so many images."""
    check: bool = True
    """Refuse to train on cameras that cannot be those of heads (see dataset_tool.py check)."""
    shards_at_once: int | None = None
    """Of data in several files, mix images of only so many at a time; none: any image at any time
    (tar files: 2)."""
    background: Annotated[
        Literal["white", "random", "image"], Option(default="the preset's; image without masks")
    ] = "white"
    """What masked reals and fakes are composited over; image: the image's own background, masks
    unused."""


@dataclass(frozen=True)
class Stage:
    """From ``start_kimg`` on: image size, number of Gaussians and weights.

    The weights are those that change between GGHead's stages.
    """

    start_kimg: float = 0.0
    """First thousand images of the stage."""
    image_size: int = 256
    """Side of the images, of the renderings and of the discriminator's input."""
    grid: int = 256
    """Gaussians per side of the UV square."""
    fade_kimg: float = 0.0
    """Length of the fade-in of a larger image size."""
    lambda_tv: Annotated[float, Range(0), Option()] = 0.0
    """Weight of the UV total variation."""
    lambda_beta: float = 0.0
    """Weight of the beta prior on opacities."""


@dataclass(frozen=True)
class LossConfig:
    """Adversarial loss and regularizers."""

    kind: Annotated[Literal["nonsaturating", "relativistic"], Option("--loss")] = "nonsaturating"
    """Adversarial loss: nonsaturating (StyleGAN2) with R1, or relativistic pairing with R1 + R2
    (R3GAN, Huang et al. 2024)."""
    r1_gamma: Annotated[
        float, Range(0), Option("--gamma", default="by image size and batch, or the preset's")
    ] = 1.0
    """Weight of the gradient penalty, (gamma / 2) |grad|^2."""
    r1_interval: int = 16
    """The penalty runs every so many steps, with its gain multiplied accordingly (lazy
    regularization)."""
    reuse_fakes: bool = False
    """The discriminator learns from the generator phase's images instead of a fresh batch: one
    generator pass less."""
    blur_sigma: float = 10.0
    """Standard deviation in pixels of the discriminator's blur at the start."""
    blur_fade_kimg: Annotated[float, Range(0), Option()] = 200.0
    """The blur of the discriminator's images shrinks to nothing over so many thousand images,
    linearly."""
    lambda_position: float = 0.1
    """Weight of the mean length of raw position offsets."""
    lambda_scale: float = 0.05
    """Weight of the mean length of raw scales."""
    lambda_anchor: Annotated[float, Range(0), Option()] = 0.0
    """Weight of the mean distance of raw positions and scales from those that the generator of
    --init makes of the same styles: shapes stay while colors learn."""
    anchor_fade_kimg: Annotated[float, Range(0), Option()] = 0.0
    """That weight falls to nothing over so many thousand images, linearly; 0: it stays."""
    tv_alpha_floor: float = 0.5
    """Pixels below this alpha are silhouette and take no part in the UV total variation."""
    tv_depth_edge: float = 0.0
    """Neighbors whose depths differ by more (world units) are a true occlusion edge and are left
    out; 0: keep all."""
    style_mixing: Annotated[float, Range(0, 1), Option("--style-mixing-prob")] = 0.0
    """Probability of mixing two styles at a random layer."""
    swap_start: float = 1.0
    """Probability of conditioning on a neighbor's camera at the start (generator pose
    conditioning)."""
    swap_end: Annotated[float, Range(0, 1), Option("--gpc-reg-prob")] = 0.5
    """Probability of conditioning on a neighbor's camera after the fade."""
    swap_fade_kimg: Annotated[float, Range(0), Option("--gpc-reg-fade-kimg")] = 1000.0
    """Length of the fade between these probabilities, in thousands of images."""


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam for both networks, and the moving average of the generator."""

    g_lr: Annotated[float, Range(0), Option("--glr")] = 0.0025
    """Generator learning rate."""
    d_lr: Annotated[float, Range(0), Option("--dlr")] = 0.002
    """Discriminator learning rate, before the correction for lazy regularization."""
    beta1: float = 0.0
    """First Adam beta."""
    beta2: float = 0.99
    """Second Adam beta."""
    ema_kimg: float = 10.0
    """Half-life of the moving average of the generator's weights."""
    ema_rampup: float | None = 0.05
    """The half-life is at most this share of the images seen so far; none: no ramp."""


@dataclass(frozen=True)
class TrainConfig:
    """One training run."""

    preset: Annotated[str, Option("--preset", "--cfg", default="chosen by data and machine")] = (
        "custom"
    )
    """Named settings that the run starts from."""
    data: DataConfig = field(default_factory=DataConfig)
    """The training images."""
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    """The generator."""
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    """The discriminator."""
    loss: LossConfig = field(default_factory=LossConfig)
    """Adversarial loss and regularizers."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Optimizers and moving average."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Discriminator augmentation."""
    stages: tuple[Stage, ...] = (Stage(),)
    """The schedule, ordered by ``start_kimg``."""
    batch: Annotated[int, Range(1), Option()] = 32
    """Images per step over all processes."""
    batch_gpu: Annotated[int | None, Range(1), Option()] = None
    """Images per process and pass; smaller values accumulate gradients; none: the process's whole
    share."""
    init_kimg: float = 0.0
    """Thousands of images that the networks given by --init had seen; blur, camera swaps and the
    average's ramp count on from there."""
    kimg: Annotated[float, Range(0), Option(resume=True)] = 25000.0
    """Thousands of real images after which the run ends (an absolute count, also after a
    resume)."""
    tick_kimg: Annotated[float, Range(0.001), Option("--tick", resume=True)] = 4.0
    """Thousands of images between status lines."""
    snapshot_ticks: Annotated[int, Range(1), Option("--snap", resume=True)] = 50
    """Ticks between snapshots."""
    metrics: Annotated[tuple[str, ...], Option(metavar="LIST|none", resume=True)] = ()
    """Distances computed at every snapshot, such as frd2k,swd2k."""
    feature_net: Annotated[
        str | None, Option(metavar="efficientnet-lite2[:FILE]|FILE", resume=True)
    ] = None
    """Network whose features fd metrics compare; for fid metrics TorchScript, such as StyleGAN's
    Inception."""
    seed: Annotated[int, Range(0), Option()] = 0
    """Every random choice of the run derives from it."""
    precision: Annotated[
        Literal["bf16", "tf32", "fp32"], Option(default="what is faster, timed")
    ] = "fp32"
    """Precision of the convolutions; everything else is float32. tf32: 10 bits of mantissa, on
    NVIDIA GPUs.

    bf16: the discriminator's, and the generator's where its Gaussians bear it; see
    training/run/precision.py."""
    workers: Annotated[int | None, Range(1), Option(resume=True)] = None
    """Threads that read images; None: as many as it takes that no step waits, up to this process's
    share of cores."""


def check(config: TrainConfig, world_size: int = 1) -> None:
    """Raise ``UserError`` for a config that cannot train, naming the key."""
    check_ranges(config)
    check_feature_net(parse_metrics(config.metrics), config.feature_net)
    starts = [stage.start_kimg for stage in config.stages]
    sizes = [stage.image_size for stage in config.stages]
    if not starts or starts[0] != 0 or starts != sorted(set(starts)):
        raise UserError(
            f"stages must start at 0 kimg and follow one another, but they start at {starts}."
        )
    if any(size < 8 or size & (size - 1) for size in sizes) or sizes != sorted(sizes):
        raise UserError(
            f"The image sizes of the stages must be growing powers of two, but they are {sizes}."
        )
    if config.batch % world_size:
        raise ConfigError(
            f"{{batch}}={config.batch} cannot be shared by {world_size} processes; choose a"
            " multiple."
        )
    share = config.batch // world_size
    if config.batch_gpu is not None and share % config.batch_gpu:
        raise ConfigError(
            f"{{batch_gpu}}={config.batch_gpu} must divide the {share} images of each process."
        )
    if config.loss.r1_interval < 1:
        raise UserError(
            "loss.r1_interval counts steps and must be at least 1, but it is"
            f" {config.loss.r1_interval}."
        )


# Offsets that act as strongly as GGHead's fold a small head before its colors have formed
# (research/NOTEBOOK.md).
_SMOOTH = AttributeConfig(position_gain=0.02, geometry_smoothing=4)
# A 2-core CPU trains tiny at tens of images per second; the cut stays at a quarter of the UV
# resolution.
_TINY = TrainConfig(
    preset="tiny",
    data=DataConfig(background="random"),
    generator=GeneratorConfig(
        z_dim=128,
        w_dim=128,
        plane_resolution=64,
        latent_resolution=16,
        cbase=2048,
        cmax=128,
        grid=64,
        image_size=64,
        attributes=_SMOOTH,
    ),
    discriminator=DiscriminatorConfig(cbase=2048, cmax=128, map_depth=2),
    loss=LossConfig(r1_gamma=0.2, reuse_fakes=True, blur_sigma=2.5, blur_fade_kimg=10),
    optimizer=OptimizerConfig(ema_kimg=5),
    # A short run needs a quick controller; full hue rotations leaked into the samples (purple
    # faces) at p = 0.3.
    augment=AugmentConfig(mode="ada", kimg=100, hue=15.0, saturation=0.5),
    stages=(Stage(image_size=64, grid=64, lambda_tv=5.0, lambda_beta=0.3),),
    batch=16,
    kimg=200,
    tick_kimg=1,
    snapshot_ticks=10,
)
_SMALL = replace(
    _TINY,
    preset="small",
    generator=replace(
        _TINY.generator,
        z_dim=256,
        w_dim=256,
        plane_resolution=128,
        latent_resolution=32,
        cbase=8192,
        cmax=256,
        grid=128,
        image_size=128,
    ),
    discriminator=DiscriminatorConfig(cbase=8192, cmax=256, map_depth=4),
    loss=replace(_TINY.loss, r1_gamma=0.4, blur_sigma=5, blur_fade_kimg=50),
    stages=(Stage(image_size=128, grid=128, lambda_tv=10.0, lambda_beta=0.3),),
    batch=16,
    kimg=2000,
    tick_kimg=2,
    snapshot_ticks=25,
)
_FFHQ512 = TrainConfig(
    preset="ffhq512",
    data=DataConfig(background="white"),
    generator=GeneratorConfig(
        pose_cond=True, plane_resolution=256, latent_resolution=64, grid=512, image_size=512
    ),
    discriminator=DiscriminatorConfig(),
    loss=LossConfig(),
    augment=AugmentConfig(mode="noaug"),
    stages=(
        Stage(start_kimg=0, image_size=256, grid=256),
        # GGHead's weight 100 is a mean over (u, v, constant): two thirds of a mean over (u, v).
        Stage(
            start_kimg=6400,
            image_size=512,
            grid=512,
            fade_kimg=1000,
            lambda_tv=100 * 2 / 3,
            lambda_beta=1.0,
        ),
    ),
    batch=32,
    kimg=25000,
    tick_kimg=4,
    snapshot_ticks=50,
)
_FFHQ256 = replace(
    _FFHQ512,
    preset="ffhq256",
    generator=replace(_FFHQ512.generator, grid=256, image_size=256),
    stages=_FFHQ512.stages[:1],
    kimg=6400,
)
_FFHQ1024 = replace(
    _FFHQ512,
    preset="ffhq1024",
    generator=replace(_FFHQ512.generator, image_size=1024),
    stages=(*_FFHQ512.stages, replace(_FFHQ512.stages[1], start_kimg=25000, image_size=1024)),
    kimg=27000,
)
# Cats: GGHead starts from its FFHQ weights (--init); about 5,000 images, so augmentation adapts
# here.
_AFHQ512 = replace(
    _FFHQ512,
    preset="afhq512",
    augment=AugmentConfig(mode="ada"),
    stages=(replace(_FFHQ512.stages[1], start_kimg=0, fade_kimg=0),),
    kimg=7000,
)

PRESETS = {
    config.preset: config for config in (_TINY, _SMALL, _FFHQ256, _FFHQ512, _FFHQ1024, _AFHQ512)
}


def default_gamma(image_size: int, batch: int) -> float:
    """R1 weight by resolution and batch: gamma = 0.0002 * pixels / batch.

    Karras et al. 2020, "ADA", appendix C.
    """
    return 0.0002 * image_size**2 / batch


def stage_at(stages: tuple[Stage, ...], nimg: int) -> tuple[Stage, float]:
    """The stage in force and the fade-in weight (0…1) of its image size."""
    index = max(i for i, stage in enumerate(stages) if stage.start_kimg * 1000 <= nimg)
    stage = stages[index]
    grown = index > 0 and stage.image_size > stages[index - 1].image_size
    if not grown or stage.fade_kimg <= 0:
        return stage, 1.0
    return stage, min((nimg - stage.start_kimg * 1000) / (stage.fade_kimg * 1000), 1.0)


def blur_sigma(loss: LossConfig, nimg: int) -> float:
    """Standard deviation of the discriminator's blur, shrinking linearly to zero."""
    if loss.blur_fade_kimg <= 0:
        return 0.0
    return max(1.0 - nimg / (loss.blur_fade_kimg * 1000), 0.0) * loss.blur_sigma


def anchor_weight(loss: LossConfig, nimg: int) -> float:
    """Weight of the distance from the generator that the run started from."""
    if loss.anchor_fade_kimg <= 0:
        return loss.lambda_anchor
    return loss.lambda_anchor * max(1.0 - nimg / (loss.anchor_fade_kimg * 1000), 0.0)


def swap_probability(loss: LossConfig, nimg: int) -> float:
    """Probability that the mapping network is shown a neighbor's camera (EG3D, section 4.3)."""
    share = min(nimg / (loss.swap_fade_kimg * 1000), 1.0) if loss.swap_fade_kimg > 0 else 1.0
    return loss.swap_start + (loss.swap_end - loss.swap_start) * share


def ema_beta(optimizer: OptimizerConfig, nimg: int, batch: int) -> float:
    """Decay per step of the moving average.

    It is a half-life in images that ramps up with the images seen.
    """
    half_life = optimizer.ema_kimg * 1000
    if optimizer.ema_rampup is not None:
        half_life = min(half_life, nimg * optimizer.ema_rampup)
    return 0.5 ** (batch / max(half_life, 1e-8))
