"""Small avatars: a config that trains within a second, with a refinement every five steps, and
avatars of random numbers."""

import torch
from helpers.avatar_sequence import NAMES

from gghead.models.avatar import Avatar
from gghead.models.avatar_config import AvatarConfig
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
VARIANTS = [
    {},
    {"blend": False},
    {"mlp": False},
    {"changes": "geometry"},
    {"changes": "everything"},
    {"motion": "blendshapes"},
    {"motion": "blendshapes", "mlp": False},
]


def small_config(**changes) -> AvatarTrainConfig:
    return config_json.replace(config_json.replace(PRESETS["tiny"], SMALL), changes)


def dense(count=60, seed=0, still=0, **options):
    """An avatar whose every parameter is random; the first ``still`` Gaussians follow no
    expression."""
    random = torch.Generator().manual_seed(seed)
    config = AvatarConfig(
        **{
            "width": 3,
            "coefficient_names": NAMES,
            "expression_model": "avatar",
            "feature_dim": 4,
            "hidden": 8,
            "sh_degree": 1,
            "image_size": (24, 24),
            **options,
        }
    )
    avatar = Avatar(config, torch.randn(count, 3, generator=random) * 0.2, spacing=0.08, seed=seed)
    with torch.no_grad():
        for name, parameter in avatar.named_parameters():
            if name not in ("means", "log_scales"):
                parameter += 0.4 * torch.randn(parameter.shape, generator=random)
        avatar.basis[:, :still] = 0
        avatar.coefficient_min.fill_(0)
        avatar.coefficient_max.fill_(1)
    return avatar.eval().requires_grad_(False)


def expressions(count=20, seed=1):
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(seed))
