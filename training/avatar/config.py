"""What one training of an avatar is, and the presets.

``headgas`` has the paper's numbers, and a cap of Gaussians.
"""

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from gghead.models.avatar_config import AvatarConfig
from gghead.torch_utils.config import Option, Range


@dataclass(frozen=True)
class DensifyConfig:
    """When Gaussians are cloned, split and pruned.

    3DGS, section 5; names and rules of gsplat's DefaultStrategy.
    """

    start: int = 500
    """First iteration after which Gaussians may be added."""
    until: int = 15_000
    """Iteration from which they stay as they are."""
    every: int = 100
    """Iterations between two refinements."""
    gradient: float = 2e-4
    """Mean gradient of the projected mean, in halves of the image, from which a Gaussian is
    cloned or split."""
    small: float = 0.01
    """Largest standard deviation, as a share of the extent, up to which it is cloned and beyond
    which it is split."""
    large: float = 0.1
    """Share of the extent beyond which it is pruned, after iteration ``large_from``."""
    large_from: int = 3000
    """Iteration after which large Gaussians are pruned."""
    min_opacity: float = 0.005
    """Pruned if the opacity stayed below it in all frames of the window; the paper's opacity
    follows the expression, so that 3DGS's reset of it has nothing to reset."""
    window: int = 1000
    """Longest window in iterations; it is one pass over the training frames if that is shorter."""
    max_gaussians: Annotated[int, Range(0), Option()] = 50_000
    """Largest number of Gaussians, those with the largest gradients first; 0 = no limit. Fewer
    leave fine structure out and make frames faster.

    One Gaussian takes 43 kB while it is trained with 53 coefficients (a feature basis, its
    gradient, two averages, and copies while the set is refined), so that 50,000 take 2.1 GB. The
    paper names no number: at its threshold the set about doubles at every refinement and soon fills
    any memory."""


@dataclass(frozen=True)
class AvatarLossConfig:
    """Weights of HeadGaS, equation 6."""

    l1: float = 0.8
    """Mean absolute difference."""
    dssim: float = 0.2
    """1 - SSIM."""
    perceptual: float = 0.1
    """Distance by ``perceptual_net`` in the head's box; 0 = off."""
    perceptual_from: int = 10_000
    """First iteration with it."""
    perceptual_net: Annotated[str | None, Option(metavar="SPEC", default="off", resume=True)] = None
    """Perceptual loss: lpips-vgg[:FILES], lpips-alex[:FILES], vgg[:FILE],
    efficientnet-lite0[:FILE], discriminator:RUN, gradient, or a TorchScript file
    (docs/perceptual.md)."""


@dataclass(frozen=True)
class RateConfig:
    """Adam's learning rates.

    They are those of 3DGS. For what 3DGS does not have see docs/avatars.md.
    """

    means: float = 1.6e-4
    """Of the means in extents, at the start."""
    means_end: float = 1.6e-6
    """The same at the end; in between it falls exponentially."""
    scales: float = 5e-3
    """Of the logarithms of the standard deviations."""
    quats: float = 1e-3
    """Of the rotations."""
    features: float = 2.5e-3
    """Of basis and bias (and of stored colors and opacities)."""
    motion: Annotated[float, Range(0), Option("--motion-lr")] = 5e-3
    """Learning rate of what corrects blendshapes' motion, in multiples of what the template does,
    at the start; it falls to a hundredth as that of the means does. 0 leaves motions as they
    are."""
    network: float = 1e-3
    """Of the network at the start."""
    network_end: float = 1e-5
    """The same at the end."""


@dataclass(frozen=True)
class AvatarTrainConfig:
    """One run."""

    preset: Annotated[str, Option()]
    """Named settings that the run starts from. tiny: minutes on a CPU; headgas: the paper's
    numbers, at most 50,000 Gaussians."""
    data: Annotated[str, Option(metavar="DIR|ZIP", resume=True)] = ""
    """Folder or zip of a tracked sequence with expression coefficients (docs/formats.md)."""
    resolution: Annotated[
        tuple[int, ...] | None,
        Range(1),
        Option(form="resolution"),
    ] = None
    """Width and height that images are trained at; none: as they are."""
    coefficients: Annotated[int, Range(0), Option(metavar="N")] = 0
    """Only so many of the sequence's expression coefficients, the first ones; the paper takes 52 of
    FLAME's; 0 = all."""
    extras: Annotated[tuple[str, ...], Option()] = ()
    """Tracked parameters appended to the coefficients: jaw,eyes,eyelids."""
    avatar: AvatarConfig = field(default_factory=lambda: AvatarConfig(width=0))
    """The model; width, names and camera are filled in from the data."""
    motion: Annotated[Literal["auto", "features", "blendshapes"], Option()] = "features"
    """features: expressions change color and opacity alone, as in the paper and its ablations;
    blendshapes: they also move the Gaussians as the template's blendshapes do, which training
    corrects; auto: that, where the template has shapes for the data's coefficients
    (docs/motion.md)."""
    eyeballs: Annotated[float, Range(0, 0.5), Option(metavar="SHARE")] = 0.048
    """Share of the points that are eyeballs, which the gaze turns; 0 = none.

    Only where motion is that of blendshapes, the data have coefficients of the gaze, and no head is
    given to start from (``gghead.animation.eyeballs``)."""
    template: Annotated[str, Option(metavar="NAME|OBJ")] = "head"
    """Mesh whose surface gives the initial points: a built-in one, or a tracked mesh (.obj with
    UVs) in our world."""
    points: Annotated[int, Range(4), Option()] = 2500
    """Gaussians to start with."""
    init_head: Annotated[str | None, Option(metavar="PLY|ENCODER")] = None
    """Head to start from instead of points on the template, with its colors: a .ply, or an encoder
    (scripts/train_encoder.py), which makes one of the calmest training frames."""
    iterations: Annotated[int, Range(1), Option("--steps", resume=True)] = 50_000
    """Steps in all, one frame each."""
    extent: float = 1.0
    """Size of the scene in world units, which 3DGS's rates and limits refer to; a head is about
    that large."""
    sh_every: Annotated[int, Range(1), Option()] = 1000
    """Iterations between two degrees of the harmonics, as in 3DGS."""
    background: Annotated[Literal["random", "blackwhite", "white"], Option()] = "random"
    """What rendering and image are put over: a random color, black or white by chance, or white."""
    loss: AvatarLossConfig = AvatarLossConfig()
    """Weights."""
    rates: RateConfig = RateConfig()
    """Learning rates."""
    densify: DensifyConfig = DensifyConfig()
    """Adding and removing Gaussians."""
    tick: Annotated[int, Range(1), Option(resume=True)] = 500
    """Iterations between two status lines."""
    snapshot_ticks: Annotated[int, Range(1), Option("--snap", resume=True)] = 10
    """Status lines between two snapshots."""
    cache_mb: int = 2048
    """Decoded frames are kept in memory if they take no more than that, in MiB."""
    seed: Annotated[int, Range(0), Option()] = 0
    """Seed of everything random."""


# the paper's but for the cap of Gaussians
_HEADGAS = AvatarTrainConfig(preset="headgas", resolution=(512, 512))
# A core takes about 70 ms per iteration at 128 pixels with 5,000 Gaussians; the cap keeps it there.
_TINY = replace(
    _HEADGAS,
    preset="tiny",
    resolution=(128, 128),
    iterations=15_000,
    motion="auto",
    avatar=AvatarConfig(width=0, sh_degree=1),
    densify=DensifyConfig(until=7500, gradient=6e-4, max_gaussians=5000),
)

PRESETS = {config.preset: config for config in (_TINY, _HEADGAS)}

ABLATIONS = {
    "no-blending": {"avatar": {"blend": False}},
    "geometry": {"avatar": {"changes": "geometry"}},
    "everything": {"avatar": {"changes": "everything"}},
    "no-mlp": {"avatar": {"mlp": False}},
    "no-perceptual": {"loss": {"perceptual": 0.0}},
}
"""The paper's five -> the changes to a config."""
