"""From styles that were learnt one by one to a mapping network that draws new ones."""

import math

import torch
from torch import Tensor

from gghead.models.generator import Generator
from gghead.networks.layers import LRELU_GAIN, Linear

# Standard deviations that every style is shifted by, so that the rectifiers of the mapping network
# pass it unchanged; one in 30,000 numbers of a normal distribution lies further out.
_SHIFT = 4.0


@torch.no_grad()
def set_distribution(model: Generator, styles: Tensor) -> None:
    """Make ``model.mapping`` draw from the normal distribution of ``styles`` [H, w_dim], in place.

    Style = mean + principal directions x z. Mapping networks end in a leaky rectifier, so styles
    are shifted until nearly all of their numbers are positive, and the layers that read them are
    shifted back: the same head comes out. Every layer before the last one passes z on, shifted
    likewise. Training may bend the straight map later.
    """
    styles = styles.to(model.device)
    mean = styles.mean(dim=0)
    layers = model.mapping.layers
    width, seen = model.mapping.w_dim, model.z_dim
    directions = torch.zeros(width, width, device=styles.device)
    if len(styles) > 1:
        _, spread, rows = torch.linalg.svd(
            (styles - mean) / math.sqrt(len(styles) - 1), full_matrices=False
        )
        kept = min(seen, len(spread))
        directions[:, :kept] = (spread[:kept, None] * rows[:kept]).T
    shift = _SHIFT * directions.square().sum(dim=1).sqrt().clamp_min(1e-3)
    for part in (model.synthesis, model.decoder):
        for module in part.modules():
            affine = getattr(module, "affine", None)
            if isinstance(affine, Linear):
                back = affine.weight @ (mean - shift) * affine.weight_gain
                affine.bias.add_(back / affine.bias_gain)
    # z arrives unshifted at the first layer and shifted at all others.
    begin = torch.eye(width, seen, device=styles.device)
    shifted = torch.full_like(mean, _SHIFT)
    for index, layer in enumerate(layers):
        assert isinstance(layer, Linear)
        last = index == len(layers) - 1
        matrix = directions if last else torch.eye(width, device=styles.device)
        offset = shift if last else shifted
        if index == 0:
            matrix = matrix @ begin
        else:
            offset = offset - matrix @ shifted
        layer.weight.copy_(matrix / LRELU_GAIN / layer.weight_gain)
        layer.bias.copy_(offset / LRELU_GAIN / layer.bias_gain)
    model.mapping.w_avg.copy_(shift)
