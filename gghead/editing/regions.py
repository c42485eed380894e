"""Swap a part of the face: another head's Z, or its decoded attributes, inside a mask in UV."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from gghead.gaussians import Gaussians
from gghead.latent import Latent, stack
from gghead.models.generator import Generator
from gghead.template.texels import texel_maps
from gghead.torch_utils.checks import check_shape

GEOMETRY = ("position", "scale", "rotation")
APPEARANCE = ("color", "opacity")


@torch.no_grad()
def blend_latents(model: Generator, base: Latent, donor: Latent, mask: Tensor) -> Latent:
    """Return ``base`` with ``donor``'s Z inside ``mask`` [1, R, R].

    R is the network's latent resolution.

    The result is a latent like any other: the styles of ``base`` and a residual. Its decoder's
    styles, which are global, stay those of ``base``, so that the part takes on the colors of its
    new head.
    """
    side = model.config.latent_resolution
    check_shape("mask", mask, (1, side, side))
    count = len(base)
    both = stack([base, donor])
    z = both.features(model).float()
    own = z[:count]
    moved = mask.to(z.device) * (z[count:] - own)
    residual = moved if base.residual is None else base.residual + moved
    return Latent(base.ws, residual, base.delta)


@dataclass(frozen=True, eq=False)
class PlaneBlend:
    """Two heads decoded and their raw attributes blended.

    It is no latent, but it is drawn and saved as one.
    """

    base: Latent
    """The head."""
    donor: Latent
    """Where the part comes from; the same number of heads."""
    weight: Tensor
    """[N] share of the donor at every Gaussian."""
    kinds: tuple[str, ...] = (*GEOMETRY, *APPEARANCE)
    """Attributes that are taken from the donor."""
    correction: dict[str, Tensor] | None = None
    """Attribute -> [B, N, C_k] added to the donor's; see ``blend_planes``."""

    @property
    def ws(self) -> Tensor:
        """The styles of the base, which a network's background is drawn from."""
        return self.base.ws

    def __len__(self) -> int:
        return len(self.base)

    def gaussians(
        self, model: Generator, noise_mode: str = "const", generator: torch.Generator | None = None
    ) -> Gaussians:
        """Return the heads [B, N]."""
        raw, other = (
            head.raw_attributes(model, noise_mode, generator) for head in (self.base, self.donor)
        )
        for kind in self.kinds:
            wanted = other[kind] if self.correction is None else other[kind] + self.correction[kind]
            raw[kind] = torch.lerp(raw[kind], wanted, self.weight[:, None])
        return model.assemble(raw, self.base.ws)


@torch.no_grad()
def blend_planes(
    model: Generator,
    base: Latent,
    donor: Latent,
    mask: Tensor,
    take: Literal["all", "shape", "color"] = "all",
    fit: bool = True,
) -> PlaneBlend:
    """Return ``base`` with the attributes of ``donor`` inside ``mask`` [1, P, P].

    ``take`` limits it to the shape (position, scale, rotation) or to color and opacity. ``fit``
    makes the part belong: its shape is shifted by the smoothest field that lets both heads agree
    around the mask (the membrane of Perez et al. 2003, "Poisson image editing"), its colors go
    through the tone curve that takes its old face's median color to its new one's. A membrane for
    colors too would spread whatever touches the mask, such as a beard, over the whole part.
    """
    kinds = {"all": (*GEOMETRY, *APPEARANCE), "shape": GEOMETRY, "color": APPEARANCE}[take]
    weight = at_gaussians(model, mask)[0]
    correction = None
    if fit:
        raw, other = base.raw_attributes(model), donor.raw_attributes(model)
        correction = {
            kind: membrane(model, raw[kind] - other[kind], weight)
            for kind in kinds
            if kind in GEOMETRY
        }
        if "color" in kinds:
            correction["color"] = _tone(model, raw["color"], other["color"], _skin(model, weight))
            correction["opacity"] = torch.zeros_like(other["opacity"])
    return PlaneBlend(base, donor, weight, kinds, correction)


# [B, N, C] each, bool [N] -> as raw
def _tone(model: Generator, raw: Tensor, other: Tensor, skin: Tensor) -> Tensor:
    """What to add to ``other``'s raw colors so that its skin has the color of ``raw``'s."""
    if not bool(skin.any()):
        return torch.zeros_like(other)
    if model.config.attributes.sh_degree:  # coefficients, not colors: their mean is shifted
        return (raw - other)[:, skin].median(dim=1, keepdim=True).values.expand_as(other)
    new, old = (
        value[:, skin].sigmoid().median(dim=1, keepdim=True).values.clamp(0.01, 0.99)
        for value in (raw, other)
    )
    # What is darker than the skin keeps its ratio to it; what is lighter may not be drawn beyond
    # white.
    color, above = other.sigmoid(), torch.minimum(new / old, (1 - new) / (1 - old))
    toned = torch.where(color < old, color * new / old, new + (color - old) * above)
    return torch.logit(toned, eps=4e-3) - other


def _skin(model: Generator, weight: Tensor) -> Tensor:  # [N] bool
    """Gaussians of the face outside the mask, without brows, eyes and lips.

    None if the template has no regions.
    """
    maps = texel_maps(model.template, model.attributes.grid)
    face = maps.region_names.index("face") if "face" in maps.region_names else -1
    labels = maps.region.flatten().to(weight.device)[model.attributes.valid]
    return (labels == face) & (weight <= 0)


def at_gaussians(model: Generator, mask: Tensor) -> Tensor:  # [C, P, P] -> [C, N]
    """Read a UV map at the network's Gaussians."""
    grid = model.attributes.uv[None, None]
    read = F.grid_sample(
        mask[None].to(grid), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return read[0, :, 0]


def membrane(model: Generator, difference: Tensor, weight: Tensor, rounds: int = 400) -> Tensor:
    """Continue ``difference`` [B, N, C] smoothly to where ``weight`` [N] is not zero.

    It is known where the weight is zero.

    Solves the Laplace equation on the grid of Gaussians by relaxation, coarse to fine; texels off
    the surface take no part.
    """
    grid, valid = model.attributes.grid, model.attributes.valid
    batch, _, channels = difference.shape
    values = difference.new_zeros(batch, channels, grid * grid)
    values[..., valid] = difference.transpose(1, 2)
    values = values.reshape(batch, channels, grid, grid)
    known = torch.zeros(grid * grid, dtype=torch.bool, device=values.device)
    known[valid] = weight <= 0
    known = known.reshape(1, 1, grid, grid)
    surface = valid.reshape(1, 1, grid, grid).to(values)
    if not bool(known.any()):
        # all of the head is masked: there is nothing to agree with
        return torch.zeros_like(difference)
    filled = _fill_from_blocks(values * known, known.to(values))
    kernel = values.new_tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])[None, None]
    neighbors = F.conv2d(surface, kernel, padding=1).clamp_min(1.0)
    for _ in range(rounds):
        spread = F.conv2d((filled * surface).flatten(0, 1)[:, None], kernel, padding=1).reshape(
            values.shape
        )
        filled = torch.where(known, values, spread / neighbors)
    return filled.flatten(2)[..., valid].transpose(1, 2)


def _fill_from_blocks(values: Tensor, weight: Tensor) -> Tensor:
    """Fill what has no weight from averages over ever larger blocks: a start for the relaxation."""
    if values.shape[-1] == 1 or values.shape[-1] % 2:
        return values / weight.clamp_min(1e-6)
    halves, share = F.avg_pool2d(values, 2), F.avg_pool2d(weight, 2)
    seen = share.clamp(0, 1e-9) * 1e9
    coarse = _fill_from_blocks(halves / share.clamp_min(1e-9) * seen, seen)
    coarse = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    return torch.where(weight > 0, values, coarse)
