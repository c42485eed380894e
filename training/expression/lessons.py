"""What the template's blendshapes teach an expression transformer: any expression of any head, exactly and for nothing.

Captures hold one or few expressions of a person, too few to learn from which way a face moves. The blendshapes know
that, and the decoder can follow them: a change of Z alone draws heads that they have moved. So every step also shows
heads moved by random expressions, compared Gaussian by Gaussian. What blendshapes do not know (gaze, teeth, wrinkles)
is left to the captured pictures.
"""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gghead.animation.animate import sliders
from gghead.animation.blendshapes import carried
from gghead.animation.surface import moving_surface
from gghead.gaussians import Gaussians
from gghead.models.generator import Generator

_SINGLE = 0.25  # share of the drawn expressions that have one coefficient only
_UNIT = 0.01  # world units of the maps' numbers
_COLOR = 0.03  # difference of colours that counts as much as one of e in scale


class Lessons:
    """Moves heads of ``generator`` by coefficients of the data. Only for templates with blendshapes (``possible``)."""

    def __init__(self, generator: Generator, names: tuple[str, ...], device: torch.device | str = "cpu") -> None:
        self.generator = generator
        self.surface = moving_surface(generator.template, torch.device(device))
        self.matrix = sliders(generator).matrix(names).to(device)  # [K, shapes of the template]
        self.known = self.matrix.any(1).cpu()  # [K]

    @staticmethod
    def possible(generator: Generator) -> bool:
        """Whether there is anything to be learnt."""
        return bool(generator.template.blendshapes)

    def draw(self, tables: Tensor, count: int, random: np.random.RandomState) -> Tensor:  # [N, K] -> [count, K]
        """Expressions made of ``tables``: parts of one of them, some larger and some smaller; or one coefficient."""
        chosen = tables[torch.from_numpy(random.randint(len(tables), size=count))].clone()
        share = torch.from_numpy(random.rand(count, 1))
        kept = torch.from_numpy(random.rand(*chosen.shape)) < share
        chosen = chosen * (kept * torch.from_numpy(random.uniform(0.5, 1.5, (count, 1)))).float()
        usable = self.known.nonzero()[:, 0]
        for row in range(count):
            if random.rand() < _SINGLE or not bool(chosen[row, self.known].any()):
                chosen[row] = 0
                chosen[row, usable[random.randint(len(usable))]] = random.uniform(0.3, 1)
        return (chosen * self.known).clamp(-1, 1)

    @torch.no_grad()
    def moved(self, heads: Gaussians, table: Tensor) -> Gaussians:  # [B, N], [B, K] -> [B, N]
        """The heads' own Gaussians, moved. Those between parting lips do not fade but take the colour of the dark."""
        moved, left, inside = carried(heads, table @ self.matrix, self.surface)
        if inside is None:
            return moved
        inside = inside if moved.sh_degree is None else inside.with_sh(moved.sh_degree)
        dark, left = inside.colors.mean(1, keepdim=True), left if moved.sh_degree is None else left[..., None]
        return replace(moved, colors=torch.lerp(dark.expand_as(moved.colors), moved.colors, left))

    def terms(self, heads: Gaussians, now: Gaussians, wanted: Gaussians, weight: Tensor) -> dict[str, Tensor]:
        """How far ``now`` is from ``wanted``, which ``heads`` moved to. ``motion``: squared distance of means as a
        share of the way they had to go; ``looks``: everything else, which blendshapes leave or change a little.

        ``weight`` [N, 1] of the Gaussians. Those that blendshapes fade (under lids) are left to the pictures.
        """
        weight = weight * (wanted.opacities / heads.opacities.clamp_min(1e-6)).clamp(0, 1)[..., None].square()

        def total(difference: Tensor) -> Tensor:
            return (weight * difference.square()).sum()

        motion = total(now.means - wanted.means) / total(heads.means - wanted.means).clamp_min(1e-12)
        cosine = F.cosine_similarity(now.quats, wanted.quats, dim=-1)[..., None]  # q and -q are one rotation
        looks = total((now.colors - wanted.colors).flatten(2)) / (3 * _COLOR**2)
        looks = looks + total(now.scales.log() - wanted.scales.log()) / 3
        looks = looks + total((now.opacities - wanted.opacities)[..., None])
        looks = looks + (weight * (1 - cosine.square())).sum()
        return {"motion": motion, "looks": looks / weight.sum()}

    def maps(self, side: int, most: int) -> Tensor:  # [K, 3 * points, side, side]
        """Where every coefficient moves the template at every place: 16, 4, 1 or 0 points a cell, as many as fit into
        ``most`` numbers. Zero for coefficients that are not ``known``.
        """
        points = max((size for size in (4, 2, 1) if 3 * size**2 <= most), default=0)
        if not points:
            return torch.zeros(len(self.matrix), 0, side, side)
        fine, surface = side * points, self.surface.to("cpu")
        centre = (torch.arange(fine, dtype=torch.float32) + 0.5) * (2 / fine) - 1
        uv = torch.stack(torch.meshgrid(centre, centre, indexing="xy"), -1).flatten(0, 1)
        offset = surface.moved(surface.at(uv), self.matrix.cpu()).offset  # [K, fine * fine, 3]
        return F.pixel_unshuffle(offset.transpose(1, 2).unflatten(2, (fine, fine)) / _UNIT, points)
