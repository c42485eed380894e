"""Style mixing (Karras et al. 2019, section 3.1): some layers' styles from one head, the others
from another."""

from collections.abc import Sequence

import torch

from gghead.latent import Latent, stack
from gghead.models.generator import Generator
from gghead.torch_utils.errors import UserError


def mix_layers(
    model: Generator, base: Latent, donor: Latent, layers: Sequence[int], strength: float = 1.0
) -> Latent:
    """Return ``base`` with the ``layers`` of ``donor``; ``strength`` below one goes only part of
    the way.

    Everything that belongs to a layer goes with it: the residual on Z with the layer that Z comes
    out of, changes of decoder weights with the layer that they are in. All layers of ``donor``
    therefore are ``donor``, none are ``base``. Raises ``UserError`` for a layer that the network
    does not have.
    """
    chosen = check_layers(model, layers)
    share = torch.zeros(model.num_ws, device=base.ws.device)
    share[chosen] = strength
    count = len(base)
    both = stack([base, donor])
    ws = torch.lerp(both.ws[:count], both.ws[count:], share[:, None])
    residual = both.residual
    if residual is not None:
        residual = torch.lerp(residual[:count], residual[count:], share[model.synthesis.num_ws - 1])
    delta = {
        name: torch.lerp(value[:count], value[count:], share[layer_of(model, name)])
        for name, value in both.delta.items()
    }
    return Latent(ws, residual, delta)


def layer_of(model: Generator, parameter: str) -> int:
    """Which style a decoder's parameter is used with, as an index into all of the network's
    styles."""
    group, index, *rest = parameter.split(".")
    if group == "to_planes":
        return model.synthesis.num_ws + 2 * int(index)
    return model.synthesis.num_ws + 2 * int(index) + (rest[0] == "conv1")


def check_layers(model: Generator, layers: Sequence[int]) -> list[int]:
    """Return ``layers`` sorted and unique. Raises ``UserError`` for one that the network does not
    have."""
    wrong = [layer for layer in layers if not 0 <= layer < model.num_ws]
    if wrong:
        raise UserError(
            f"This network has no layer {wrong[0]}: its styles are 0 to {model.num_ws - 1} "
            f"(up to {model.synthesis.num_ws - 1} make Z, the rest decode it)."
        )
    return sorted(set(layers))
