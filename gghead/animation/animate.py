"""One interface for both ways of changing the expression of a head.

>>> head = model.sample(seed=3)
>>> weights = {"mouthSmileLeft": [0, 0.5, 1], "mouthSmileRight": [0, 0.5, 1]}
>>> smiles = gghead.animate(head, weights, model=model)
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Final, Literal, Protocol

import torch
from torch import Tensor

from gghead.animation.blendshapes import pose
from gghead.animation.surface import moving_surface
from gghead.gaussians import Gaussians
from gghead.latent import Latent
from gghead.models.generator import Generator
from gghead.template import Template, load_template
from gghead.template.sliders import Sliders
from gghead.torch_utils.errors import UserError

BLENDSHAPES: Final = "blendshapes"


class LatentMotion(Protocol):
    """What moves latents, such as an expression transformer (``gghead.models.expression``)."""

    @property
    def sliders(self) -> Sliders:
        """The weights that it takes, in the order of a table's columns."""
        ...

    # [1 or T] of ``model``, [T, K] -> [T]
    def __call__(self, latent: Latent, table: Tensor, model: Generator) -> Latent: ...


Motion = Literal["blendshapes"] | LatentMotion
"""How heads move: by the template's blendshapes, or as latents."""


def animate(
    head: Gaussians | Latent,  # [1 or T] heads
    weights: str | Mapping[str, float | Sequence[float] | Tensor] | Tensor,  # see Sliders.table
    *,
    # columns of a tensor of weights [T, K]; None: all of ``sliders(...)``
    names: Sequence[str] | None = None,
    # whose head it is; needed for latents, and where its template is not "head"
    model: Generator | None = None,
    motion: Motion = BLENDSHAPES,
) -> Gaussians:  # [T, N]
    """The head with other expressions; float64 stays float64, lower precisions become float32.

    Weights that the way of moving has no shape for (gaze, tongue) are left out with a warning.
    ``model`` may be a reconstructor, too. Zero weights change nothing.

    Raises ``UserError`` for unknown names (naming the nearest), heads without UV places, and a
    transformer of another network; ``ValueError`` for batches that do not fit.
    """
    model = getattr(model, "generator", model)
    table, left_out = sliders(model, motion).table(weights, names)
    if left_out:
        warnings.warn(f"No shape for {', '.join(left_out)}: left out.", stacklevel=2)
    return animate_gaussians(head, table, model, motion)


def animate_gaussians(
    head: Gaussians | Latent, table: Tensor, model: Generator | None, motion: Motion
) -> Gaussians:
    """As ``animate``, for a table [T, K] in the order of ``sliders``."""
    table = table.to(head.device if isinstance(head, Gaussians) else head.ws.device)
    if motion == BLENDSHAPES:
        gaussians = head.gaussians(_owner(model)) if isinstance(head, Latent) else head
        # Half precision cannot hold places on the surface; the surface is as precise as the
        # Gaussians otherwise.
        gaussians = gaussians if gaussians.dtype == torch.float64 else gaussians.to(torch.float32)
        surface = moving_surface(_template(model), gaussians.device, gaussians.dtype)
        return pose(gaussians, table.to(gaussians.dtype), surface)
    if isinstance(head, Gaussians):
        raise UserError(
            "An expression transformer changes latents, and these are Gaussians; give the latent of"
            " the head, or use `motion='blendshapes'`."
        )
    owner = _owner(model)
    return motion(head, table, owner).gaussians(owner)


def sliders(model: Generator | None = None, motion: Motion = BLENDSHAPES) -> Sliders:
    """What heads of ``model`` can be driven by.

    Raises ``UserError`` for a template without blendshapes.
    """
    if motion == BLENDSHAPES:
        return Sliders(moving_surface(_template(model)).names, owner="the head template")
    return motion.sliders


def _owner(model: Generator | None) -> "Generator":
    if model is None:
        raise ValueError("A latent needs its network to become a head; give `model`…")
    return model


def _template(model: Generator | None) -> Template:
    return load_template("head") if model is None else model.template
