"""One head out of two.

On the way from one to the other (straight through w for latents of any origin, along the sphere of
z for seeds), or some layers' styles from one and the others from the other (style mixing: Karras et
al. 2019, section 3.1).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from gghead.latent import Latent, stack
from gghead.models.generator import Generator
from gghead.torch_utils.errors import UserError


def between(first: Latent, second: Latent, share: float) -> Latent:
    """Return the head a ``share`` of the way from ``first`` to ``second``.

    Styles, residuals and deltas go alike.

    0 and 1 give the two heads exactly, values outside continue the line. A batch of one meets any
    batch.
    """
    count = max(len(first), len(second))
    first, second = (
        one.map(lambda value: value.expand(count, *value.shape[1:])) if len(one) == 1 else one
        for one in (first, second)
    )
    both = stack([first, second])
    return both.map(lambda value: torch.lerp(value[:count], value[count:], share))


def slerp(first: Tensor, second: Tensor, share: float) -> Tensor:  # [..., D], [..., D] -> [..., D]
    """Interpolate along the great circle, and the lengths linearly.

    White 2016, "Sampling generative networks".

    A straight line between two samples of a wide Gaussian passes through lengths that no sample
    has.
    """
    lengths = first.norm(dim=-1, keepdim=True), second.norm(dim=-1, keepdim=True)
    a, b = first / lengths[0].clamp_min(1e-12), second / lengths[1].clamp_min(1e-12)
    angle = (a * b).sum(-1, keepdim=True).clamp(-1, 1).acos()
    along = torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b
    direction = torch.where(
        angle.sin() > 1e-4, along / angle.sin().clamp_min(1e-4), torch.lerp(a, b, share)
    )
    return direction * torch.lerp(lengths[0], lengths[1], share)


@torch.no_grad()
def between_seeds(
    model: Generator, first: int, second: int, share: float, psi: float = 1.0
) -> Latent:
    """Return the head at ``share`` of the way along the sphere of z between two seeds."""
    z = slerp(model.seed_to_z(first), model.seed_to_z(second), share)
    return Latent(model.mapping(z, model.neutral_label(), psi))


def mix_layers(
    model: Generator, base: Latent, donor: Latent, layers: Sequence[int], strength: float = 1.0
) -> Latent:
    """Return ``base`` with the ``layers`` of ``donor``.

    ``strength`` below one goes only part of the way.

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
    """Index among all of the network's styles of the one that a decoder's parameter takes."""
    group, index, *rest = parameter.split(".")
    if group == "to_planes":
        return model.synthesis.num_ws + 2 * int(index)
    return model.synthesis.num_ws + 2 * int(index) + (rest[0] == "conv1")


def check_layers(model: Generator, layers: Sequence[int]) -> list[int]:
    """Return ``layers`` sorted and unique.

    Raises ``UserError`` for one that the network does not have.
    """
    wrong = [layer for layer in layers if not 0 <= layer < model.num_ws]
    if wrong:
        raise UserError(
            f"This network has no layer {wrong[0]}: its styles are 0 to {model.num_ws - 1} "
            f"(up to {model.synthesis.num_ws - 1} make Z, the rest decode it)."
        )
    return sorted(set(layers))
