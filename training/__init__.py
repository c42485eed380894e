"""Training as calls: what ``gghead train …`` does, with a typed config in place of options.

>>> from gghead.training import train_gan
>>> from gghead.training.gan.config import PRESETS, override
>>> folder = train_gan(config, "training-runs")  # a run folder, as the command writes it
>>> model = gghead.load(folder)

Every call takes a config, the folder for runs, a device, and ``resume=`` with the folder of a run
that shall go on. It returns the run folder. Each loads on first use.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gghead.training.avatar.config import AvatarTrainConfig
    from gghead.training.avatar.run import run as train_avatar
    from gghead.training.decoder.config import DecoderTrainConfig
    from gghead.training.decoder.run import run as train_decoder
    from gghead.training.encoder.config import EncoderTrainConfig
    from gghead.training.encoder.run import run as train_encoder
    from gghead.training.expression.config import ExpressionTrainConfig
    from gghead.training.expression.run import run as train_expression
    from gghead.training.gan.config import TrainConfig
    from gghead.training.gan.run import run as train_gan
    from gghead.training.prior.config import PriorTrainConfig
    from gghead.training.prior.run import run as train_prior

__all__ = [
    "AvatarTrainConfig",
    "DecoderTrainConfig",
    "EncoderTrainConfig",
    "ExpressionTrainConfig",
    "PriorTrainConfig",
    "TrainConfig",
    "train_avatar",
    "train_decoder",
    "train_encoder",
    "train_expression",
    "train_gan",
    "train_prior",
]

_ROOMS = {
    "gan": "TrainConfig",
    "decoder": "DecoderTrainConfig",
    "encoder": "EncoderTrainConfig",
    "prior": "PriorTrainConfig",
    "expression": "ExpressionTrainConfig",
    "avatar": "AvatarTrainConfig",
}
_HOMES = {config: (f"{room}.config", config) for room, config in _ROOMS.items()}
_HOMES |= {f"train_{room}": (f"{room}.run", "run") for room in _ROOMS}


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'gghead.training' has no attribute '{name}'")
    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(f"gghead.training.{module}"), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
