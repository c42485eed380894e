"""The config of an avatar that trains within a second, with a refinement every five steps."""

from gghead.torch_utils import config as config_json
from gghead.training.avatar.config import PRESETS, AvatarTrainConfig

SMALL = {
    "resolution": None,
    "points": 40,
    "iterations": 30,
    "sh_every": 5,
    "avatar": {"feature_dim": 4, "hidden": 8},
    "densify": {"start": 4, "until": 25, "every": 5, "gradient": 1e-5, "max_gaussians": 90},
}


def small_config(**changes) -> AvatarTrainConfig:
    return config_json.replace(config_json.replace(PRESETS["tiny"], SMALL), changes)
