"""An expression transformer of 16 channels that moves heads visibly."""

import torch

from gghead.latent import fingerprints
from gghead.models.expression import ExpressionModel
from gghead.models.expression_config import ExpressionConfig

NAMES = ("jawOpen", "eyeBlink_L", "eyeBlink_R")


def expression(generator, seed=0, **changes):
    """Every number that starts at zero is given one, so that something moves."""
    torch.manual_seed(seed)
    config = ExpressionConfig(
        **{
            **dict(
                coefficient_names=NAMES,
                network=fingerprints(generator)["network"],
                channels=generator.synthesis.out_channels,
                side=generator.config.latent_resolution,
                num_ws=generator.num_ws,
                w_dim=generator.config.w_dim,
                width=16,
                layers=2,
                heads=2,
                mlp_ratio=1.0,
                tokens=3,
            ),
            **changes,
        }
    )
    model = ExpressionModel(config).eval().requires_grad_(False)
    for value in model.network.parameters():
        if not bool(value.any()):
            value.copy_(torch.randn(value.shape) * 0.2)
    model.coefficient_max.fill_(1.0)
    return model
