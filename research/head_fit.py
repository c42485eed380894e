"""The opponent of the encoder: Gaussians on the template, fitted to the views of one head for a
fixed time.

What a user without an encoder would do, as 3D Gaussian splatting (Kerbl et al. 2023) does it: Adam
on means, scales, rotations, colors and opacities, L1 + 0.2 D-SSIM, a learning rate of the means
that falls exponentially. It is given what helps with few views: the template as the start, colors
projected from the views (mirrored where only the other half of the head was seen), masks, offsets
that are the sum of coarse and fine grids, so that neighbors move together, and smoothness over the
template's texels. No learned prior.
"""

import itertools
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gghead.cameras import Cameras
from gghead.gaussians import Gaussians
from gghead.image_metrics import ssim
from gghead.models.attributes import GaussianAttributes
from gghead.models.config import AttributeConfig
from gghead.reconstruction.inputs import InputViews
from gghead.rendering import render
from gghead.template import load_template
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.rng import generator
from gghead.training.encoder.score import Method, Scores

_EPS = 1e-15  # of 3DGS's Adam
# projected colors are kept so far from 0 and 1, where the sigmoid has no gradient
_COLOR_EPS = 0.02
_SMOOTH_SIDE = 64  # side of the grid that weights of smoothness refer to
_INSIDE = 0.95  # opacity from which a pixel shows the head alone
_BEHIND = 0.03  # world units that a texel may lie behind the rendered surface and still be seen


@dataclass(frozen=True)
class BaselineConfig:
    """How a head is fitted. The values were chosen on training subjects of mvheads
    (docs/reconstruction.md)."""

    grid: int = 128
    """Gaussians a side of the template's UV square."""
    grid_of_one: int = 64
    """The same for a single view, whose outline says little of the shape: coarse Gaussians blur
    what is wrong."""
    seconds: float = 60.0
    """Time to fit, beginning with the projection of colors."""
    max_steps: int | None = None
    """End after so many steps instead: the same result on every machine."""
    views_per_step: int = 1
    """Views in one step; every pass goes through all of them."""
    levels: tuple[int, ...] = (4, 8, 16, 32)
    """Sides of the coarse grids of offsets that are added to every texel's own."""
    dssim: float = 0.2
    """Weight of 1 - SSIM; L1 has the rest (3DGS)."""
    silhouette: float = 0.5
    """Weight of the mean absolute difference of alpha and mask."""
    smooth: dict[str, float] = field(
        default_factory=lambda: {"position": 40.0, "scale": 0.1, "rotation": 0.1, "color": 0.1}
    )
    """Weights of the mean squared slope of raw attributes over the UV square, per view: the fewer
    views, the smoother. In differences between the texels of a 64 x 64 grid."""
    anchor: float = 0.0
    """Weight of the mean squared raw attributes but color: stay near the template where nothing is
    seen."""
    rates: dict[str, float] = field(
        default_factory=lambda: {
            "position": 6e-3,
            "scale": 5e-3,
            "rotation": 1e-3,
            "color": 3e-2,
            "opacity": 5e-2,
        }
    )
    """Adam's rates of the raw attributes."""
    end: float = 0.05
    """Share of all rates that is left at the end (exponential decay over the time)."""
    attributes: AttributeConfig = AttributeConfig(rotation_frame="surface")
    """Ranges of the attributes, those of the generators, and Gaussians that lie in the surface."""
    template: str = "head"
    """Mesh whose texels carry the Gaussians."""
    seed: int = 0
    """Of the order of the views."""


# Gaussian splatting as gsplat and 3DGS do it, from the template: nothing but images over white,
# every Gaussian for itself. Their rates, where raw 1 is 0.25 world units (1.6e-4 x the cameras'
# extent of 3) and colors pass a sigmoid.
PLAIN = BaselineConfig(
    grid_of_one=128,
    levels=(),
    silhouette=0.0,
    smooth={},
    end=0.01,
    rates={"position": 1.9e-3, "scale": 5e-3, "rotation": 1e-3, "color": 2.8e-3, "opacity": 5e-2},
)
BASELINES = {"fit": BaselineConfig(), "plain": PLAIN}


@dataclass(frozen=True)
class Fit:
    """What a fit came to."""

    head: Gaussians
    """Batch shape (1,)."""
    steps: int
    seconds: float
    """By the clock."""
    processor_seconds: float
    """Of all cores together; less than ``seconds`` where other work takes turns with this one."""


def fit(rgb: Tensor, alpha: Tensor, cameras: Cameras, config: BaselineConfig | None = None) -> Fit:
    """Fit a head to V views: ``rgb`` [V, 3, H, W] over white and ``alpha`` [V, 1, H, W] in [0, 1],
    cameras [V].

    Raises ``UserError`` without a view.
    """
    if not len(rgb):
        raise UserError("A head cannot be fitted to no view at all; name at least one.")
    config, begin = config or BaselineConfig(), (time.perf_counter(), time.process_time())
    return _optimize(_start(rgb, alpha, cameras, config), rgb, alpha, cameras, config, begin)


@torch.no_grad()
def template_head(
    rgb: Tensor, alpha: Tensor, cameras: Cameras, config: BaselineConfig | None = None
) -> Gaussians:
    """Return what a fit starts from, batch shape (1,): the template in the colors that the views
    show."""
    return _start(rgb, alpha, cameras, config or BaselineConfig()).heads()


def _start(rgb: Tensor, alpha: Tensor, cameras: Cameras, config: BaselineConfig) -> "_Texels":
    grid = config.grid if len(rgb) > 1 else min(config.grid, config.grid_of_one)
    attributes = GaussianAttributes(config.attributes, load_template(config.template), grid).to(
        rgb.device
    )
    model = _Texels(attributes, config)
    model.raw["color"].copy_(
        torch.logit(project_colors(attributes, model.heads(), rgb, alpha, cameras), _COLOR_EPS)
    )
    return model


class _Texels:
    """Raw attributes of every texel, [1, C, R, R], and coarse grids of offsets."""

    def __init__(self, attributes: GaussianAttributes, config: BaselineConfig) -> None:
        if not attributes.all_valid:
            raise UserError(
                f"The template '{config.template}' does not fill its UV square, which this fit"
                " needs; use --template=head."
            )
        self.attributes, side = attributes, attributes.grid
        device = attributes.position.device
        self.raw = {
            name: torch.zeros(1, channels, side, side, device=device)
            for name, channels in config.attributes.channels.items()
        }
        self.coarse = [
            torch.zeros(1, 3, level, level, device=device)
            for level in config.levels
            if level < side
        ]

    def parameters(self) -> dict[str, list[Tensor]]:
        parameters = {name: [value] for name, value in self.raw.items()}
        parameters["position"] = parameters["position"] + self.coarse
        return parameters

    def planes(self) -> dict[str, Tensor]:
        """[1, C, R, R] each, coarse grids included."""
        planes = dict(self.raw)
        for level in self.coarse:
            larger = F.interpolate(
                level, size=planes["position"].shape[-2:], mode="bicubic", align_corners=False
            )
            planes["position"] = planes["position"] + larger
        return planes

    def heads(self, planes: dict[str, Tensor] | None = None) -> Gaussians:
        planes = planes or self.planes()
        return self.attributes.activate(
            {name: plane.flatten(2).transpose(1, 2) for name, plane in planes.items()}
        )


def _optimize(
    model: _Texels,
    rgb: Tensor,
    alpha: Tensor,
    cameras: Cameras,
    config: BaselineConfig,
    begin: tuple[float, float],
) -> Fit:
    groups = [
        {"params": [value.requires_grad_(True) for value in values], "base": config.rates[name]}
        for name, values in model.parameters().items()
    ]
    adam = torch.optim.Adam(groups, lr=0.0, eps=_EPS, fused=True)
    random, order = generator(config.seed, "baseline"), []
    size, count = (rgb.shape[-1], rgb.shape[-2]), min(config.views_per_step, len(rgb))
    steps, share = 0, 0.0
    while share < 1.0:
        if len(order) < count:
            order = torch.randperm(len(rgb), generator=random).tolist()
        chosen = [order.pop() for _ in range(count)]
        for group in adam.param_groups:
            group["lr"] = group["base"] * config.end**share
        planes = model.planes()
        out = render(model.heads(planes), cameras[chosen], size, background=1.0, depth=False)
        loss = _loss(out.color[0], out.alpha[0], rgb[chosen], alpha[chosen], config)
        loss = loss + _unevenness(planes, config) / len(rgb)
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        steps += 1
        seconds = time.perf_counter() - begin[0]
        share = steps / config.max_steps if config.max_steps else seconds / config.seconds
    with torch.no_grad():
        return Fit(
            model.heads().detach(),
            steps,
            time.perf_counter() - begin[0],
            time.process_time() - begin[1],
        )


def _loss(
    color: Tensor, shown: Tensor, truth: Tensor, mask: Tensor, config: BaselineConfig
) -> Tensor:
    l1 = (color - truth).abs().mean()
    dissimilar = 1.0 - ssim(color, truth).mean() if config.dssim else 0.0
    return (
        (1 - config.dssim) * l1
        + config.dssim * dissimilar
        + config.silhouette * (shown - mask).abs().mean()
    )


def _unevenness(planes: dict[str, Tensor], config: BaselineConfig) -> Tensor | float:
    """Smoothness over the UV square and closeness to the template."""
    total = 0.0
    for name, weight in config.smooth.items():
        plane = planes[name] * (planes[name].shape[-1] / _SMOOTH_SIDE)
        total = total + weight * (
            (plane[..., 1:] - plane[..., :-1]).square().mean()
            + (plane[..., 1:, :] - plane[..., :-1, :]).square().mean()
        )
    if config.anchor:
        total = total + config.anchor * sum(
            planes[name].square().mean() for name in planes if name != "color"
        )
    return total


@torch.no_grad()
def project_colors(
    attributes: GaussianAttributes, head: Gaussians, rgb: Tensor, alpha: Tensor, cameras: Cameras
) -> Tensor:  # [1, 3, R, R] in [0, 1]
    """Return the colors that the views show where the template's texels lie.

    A texel counts as seen where it lies on the surface that the camera sees, with the cosine of the
    angle to its normal as weight. Unseen ones take the color of the mirrored texel (u and 1 - u
    lie on opposite halves of the head), and what is left fills from its neighbors.
    """
    side = attributes.grid
    out = render(head, cameras, (rgb.shape[-1], rgb.shape[-2]), background=1.0)
    points = head.means[0]
    normals = _normals(head)
    where, away = cameras.project(points)  # [V, N, 2], [V, N]
    assert out.depth is not None
    layers = torch.cat([rgb, out.depth[0], alpha], 1)
    picked = F.grid_sample(layers, where[:, None] * 2 - 1, mode="bilinear", align_corners=False)[
        :, :, 0
    ]
    color, depth, inside = picked[:, :3], picked[:, 3], picked[:, 4]  # [V, 3, N], [V, N], [V, N]
    towards = F.normalize(cameras.position[:, None] - points, dim=-1)
    weight = (
        (towards * normals).sum(-1).clamp_min(0)
        * (away > 0)
        * (away < depth + _BEHIND)
        * (depth > 0)
    )
    # pixels at the outline are mixed with the background
    weight = weight.square() * (inside > _INSIDE)
    total = weight.sum(0)
    mean = (color * weight[:, None]).sum(0) / total.clamp_min(1e-8)  # [3, N]
    color, known = mean.reshape(1, 3, side, side), (total > 0.02).reshape(1, 1, side, side)
    other = ~known & known.flip(-1)
    color = torch.where(other, color.flip(-1), color)
    return _fill(color, (known | other).float())


# [N, 3]: the template's tangent frames have the normal as third axis
def _normals(head: Gaussians) -> Tensor:
    w, x, y, z = head.quats[0].unbind(-1)
    return torch.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)], -1)


def _fill(color: Tensor, known: Tensor) -> Tensor:  # [1, 3, R, R], [1, 1, R, R] -> [1, 3, R, R]
    """Fill unknown texels from coarser and coarser averages of the known ones; gray if nothing is
    known."""
    if color.shape[-1] == 1:
        return torch.where(known > 0, color, 0.5)
    weight = F.avg_pool2d(known, 2, ceil_mode=True)
    coarse = F.avg_pool2d(color * known, 2, ceil_mode=True) / weight.clamp_min(1e-8)
    coarse = _fill(coarse, (weight > 0).float())
    larger = F.interpolate(coarse, size=color.shape[-2:], mode="bilinear", align_corners=False)
    return torch.where(known > 0, color, larger)


# ---------------------------------------------------------------------------- as scored methods
def fit_method(config: BaselineConfig) -> Method:
    """Fit every head anew."""

    def fit_head(views: InputViews) -> tuple[Gaussians, dict]:
        found = fit(views.rgb, views.alpha, views.cameras, config)
        return found.head, {
            "steps": found.steps,
            "processor_seconds": round(found.processor_seconds, 2),
        }

    return fit_head


def template_method(views: InputViews) -> tuple[Gaussians, dict]:
    """The fit's start: what colors alone achieve, and how far the bare template lies from the
    truth."""
    return template_head(views.rgb, views.alpha, views.cameras), {}


def read_scores(path: Path) -> tuple[dict, Scores]:
    """Read a ``scores.json``: how was scored, and the records. Raises ``UserError`` for another
    file."""
    try:
        header = json.loads(path.read_bytes())
        records = header.pop("records")
        del header["means"]
        for name in ("network", "data", "geometry", "resolution", "views", "targets"):
            header[name]
        for record in records:
            record["method"], record["views"], record["subject"], record["expression"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no scores.json of score_encoder.py ({error}); name another one."
        ) from error
    return header, Scores(records)


def gains(scores: Scores, method: str, opponent: str, key: str = "psnr_mask") -> list[dict]:
    """One figure of one method minus that of another on the heads that both have, per number of
    views."""
    rows = []
    for views in dict.fromkeys(record["views"] for record in scores.records):
        ours, theirs = (
            {(record["subject"], record["expression"]): record[key] for record in found}
            for found in (scores.of(method, views), scores.of(opponent, views))
        )
        differences = [ours[head] - theirs[head] for head in ours if head in theirs]
        if differences:
            rows.append(
                {
                    "views": views,
                    "heads": len(differences),
                    "gain": round(float(np.mean(differences)), 4),
                    "least": round(min(differences), 4),
                }
            )
    return rows


def gain_lines(scores: Scores) -> list[str]:
    """Return sentences: how far the encoder, plain and refined, lies above each kind of fit."""
    lines = []
    # What spills over the outline shows in the whole image only.
    for key, name in (("psnr_mask", "PSNR in mask"), ("psnr", "PSNR of the whole image")):
        for method, opponent in itertools.product(("encoder", "refined"), BASELINES):
            cells = [
                f"N={row['views']} {row['gain']:+.2f} (least {row['least']:+.2f},"
                f" {row['heads']} heads)"
                for row in gains(scores, method, opponent, key)
            ]
            if cells:
                lines.append(f"{method} above {opponent}, {name}, dB: {', '.join(cells)}")
    return lines
