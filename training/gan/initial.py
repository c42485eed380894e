"""What ``train.py`` takes from networks that are there (``--init``), and where it begins.

GGHead goes through stages that way: a network of 512 pixels grows to 1024, or turns to other
images (its README, stages 3a and 3b). Optimizers and augmentation start anew, as they do there.
"""

import dataclasses
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from gghead import checkpoints
from gghead.models.config import GeneratorConfig
from gghead.torch_utils import config as config_json
from gghead.torch_utils.errors import UserError
from gghead.training.gan.config import TrainConfig, stage_at
from gghead.training.gan.trainer import Trainer
from gghead.training.run import run_folder

# Heads from captures have their shapes; only colors are left to learn, and nothing of a head is
# found at a rate that suits noise.
_AFTER_CAPTURES = {
    "loss": {"lambda_anchor": 1.0, "blur_fade_kimg": 4.0},
    "optimizer": {"g_lr": 0.001},
}
_OF_STAGES = ("grid", "image_size")  # of a generator's config; they change no tensor


@dataclass(frozen=True, eq=False)
class Initial:
    """Networks to start from."""

    name: str
    """What --init named."""
    config: GeneratorConfig
    """The generator's."""
    generator: dict[str, Tensor]
    """Weights of the generator in training."""
    average: dict[str, Tensor]
    """Weights of its moving average."""
    discriminator: dict[str, Tensor] | None = None
    """Those of the discriminator; none where a snapshot alone is known."""
    kimg: float = 0.0
    """Thousands of images that both have seen; 0 without a discriminator."""
    image_size: int = 0
    """Side of the images that the discriminator saw last."""
    from_captures: bool = False
    """Whether the generator has learned from captures and met no discriminator yet."""


def read_initial(init: str | os.PathLike) -> Initial:
    """Read the newest state of a run folder (both networks), or else a snapshot.

    A snapshot holds the generator's average.

    Raises ``UserError`` for what is neither and for states that cannot be read.
    """
    folder = Path(init)
    if folder.is_dir() and any(folder.glob("training-state-*.pt")):
        try:
            state = run_folder.load_state(folder)["trainer"]
        except UserError as error:
            raise UserError(
                f"No state in `init='{init}'` can be read; name one of its snapshots, "
                "network-snapshot-*.safetensors, to take the generator alone."
            ) from error
        if {"G", "D", "G_ema"} <= state.keys():
            config = run_folder.read_options(folder)
            seen = state["step"] * config.batch
            return Initial(
                str(init),
                config.generator,
                state["G"],
                state["G_ema"],
                state["D"],
                seen / 1000 + config.init_kimg,
                stage_at(config.stages, seen)[0].image_size,
            )
    model = checkpoints.load(init, kind="generator")
    stage = checkpoints.read_info(init).provenance.items()
    return Initial(
        str(init),
        model.config,
        model.state_dict(),
        model.state_dict(),
        from_captures=run_folder.FROM_CAPTURES.items() <= stage,
    )


def follow_network(config: TrainConfig, initial: Initial) -> TrainConfig:
    """The config with the generator of ``initial``: all of it but what stages and data decide.

    A preset of more texels lets it grow. A background of its own stays, else the data decide.
    """
    own, taken = config.generator, config_json.to_dict(initial.config)
    for name in _OF_STAGES:
        del taken[name]
    if own.plane_resolution > initial.config.plane_resolution:
        del taken["plane_resolution"]
    if initial.config.background.kind == "none":
        del taken["background"]
    config = config_json.replace(config, {"generator": taken})
    return config_json.replace(config, _AFTER_CAPTURES) if initial.from_captures else config


def plan_start(config: TrainConfig, initial: Initial) -> tuple[TrainConfig, int]:
    """Return the config with what the networks have seen, and the step at which the run begins.

    With a discriminator the stages that the networks have been through are passed over: a run of
    larger images begins with the first larger stage, one of equal images with the last equal stage,
    its fade-in done. Raises ``UserError`` if the run would end before that.
    """
    if initial.discriminator is None:
        return config, 0
    config = dataclasses.replace(config, init_kimg=initial.kimg)
    sizes = [stage.image_size for stage in config.stages]
    kimg = 0.0
    if initial.image_size in sizes:
        last = len(sizes) - 1 - sizes[::-1].index(initial.image_size)
        stage = config.stages[min(last + 1, len(sizes) - 1)]
        grown = last > 0 and sizes[last - 1] < sizes[last]
        # Without a larger stage: the last one of this size, whose block is no new one.
        kimg = (
            stage.start_kimg
            if last + 1 < len(sizes)
            else stage.start_kimg + stage.fade_kimg * grown
        )
    if kimg >= config.kimg:
        raise UserError(
            f"`kimg={config.kimg:g}` ends before the stage that `init='{initial.name}'` begins"
            f" with, at {kimg:g} kimg of `preset='{config.preset}'`; raise `kimg`, which counts"
            " from the first stage."
        )
    return config, math.ceil(kimg * 1000 / config.batch)


def load_initial(trainer: Trainer, initial: Initial, step: int) -> str:
    """Copy the weights, set the counter to ``step``, and say what was taken.

    The sentence also says what starts anew.

    The generator must be the same one but for parts that only the new one has; of the discriminator
    everything is taken that has a name and shape of the new one. Raises ``UserError`` for another
    generator.
    """
    new = _load(trainer.G, initial.generator, initial)
    _load(trainer.G_ema, initial.average, initial)
    said = [f"init: generator of {initial.name}" + (f", new are {new}" if new else "")]
    if initial.discriminator is None:
        said.append(
            "its discriminator starts anew (a snapshot holds none; a run folder with a"
            " training-state-*.pt does), and so do blur, camera swaps and the average's ramp"
        )
    else:
        own = trainer.D.state_dict()
        fitting = {
            name: value
            for name, value in initial.discriminator.items()
            if name in own and own[name].shape == value.shape
        }
        trainer.D.load_state_dict(own | fitting)
        new = _parts(own.keys() - fitting.keys())
        said.append(
            f"{len(fitting)} of {len(own)} tensors of its discriminator"
            + (f", new are {new}" if new else "")
        )
        said.append(f"blur, camera swaps and the average's ramp go on from {initial.kimg:g} kimg")
    if trainer.config.loss.lambda_anchor > 0:
        trainer.anchor_shapes()
    trainer.begin_at(step)
    said.append("optimizers and augmentation start anew")
    said.append(f"begins at {trainer.nimg / 1000:g} kimg with {trainer.stage.image_size} pixels")
    return "; ".join(said)


def _load(model: nn.Module, tensors: dict[str, Tensor], initial: Initial) -> str:
    """Copy all of ``tensors`` and return the names of the parts that are not among them."""
    own = model.state_dict()
    if any(name not in own or own[name].shape != value.shape for name, value in tensors.items()):
        differing = [
            field.name
            for field in dataclasses.fields(initial.config)
            if field.name not in _OF_STAGES
            and getattr(initial.config, field.name) != getattr(model.config, field.name)
        ]
        raise UserError(
            f"`init='{initial.name}'` is another architecture (it differs in"
            f" {', '.join(differing)}); use its preset and options."
        )
    model.load_state_dict(own | tensors)
    return _parts(own.keys() - tensors.keys())


def _parts(names: set[str]) -> str:
    """Names of parameters -> the parts they belong to, such as ``blocks.1024``, each once."""
    numbered = {name: re.match(r".*?\.\d+(?=\.)", name) for name in names}
    parts = {found[0] if found else name.partition(".")[0] for name, found in numbered.items()}
    return ", ".join(sorted(parts))
