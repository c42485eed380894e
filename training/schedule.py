"""What changes over a run, as pure functions of the number of images seen."""

from gghead.training.config import LossConfig, OptimizerConfig, Stage


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


def swap_probability(loss: LossConfig, nimg: int) -> float:
    """Probability that the mapping network is shown a neighbour's camera (EG3D, section 4.3)."""
    share = min(nimg / (loss.swap_fade_kimg * 1000), 1.0) if loss.swap_fade_kimg > 0 else 1.0
    return loss.swap_start + (loss.swap_end - loss.swap_start) * share


def ema_beta(optimizer: OptimizerConfig, nimg: int, batch: int) -> float:
    """Decay per step of the moving average: a half-life in images that ramps up with the images seen."""
    half_life = optimizer.ema_kimg * 1000
    if optimizer.ema_rampup is not None:
        half_life = min(half_life, nimg * optimizer.ema_rampup)
    return 0.5 ** (batch / max(half_life, 1e-8))
