"""How an image is inverted, and by which losses.

A module without torch, for what commands declare.
"""

from dataclasses import dataclass, field
from typing import Annotated

from gghead.image_loss_config import ImageLossConfig
from gghead.latent_stages import OPTIMIZED, STAGES, Stage
from gghead.torch_utils.config import ConfigError, Option, Range, check_ranges
from gghead.torch_utils.errors import UserError


@dataclass(frozen=True)
class ObjectiveConfig(ImageLossConfig):
    """Weights of the parts."""

    alpha: Annotated[float, Range(0)] = 1.0
    """Mean absolute difference of alpha and mask, where there is a mask."""
    perceptual: Annotated[float, Range(0), Option("--perceptual-weight")] = 0.5
    """Weight of the perceptual distance, where the user names one."""


@dataclass(frozen=True)
class InversionConfig:
    """How an image is inverted.

    Raises ``UserError`` for numbers out of range.
    """

    method: Annotated[Stage, Option()] = "z"
    """Last stage: the network's encoder alone; one style (w), a style per layer (w+), also a
    residual on Z (z), also tuned decoder weights (pti).

    The stages before it are run as well."""
    steps: Annotated[tuple[int, ...], Range(1), Option()] = (200, 150, 100, 100)
    """Steps of the stages w, w+, z and pti, or one number for all."""
    seed: Annotated[int, Range(0), Option()] = 0
    """Seed of the heads to start from, the noise on w and the cameras of the novel views."""
    candidates: Annotated[int, Range(1)] = 64
    """Random heads among which, and the average head, the start is chosen."""
    max_rotation: Annotated[float, Range(0, 45), Option()] = 8.0
    """Degrees by which a camera may be turned away from its label; 0 keeps the direction."""
    max_shift: Annotated[float, Range(0, 1), Option()] = 0.1
    """World units by which a camera may be moved besides (1 unit is about 0.37 m of head); 0 keeps
    the place."""
    lr: Annotated[tuple[float, ...], Range(0, above=True)] = (0.1, 0.05, 0.05, 0.001)
    """Learning rates of the stages, in deviations of w, of w and of Z's channels, and in
    weights."""
    lr_camera: Annotated[float, Range(0)] = 0.02
    """Learning rate of the camera, in units of 0.2 radians and 0.1 world units."""
    prior_w: Annotated[float, Range(0)] = 0.002
    """Weight of the squared distance from w_avg (stages w and w+), in deviations of w."""
    prior_wplus: Annotated[float, Range(0)] = 0.01
    """Weight of the squared distance between w+ and the w found, likewise."""
    prior_z: Annotated[float, Range(0)] = 0.01
    """Weight of the squared residual on Z (its distance from the encoder's), in deviations of its
    channels."""
    prior_pti: Annotated[float, Range(0)] = 0.1
    """Weight of the mean squared change of the decoder's weights."""
    novel_views: Annotated[float, Range(0), Option()] = 0.2
    """Weight, in stages z and pti, of staying like the head of stage w+ when seen from up to 35
    degrees aside.

    A single image says little about the sides, and free features would paint noise there. On a
    network's own heads, where the truth is known, 0.2 gives 1.6 to 2 dB more at 25 degrees than 0
    and costs 0.3 dB in front."""
    locality: Annotated[float, Range(0), Option()] = 0.0
    """Weight, in stage pti, of leaving heads near the pivot as they are (Roich et al., section
    3.2); 0 = off."""
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    """Weights of the losses."""
    encoder: Annotated[bool, Option(default="where it has one")] = False
    """Start from the network's encoder: its latent stands for w and w+, unless w+ is the last
    stage."""

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages to run. Raises ``UserError`` for an unknown method."""
        if self.method not in STAGES:
            raise UserError(
                f"There is no inversion method '{self.method}'; choose from {', '.join(STAGES)}."
            )
        if not self.encoder:
            if self.method == "encoder":
                raise UserError(
                    "The method encoder needs a network with an encoder (scripts/train_encoder.py);"
                    " this one has none."
                )
            return OPTIMIZED[: OPTIMIZED.index(self.method) + 1]
        if self.method == "w":
            raise UserError(
                "The encoder gives more than one style, so there is no stage w after it; choose the"
                " method encoder, w+, z or pti, or leave the encoder out."
            )
        stages: dict[Stage, tuple[Stage, ...]] = {
            "encoder": ("encoder",),
            "w+": ("encoder", "w+"),
            "z": ("encoder", "z"),
            "pti": ("encoder", "z", "pti"),
        }
        return stages[self.method]

    def __post_init__(self) -> None:
        if len(self.steps) == 1:
            object.__setattr__(self, "steps", tuple(self.steps) * len(OPTIMIZED))
        check_ranges(self)
        if len(self.steps) != len(OPTIMIZED):
            given = ",".join(map(str, self.steps))
            raise ConfigError(
                "{steps}="
                f"{given} must be one positive number or four, for the stages w, w+, z and pti."
            )
        if len(self.lr) != len(OPTIMIZED):
            raise ConfigError(
                f"{{lr}} has {len(self.lr)} numbers, but it needs four, for the stages w, w+, z and"
                " pti."
            )
