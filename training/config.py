"""Everything that decides a training run, as frozen dataclasses written to ``training_options.json``."""

from dataclasses import dataclass, field
from typing import Literal

from gghead.models.config import DiscriminatorConfig, GeneratorConfig
from gghead.torch_utils.errors import UserError
from gghead.training.augment_config import AugmentConfig
from gghead.training.metrics.names import check_feature_net, parse_metrics


@dataclass(frozen=True)
class DataConfig:
    """The training images."""

    path: str = ""
    """EG3D zip or folder with dataset.json, folder of such zips, or WebDataset-style tar files."""
    masks: str | None = "auto"
    """auto: masks in the zip or GGHead's zip beside it; a path; none: ignore masks."""
    mirror: bool = False
    """Add every image flipped, with its camera flipped too."""
    max_images: int | None = None
    """Use only the first so many images."""
    check: bool = True
    """Refuse to train on cameras that cannot be those of heads (see dataset_tool.py check)."""
    shards_at_once: int | None = None
    """Of data in several files, mix images of only so many at a time; none: any image at any time (tar files: 2)."""
    background: Literal["white", "random", "image"] = "white"
    """What masked reals and fakes are composited over; image: the photo's own background, masks unused."""


@dataclass(frozen=True)
class Stage:
    """From ``start_kimg`` on: image size, number of Gaussians and the weights that change between GGHead's stages."""

    start_kimg: float = 0.0
    """First thousand images of the stage."""
    image_size: int = 256
    """Side of the images, of the renderings and of the discriminator's input."""
    grid: int = 256
    """Gaussians per side of the UV square."""
    fade_kimg: float = 0.0
    """Length of the fade-in of a larger image size."""
    lambda_tv: float = 0.0
    """Weight of the UV total variation."""
    lambda_beta: float = 0.0
    """Weight of the beta prior on opacities."""


@dataclass(frozen=True)
class LossConfig:
    """Adversarial loss and regularisers."""

    kind: Literal["nonsaturating", "relativistic"] = "nonsaturating"
    """nonsaturating (StyleGAN2) with R1, or relativistic pairing with R1 + R2 (R3GAN, Huang et al. 2024)."""
    r1_gamma: float = 1.0
    """Weight of the gradient penalty, (gamma / 2) |grad|^2."""
    r1_interval: int = 16
    """The penalty runs every so many steps, with its gain multiplied accordingly (lazy regularisation)."""
    reuse_fakes: bool = False
    """The discriminator learns from the generator phase's images instead of a fresh batch: one generator pass less."""
    blur_sigma: float = 10.0
    """Standard deviation in pixels of the discriminator's blur at the start."""
    blur_fade_kimg: float = 200.0
    """The blur shrinks linearly to nothing over so many thousand images."""
    lambda_position: float = 0.1
    """Weight of the mean length of raw position offsets."""
    lambda_scale: float = 0.05
    """Weight of the mean length of raw scales."""
    tv_alpha_floor: float = 0.5
    """Pixels below this alpha are silhouette and take no part in the UV total variation."""
    tv_depth_edge: float = 0.0
    """Neighbours whose depths differ by more (world units) are a true occlusion edge and are left out; 0: keep all."""
    style_mixing: float = 0.0
    """Probability of mixing two styles at a random layer."""
    swap_start: float = 1.0
    """Probability of conditioning on a neighbour's camera at the start (generator pose conditioning)."""
    swap_end: float = 0.5
    """The same probability after the fade."""
    swap_fade_kimg: float = 1000.0
    """Length of that fade."""


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam for both networks, and the moving average of the generator."""

    g_lr: float = 0.0025
    """Generator learning rate."""
    d_lr: float = 0.002
    """Discriminator learning rate, before the correction for lazy regularisation."""
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

    preset: str = "custom"
    """Row of the presets table that the run started from."""
    data: DataConfig = field(default_factory=DataConfig)
    """The training images."""
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    """The generator."""
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    """The discriminator."""
    loss: LossConfig = field(default_factory=LossConfig)
    """Adversarial loss and regularisers."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Optimisers and moving average."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Discriminator augmentation."""
    stages: tuple[Stage, ...] = (Stage(),)
    """The schedule, ordered by ``start_kimg``."""
    batch: int = 32
    """Images per step over all processes."""
    batch_gpu: int | None = None
    """Images per process and pass; smaller values accumulate gradients. None: the process's whole share."""
    init_kimg: float = 0.0
    """Thousands of images that the networks given by --init had seen; blur, camera swaps and the average's ramp count
    on from there."""
    kimg: float = 25000.0
    """Thousands of real images after which the run ends (an absolute count, also after a resume)."""
    tick_kimg: float = 4.0
    """Thousands of images between status lines."""
    snapshot_ticks: int = 50
    """Ticks between snapshots."""
    metrics: tuple[str, ...] = ()
    """Distances computed at every snapshot, e.g. frd2k."""
    feature_net: str | None = None
    """TorchScript network that fid metrics compare features of, such as StyleGAN's Inception."""
    seed: int = 0
    """Every random choice of the run derives from it."""
    precision: Literal["bf16", "tf32", "fp32"] = "fp32"
    """Precision of the convolutions; everything else is float32. bf16: the discriminator's, and the generator's where
    its Gaussians bear it; tf32: NVIDIA's 10 bits of mantissa; see training/precision.py."""
    workers: int | None = None
    """Threads that read images; None: as many as it takes that no step waits, up to this process's share of cores."""


def check(config: TrainConfig, world_size: int = 1) -> None:
    """Raise ``UserError`` for a config that cannot train, naming the option."""
    check_feature_net(parse_metrics(config.metrics), config.feature_net)
    starts = [stage.start_kimg for stage in config.stages]
    sizes = [stage.image_size for stage in config.stages]
    if not starts or starts[0] != 0 or starts != sorted(set(starts)):
        raise UserError(f"stages must start at 0 kimg and follow one another, but they start at {starts}.")
    if any(size < 8 or size & (size - 1) for size in sizes) or sizes != sorted(sizes):
        raise UserError(f"The image sizes of the stages must be growing powers of two, but they are {sizes}.")
    if config.batch < 1 or config.batch % world_size:
        raise UserError(f"--batch={config.batch} cannot be shared by {world_size} processes; choose a multiple.")
    share = config.batch // world_size
    if config.batch_gpu is not None and (config.batch_gpu < 1 or share % config.batch_gpu):
        raise UserError(f"--batch-gpu={config.batch_gpu} must divide the {share} images of each process.")
    for name, value in (("--gamma", config.loss.r1_gamma), ("--kimg", config.kimg), ("--glr", config.optimizer.g_lr),
                        ("--dlr", config.optimizer.d_lr)):
        if not value >= 0:
            raise UserError(f"{name} must not be negative, but it is {value}.")
    if config.loss.r1_interval < 1:
        raise UserError(f"loss.r1_interval counts steps and must be at least 1, but it is {config.loss.r1_interval}.")
    if not config.tick_kimg * 1000 >= 1 or config.snapshot_ticks < 1:
        raise UserError("--tick must be at least 0.001 (an image), and --snap at least 1.")
