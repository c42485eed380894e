"""What discriminator augmentation does, and how often (``augment.py``)."""

from dataclasses import dataclass
from typing import Literal

from gghead.torch_utils.errors import UserError

GROUPS = ("geometry", "color", "noise", "cutout")


@dataclass(frozen=True)
class AugmentConfig:
    """What the discriminator's images go through and how often."""

    mode: Literal["ada", "fixed", "noaug"] = "ada"
    """ada: p follows the discriminator; fixed: p stays; noaug: images pass unchanged."""
    p: float = 0.2
    """Probability of each operation in mode 'fixed'; mode 'ada' starts at initial_p instead."""
    initial_p: float = 0.0
    """Where p starts in mode 'ada'."""
    max_p: float = 0.8
    """Upper end of p in mode 'ada'; beyond about 0.8 the changes begin to leak into the generator's images."""
    target: float = 0.6
    """Mean sign of the real scores that mode 'ada' aims for."""
    interval: int = 4
    """Training steps between two adjustments of p."""
    kimg: float = 500.0
    """Thousands of images in which p can rise from 0 to 1: smaller is faster."""
    groups: tuple[str, ...] = GROUPS
    """Which groups of operations are in use."""
    translation: float = 0.05
    """Largest shift as a share of the image size; shifts are whole pixels."""
    scale: float = 0.08
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
            raise UserError(f"augment.groups has no group '{unknown[0]}'; choose from {', '.join(GROUPS)}.")
        for name in ("p", "initial_p", "max_p"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"augment.{name} must lie between 0 and 1, but it is {getattr(self, name)}.")
        if self.interval < 1 or self.kimg <= 0:
            raise UserError("augment.interval must be at least 1 and augment.kimg above 0.")
        if not 0.0 <= self.scale < 1.0:
            raise UserError(f"augment.scale must lie between 0 and 1, but it is {self.scale}.")

    @property
    def start_p(self) -> float:
        """The p that training starts with."""
        return {"ada": self.initial_p, "fixed": self.p, "noaug": 0.0}[self.mode]
