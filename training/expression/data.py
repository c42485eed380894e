"""Lessons of expressions: pairs of frames of one person, and the order they come in.

Captures hold one or few expressions of a person, too few to learn from which way a face moves. The
blendshapes know that, and the decoder can follow them: a change of Z alone draws heads that they
have moved. So every step also shows heads moved by random expressions, compared Gaussian by
Gaussian. What blendshapes do not know (gaze, teeth, wrinkles) is left to the captured images.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gghead.animation.animate import sliders
from gghead.animation.blendshapes import carry_gaussians
from gghead.animation.surface import moving_surface
from gghead.cameras import Cameras
from gghead.data.backdrop import foreground
from gghead.data.captures import Captures
from gghead.data.frames import FrameCache
from gghead.gaussians import Gaussians
from gghead.models.generator import Generator
from gghead.models.reconstructor import Reconstructor
from gghead.template.sliders import mirror_name
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.rng import derive_seed
from gghead.training.expression.config import ExpressionDataConfig

_SINGLE = 0.25  # share of the drawn expressions that have one coefficient only
_UNIT = 0.01  # world units of the maps' numbers
_COLOR = 0.03  # difference of colors that counts as much as one of e in scale


class Lessons:
    """Moves heads of ``generator`` by coefficients of the data.

    Only for templates with blendshapes (``are_possible``).
    """

    def __init__(
        self, generator: Generator, names: tuple[str, ...], device: torch.device | str = "cpu"
    ) -> None:
        self.generator = generator
        self.surface = moving_surface(generator.template, torch.device(device))
        self.matrix = sliders(generator).matrix(names).to(device)  # [K, shapes of the template]
        self.known = self.matrix.any(1).cpu()  # [K]

    @staticmethod
    def are_possible(generator: Generator) -> bool:
        """Whether there is anything to be learned."""
        return bool(generator.template.blendshapes)

    # [N, K] -> [count, K]
    def draw(self, tables: Tensor, count: int, random: np.random.RandomState) -> Tensor:
        """Draw expressions made of ``tables``: parts of one of them, some larger, some smaller.

        Some have one coefficient.
        """
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
    def move(self, heads: Gaussians, table: Tensor) -> Gaussians:  # [B, N], [B, K] -> [B, N]
        """Move the heads' own Gaussians.

        Those between parting lips do not fade but take the color of the dark.
        """
        moved, left, inside = carry_gaussians(heads, table @ self.matrix, self.surface)
        if inside is None:
            return moved
        inside = inside if moved.sh_degree is None else inside.with_sh(moved.sh_degree)
        dark, left = (
            inside.colors.mean(1, keepdim=True),
            (left if moved.sh_degree is None else left[..., None]),
        )
        return replace(moved, colors=torch.lerp(dark.expand_as(moved.colors), moved.colors, left))

    def terms(
        self, heads: Gaussians, now: Gaussians, wanted: Gaussians, weight: Tensor
    ) -> dict[str, Tensor]:
        """How far ``now`` is from ``wanted``, which ``heads`` moved to.

        ``motion``: squared distance of means as a share of the way they had to go; ``looks``:
        everything else, which blendshapes leave or change a little.

        ``weight`` [N, 1] of the Gaussians. Those that blendshapes fade (under lids) are left to the
        images.
        """
        weight = (
            weight
            * (wanted.opacities / heads.opacities.clamp_min(1e-6)).clamp(0, 1)[..., None].square()
        )

        def total(difference: Tensor) -> Tensor:
            return (weight * difference.square()).sum()

        motion = total(now.means - wanted.means) / total(heads.means - wanted.means).clamp_min(
            1e-12
        )
        # q and -q are one rotation
        cosine = F.cosine_similarity(now.quats, wanted.quats, dim=-1)[..., None]
        looks = total((now.colors - wanted.colors).flatten(2)) / (3 * _COLOR**2)
        looks = looks + total(now.scales.log() - wanted.scales.log()) / 3
        looks = looks + total((now.opacities - wanted.opacities)[..., None])
        looks = looks + (weight * (1 - cosine.square())).sum()
        return {"motion": motion, "looks": looks / weight.sum()}

    def maps(self, side: int, most: int) -> Tensor:  # [K, 3 * points, side, side]
        """Where every coefficient moves the template at every place.

        A cell has 16, 4, 1 or 0 points, as many as fit into ``most`` numbers. Coefficients that are
        not ``known`` have zeros.
        """
        points = max((size for size in (4, 2, 1) if 3 * size**2 <= most), default=0)
        if not points:
            return torch.zeros(len(self.matrix), 0, side, side)
        fine, surface = side * points, self.surface.to("cpu")
        center = (torch.arange(fine, dtype=torch.float32) + 0.5) * (2 / fine) - 1
        uv = torch.stack(torch.meshgrid(center, center, indexing="xy"), -1).flatten(0, 1)
        offset = surface.motion_of(surface.at(uv), self.matrix.cpu()).offset  # [K, fine * fine, 3]
        return F.pixel_unshuffle(offset.transpose(1, 2).unflatten(2, (fine, fine)) / _UNIT, points)


NEUTRAL = 0.25
"""No coefficient of a moment that counts as neutral is larger."""
# cosine of the largest angle between where the face looks and a camera whose image is compared
_FACING = 0.25


@dataclass(frozen=True, eq=False)
class TripletBatch:
    """B triplets with T images of the expression over white, in [0, 1]."""

    ws: Tensor  # [B, L, D] of the neutral head
    z: Tensor  # [B, C, R, R]
    wanted_ws: Tensor | None  # the same of the expression; None where nobody asked for it
    wanted_z: Tensor | None
    table: Tensor  # [B, K] coefficients, less those of the neutral moment
    target: Tensor  # [B, T, 3, S, S]
    alpha: Tensor  # [B, T, 1, S, S]
    cameras: Cameras  # [B, T]

    def to(self, device: torch.device | str) -> "TripletBatch":
        """The same on another device."""
        return replace(
            self,
            **{name: value.to(device) for name, value in vars(self).items() if value is not None},
        )


@dataclass(frozen=True, eq=False)
class Pair:
    """Two moments of a subject."""

    subject: str
    neutral: np.ndarray  # frames
    expression: np.ndarray  # frames
    table: Tensor  # [K]


def pairs_of(captures: Captures) -> list[Pair]:
    """Every subject's neutral moment with every other one.

    Raises ``UserError`` for captures without coefficients, and if no subject has a neutral moment
    and another one.
    """
    if captures.coefficients is None:
        raise UserError(
            f"{captures.images.source.path} has no expression coefficients, so no expression can"
            " be learned from it or judged by it; docs/formats.md says where they are written."
        )
    found = []
    for code, subject in enumerate(captures.subjects):
        frames = np.flatnonzero(captures.subject == code)
        moments = [
            frames[captures.moment[frames] == moment]
            for moment in np.unique(captures.moment[frames])
        ]
        tables = [captures.coefficients[int(moment[0])] for moment in moments]
        sizes = [float(table.abs().max()) for table in tables]
        if len(moments) < 2 or min(sizes) > NEUTRAL:
            continue
        rest = int(np.argmin(sizes))
        found += [
            Pair(subject, moments[rest], moment, tables[index] - tables[rest])
            for index, moment in enumerate(moments)
            if index != rest
        ]
    if not found:
        raise UserError(
            f"No subject of {captures.images.source.path} was seen both with a neutral face (all "
            f"coefficients at most {NEUTRAL}) and with another expression."
        )
    return found


class Triplets:
    """Draws batches; what a step shows depends on seed and step alone.

    Latents are encoded when first asked for.
    """

    def __init__(
        self,
        captures: Captures,
        config: ExpressionDataConfig,
        size: int,
        model: Reconstructor,
        seed: int,
        wanted: bool = True,
    ) -> None:
        """``wanted``: whether batches hold the expressions' own latents.

        They take as long to encode as the others.

        Raises ``UserError`` for hold-outs that do not exist, and if no triplet is left.
        """
        for name in config.holdout:
            captures.indices(name)
        kept = [name for name in captures.subjects if name not in config.holdout]
        if not kept:
            raise UserError(
                f"{captures.images.source.path} has no subject left to train on; hold out fewer."
            )
        captures = captures.select(subjects=kept).resize(size)
        self.config, self.model, self.seed, self.wanted = config, model, seed, wanted
        self.pairs, self.captures = pairs_of(captures), captures
        names = captures.coefficient_names or tuple(
            f"exp_{index}" for index in range(captures.width)
        )
        self.names = names
        others = [mirror_name(name) for name in names]
        self.swap = [names.index(name) for name in others] if set(others) == set(names) else None
        self._frames, self._cameras = (
            FrameCache(captures, config.cache_mb),
            captures.cameras.to(torch.float32),
        )
        position = self._cameras.position
        self._facing = (position[:, 2] > _FACING * position.norm(dim=1)).numpy()
        side = model.config.generator.latent_resolution
        size_mb = 2 * model.generator.synthesis.out_channels * side * side / 2**20
        heads = (
            (2 if wanted else 1) * len(self.pairs) * config.subsets * (2 if config.mirror else 1)
        )
        self._latents: dict | None = {} if heads * size_mb <= config.cache_mb else None

    @property
    def mirrors(self) -> bool:
        """Whether triplets are also shown mirrored.

        It must be asked for, and every coefficient's other side be known.
        """
        return self.config.mirror and self.swap is not None

    def batch(self, count: int, step: int) -> TripletBatch:
        """``count`` triplets of this step."""
        draw = np.random.RandomState(derive_seed(self.seed, "triplets", step) % 2**32)
        chosen = []
        for _ in range(count):
            pair = self.pairs[draw.randint(len(self.pairs))]
            flip = self.mirrors and draw.rand() < 0.5
            subset = int(draw.randint(self.config.subsets))
            seen = pair.expression[self._facing[pair.expression]]
            seen = seen if len(seen) else pair.expression
            shown = draw.permutation(len(seen))[np.arange(self.config.targets) % len(seen)]
            chosen.append((pair, flip, subset, seen[shown]))
        return self.assemble(chosen)

    def heads(self, count: int, step: int) -> tuple[Tensor, Tensor]:
        """Styles [B, L, D] and Z [B, C, R, R] of ``count`` neutral heads of this step.

        They are for lessons.
        """
        draw = np.random.RandomState(derive_seed(self.seed, "heads", step) % 2**32)
        keys = [
            (
                self.pairs[draw.randint(len(self.pairs))].neutral.tobytes(),
                bool(self.mirrors and draw.rand() < 0.5),
                int(draw.randint(self.config.subsets)),
            )
            for _ in range(count)
        ]
        return self._encode(keys)

    def tables(self) -> Tensor:  # [N, K]
        """The coefficients of all triplets, mirrored ones behind."""
        tables = torch.stack([pair.table for pair in self.pairs])
        return torch.cat([tables, tables[:, self.swap]]) if self.mirrors else tables

    def assemble(self, chosen: list[tuple]) -> TripletBatch:
        """(pair, mirrored, subset of views, frames to show) -> a batch."""
        ws, z = self._encode(
            [(pair.neutral.tobytes(), flip, subset) for pair, flip, subset, _ in chosen]
        )
        wanted_ws = wanted_z = None
        if self.wanted:
            wanted_ws, wanted_z = self._encode(
                [(pair.expression.tobytes(), flip, subset) for pair, flip, subset, _ in chosen]
            )
        table = torch.stack(
            [pair.table[self.swap] if flip else pair.table for pair, flip, _, _ in chosen]
        )
        target, alpha, labels = zip(
            *(self.read(frames, flip) for _, flip, _, frames in chosen), strict=True
        )
        return TripletBatch(
            ws,
            z,
            wanted_ws,
            wanted_z,
            table,
            torch.stack(target),
            torch.stack(alpha),
            Cameras.from_label(torch.stack(labels)),
        )

    def read(self, frames: np.ndarray, flip: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Images over white [V, 3, S, S], alpha [V, 1, S, S] and labels [V, 25]."""
        rgba = torch.stack([self._frames.rgba(int(index)) for index in frames]).float() / 255
        cameras = self._cameras[torch.from_numpy(np.asarray(frames))]
        if flip:
            rgba, cameras = rgba.flip(-1), cameras.mirror()
        rgb, alpha = rgba[:, :3], rgba[:, 3:]
        return foreground(rgb, alpha, self.captures.backdrop) + 1 - alpha, alpha, cameras.label()

    def inputs(self, frames: np.ndarray, subset: int) -> np.ndarray:
        """The frames that a head's latent is encoded from.

        They have the same cameras for all moments of a subject.

        Latents differ from one choice of cameras to the next; that difference is not to be learned
        as an expression.
        """
        subject = int(self.captures.subject[frames[0]])
        draw = np.random.RandomState(derive_seed(self.seed, "views", subject, subset) % 2**32)
        return frames[draw.permutation(len(frames))[: self.config.views]]

    def _encode(self, keys: list[tuple]) -> tuple[Tensor, Tensor]:
        """(frames, mirrored, subset) -> styles [B, L, D] and Z [B, C, R, R] as stored.

        Z is in half precision.
        """
        known = self._latents if self._latents is not None else {}
        for key in dict.fromkeys(keys):
            if key not in known:
                data, flip, subset = key
                frames = np.frombuffer(data, dtype=self.pairs[0].neutral.dtype)
                rgb, _, label = self.read(self.inputs(frames, subset), flip)
                with torch.no_grad():
                    latent = self.model.encode(rgb[None], Cameras.from_label(label[None]))
                    z = latent.features(self.model.generator)
                known[key] = latent.ws[0].cpu(), z[0].half().cpu()
        return (
            torch.stack([known[key][0] for key in keys]),
            torch.stack([known[key][1] for key in keys]).float(),
        )
