"""The presets, one table: each row is a complete config but for the data; the numbers of ``ffhq512`` are GGHead's."""

from dataclasses import replace

from gghead.models.config import AttributeConfig, DiscriminatorConfig, GeneratorConfig
from gghead.training.augment_config import AugmentConfig
from gghead.training.config import DataConfig, LossConfig, OptimizerConfig, Stage, TrainConfig

# Offsets that act as strongly as GGHead's fold a small head before its colours have formed (docs/LOG.md).
_SMOOTH = AttributeConfig(position_gain=0.02, geometry_smoothing=4)
# A 2-core CPU trains tiny at tens of images per second; the cut stays at a quarter of the UV resolution.
_TINY = TrainConfig(
    preset="tiny",
    data=DataConfig(background="random"),
    generator=GeneratorConfig(z_dim=128, w_dim=128, plane_resolution=64, latent_resolution=16, cbase=2048, cmax=128,
                              grid=64, image_size=64, attributes=_SMOOTH),
    discriminator=DiscriminatorConfig(cbase=2048, cmax=128, map_depth=2),
    loss=LossConfig(r1_gamma=0.2, reuse_fakes=True, blur_sigma=2.5, blur_fade_kimg=10),
    optimizer=OptimizerConfig(ema_kimg=5),
    # A short run needs a quick controller; full hue rotations leaked into the samples (purple faces) at p = 0.3.
    augment=AugmentConfig(mode="ada", kimg=100, hue=15.0, saturation=0.5),
    stages=(Stage(image_size=64, grid=64, lambda_tv=5.0, lambda_beta=0.3),),
    batch=16, kimg=200, tick_kimg=1, snapshot_ticks=10,
)
_SMALL = replace(
    _TINY, preset="small",
    generator=replace(_TINY.generator, z_dim=256, w_dim=256, plane_resolution=128, latent_resolution=32, cbase=8192,
                      cmax=256, grid=128, image_size=128),
    discriminator=DiscriminatorConfig(cbase=8192, cmax=256, map_depth=4),
    loss=replace(_TINY.loss, r1_gamma=0.4, blur_sigma=5, blur_fade_kimg=50),
    stages=(Stage(image_size=128, grid=128, lambda_tv=10.0, lambda_beta=0.3),),
    batch=16, kimg=2000, tick_kimg=2, snapshot_ticks=25,
)
_FFHQ512 = TrainConfig(
    preset="ffhq512",
    data=DataConfig(background="white"),
    generator=GeneratorConfig(pose_cond=True, plane_resolution=256, latent_resolution=64, grid=512, image_size=512),
    discriminator=DiscriminatorConfig(),
    loss=LossConfig(),
    augment=AugmentConfig(mode="noaug"),
    stages=(
        Stage(start_kimg=0, image_size=256, grid=256),
        # GGHead's weight 100 is a mean over (u, v, constant): two thirds of a mean over (u, v).
        Stage(start_kimg=6400, image_size=512, grid=512, fade_kimg=1000, lambda_tv=100 * 2 / 3, lambda_beta=1.0),
    ),
    batch=32, kimg=25000, tick_kimg=4, snapshot_ticks=50,
)
_FFHQ256 = replace(
    _FFHQ512, preset="ffhq256",
    generator=replace(_FFHQ512.generator, grid=256, image_size=256),
    stages=_FFHQ512.stages[:1], kimg=6400,
)
_FFHQ1024 = replace(
    _FFHQ512, preset="ffhq1024",
    generator=replace(_FFHQ512.generator, image_size=1024),
    stages=(*_FFHQ512.stages, replace(_FFHQ512.stages[1], start_kimg=25000, image_size=1024)), kimg=27000,
)
# Cats: GGHead starts from its FFHQ weights (--init); about 5,000 images, so augmentation adapts here.
_AFHQ512 = replace(
    _FFHQ512, preset="afhq512",
    augment=AugmentConfig(mode="ada"),
    stages=(replace(_FFHQ512.stages[1], start_kimg=0, fade_kimg=0),), kimg=7000,
)

PRESETS = {config.preset: config for config in (_TINY, _SMALL, _FFHQ256, _FFHQ512, _FFHQ1024, _AFHQ512)}

def default_gamma(image_size: int, batch: int) -> float:
    """R1 weight by resolution and batch, gamma = 0.0002 * pixels / batch (Karras et al. 2020, "ADA", appendix C)."""
    return 0.0002 * image_size**2 / batch
