"""From styles that were learned one by one to a mapping network that draws new ones."""

import math

import torch
from torch import Tensor

from gghead.models.generator import Generator
from gghead.networks.layers import LRELU_GAIN, Linear

# Standard deviations that every style is shifted by, so that the rectifiers of the mapping network
# pass it unchanged; one in 30,000 numbers of a normal distribution lies further out.
_SHIFT = 4.0


def principal_directions(styles: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [w_dim] and directions [w_dim, K] of styles [H, w_dim].

    Mean + directions @ z has their mean and covariance where z is normal; K is the lesser of w_dim
    and H.
    """
    mean = styles.mean(dim=0)
    scale = math.sqrt(max(len(styles) - 1, 1))
    _, spread, rows = torch.linalg.svd((styles - mean) / scale, full_matrices=False)
    return mean, (spread[:, None] * rows).T


@torch.no_grad()
def set_distribution(model: Generator, styles: Tensor) -> None:
    """Make ``model.mapping`` draw from the normal distribution of ``styles`` [H, w_dim], in place.

    Style = mean + principal directions x z. Mapping networks end in a leaky rectifier, so styles
    are shifted until nearly all of their numbers are positive, and the layers that read them are
    shifted back: the same head comes out. Every layer before the last one passes z on, shifted
    likewise. Training may bend the straight map later.
    """
    mean, found = principal_directions(styles.to(model.device))
    layers = model.mapping.layers
    width, seen = model.mapping.w_dim, model.z_dim
    directions = torch.zeros(width, width, device=mean.device)
    kept = min(seen, found.shape[1])
    directions[:, :kept] = found[:, :kept]
    shift = _SHIFT * directions.square().sum(dim=1).sqrt().clamp_min(1e-3)
    for part in (model.synthesis, model.decoder):
        for module in part.modules():
            affine = getattr(module, "affine", None)
            if isinstance(affine, Linear):
                back = affine.weight @ (mean - shift) * affine.weight_gain
                affine.bias.add_(back / affine.bias_gain)
    # z arrives unshifted at the first layer and shifted at all others.
    begin = torch.eye(width, seen, device=mean.device)
    shifted = torch.full_like(mean, _SHIFT)
    for index, layer in enumerate(layers):
        assert isinstance(layer, Linear)
        last = index == len(layers) - 1
        matrix = directions if last else torch.eye(width, device=mean.device)
        offset = shift if last else shifted
        if index == 0:
            matrix = matrix @ begin
        else:
            offset = offset - matrix @ shifted
        layer.weight.copy_(matrix / LRELU_GAIN / layer.weight_gain)
        layer.bias.copy_(offset / LRELU_GAIN / layer.bias_gain)
    model.mapping.w_avg.copy_(shift)
