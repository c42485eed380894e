"""Where an avatar starts: points on the template, or a head that a reconstructor made.

The avatar's first image, for the expression zero, is then that head instead of a gray template.
The network is given two hidden units for each color channel and for the opacity, which carry a
feature through unchanged (x = relu(x) - relu(-x)), and the bias features hold what the head looks
like; all else is learned as ever.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gghead.animation.frames import Frames
from gghead.cameras import Cameras
from gghead.gaussians import Gaussians
from gghead.models.avatar import Avatar, appearance_size
from gghead.template import Template
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.rng import derive_seed

_BLOCK = 1024
_IN_VIEW = 0.5  # least share of the points in the middle camera's image


def surface_points(template: Template, count: int, seed: int) -> Tensor:  # [count, 3] world units
    """Points drawn evenly from the surface by area."""
    if count < 4:
        raise UserError(f"An avatar needs at least 4 initial points, but {count} were asked for.")
    random = np.random.RandomState(derive_seed(seed, "points") % 2**32)
    corners = template.vertices[template.faces]  # [F, 3, 3]
    areas = np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    )
    faces = random.choice(len(areas), count, p=areas / areas.sum())
    u, v = random.rand(2, count)
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    weights = np.stack([1 - u - v, u, v], 1)
    return torch.from_numpy((corners[faces] * weights[..., None]).sum(1)).float()


def check_in_view(points: Tensor, camera: Cameras, template: str) -> None:
    """Raise ``UserError`` unless half of the template's points [N, 3] lie in the image.

    ``camera`` has no batch.
    """
    places, depth = camera.project(points)
    share = ((places > 0) & (places < 1)).all(-1).logical_and(depth > 0).float().mean()
    if share < _IN_VIEW:
        raise UserError(
            f"Of the points of the template '{template}' {share:.0%} lie in the sequence's"
            " images, so its cameras or the mesh have other axes or units;"
            " scripts/dataset_tool.py check shows what the cameras see, docs/formats.md says which"
            " world is meant."
        )


def neighbor_distance(points: Tensor) -> Tensor:  # [N, 3] -> [N]
    """Root mean square distance to the three nearest neighbors.

    This is 3DGS's first standard deviation.
    """
    rows = [
        torch.cdist(block, points, compute_mode="donot_use_mm_for_euclid_dist").topk(
            4, largest=False
        )[0][:, 1:]
        for block in points.split(_BLOCK)
    ]
    return torch.cat(rows).square().mean(1).sqrt().clamp_min(1e-5)


_VIEWS = 8  # frames that a head is encoded from
_SEEN = 0.05  # opacity above which a Gaussian belongs to the head
# opacities that are started with: others would hardly learn to come and go
_FAINTEST, _DENSEST = 0.05, 0.95
_CARRIED = 4  # red, green, blue, opacity
_OVERLAP = 0.4  # least standard deviation along the surface, in distances to the neighbors
_GAIN = 1.0  # what a unit of a carried feature changes


def initial_head(source: str, frames: Frames, device: torch.device) -> Gaussians:  # [N]
    """The head in a .ply, or what an encoder makes of the calmest training frames.

    The encoder is a file or a run folder.

    Raises ``UserError`` for what is neither.
    """
    if Path(source).suffix.lower() == ".ply":
        return Gaussians.load_ply(source)
    from gghead import checkpoints

    model = checkpoints.load(source, device=device, kind="reconstructor")
    chosen = calm_frames(frames, _VIEWS)
    rgb = torch.stack([frames.over(index) for index in chosen])
    size = model.generator.config.image_size
    if max(rgb.shape[-2:]) > size:
        rgb = F.interpolate(rgb, scale_factor=size / max(rgb.shape[-2:]), mode="area")
    with torch.no_grad():
        latent = model.encode(rgb[None], frames.cameras[chosen][None])
        return latent.gaussians(model.generator)[0].to("cpu", torch.float32)


def calm_frames(frames: Frames, count: int) -> list[int]:
    """Frames from ``count`` directions, in time order, each the calmest one.

    The calmest has the smallest coefficients, as parts of their ranges.
    """
    extent = (frames.expression.amax(0) - frames.expression.amin(0)).clamp_min(1e-6)
    effort = (frames.expression / extent).square().sum(1)
    by_yaw = frames.cameras.angles()[0].argsort(stable=True)
    groups = [part for part in by_yaw.tensor_split(min(count, len(frames))) if len(part)]
    return sorted(int(part[effort[part].argmin()]) for part in groups)


def thin_out(head: Gaussians, count: int) -> Gaussians:  # [N] -> [at most count]
    """Evenly spread Gaussians of the head.

    Each grows over the neighbors that it stands for, and takes their color.

    Points are chosen one after the other, each as far as possible from those before it. Raises
    ``UserError`` for a head with hardly any visible Gaussian.
    """
    head = head.select(head.opacities > _SEEN)
    if head.num < 4:
        raise UserError(
            f"An avatar needs at least 4 Gaussians to start with, but the head has {head.num} that"
            " can be seen."
        )
    if head.num <= count:
        return head
    chosen = [0]
    distance, nearest = (
        head.means.new_full((head.num,), torch.inf),
        torch.zeros(head.num, dtype=torch.long),
    )
    while True:
        from_last = (head.means - head.means[chosen[-1]]).square().sum(1)
        nearest[from_last < distance] = len(chosen) - 1
        distance = torch.minimum(distance, from_last)
        if len(chosen) == count:
            break
        chosen.append(int(distance.argmax()))
    area = head.scales.topk(2, dim=1).values.prod(1)
    total = torch.zeros(count).index_add(0, nearest, area)

    def mean(values: torch.Tensor) -> torch.Tensor:
        weight = area.view(-1, *[1] * (values.ndim - 1))
        sums = values.new_zeros(count, *values.shape[1:]).index_add(0, nearest, weight * values)
        return sums / total.view(-1, *[1] * (values.ndim - 1))

    few = head.select(chosen)
    few.colors, few.opacities = mean(head.colors), mean(head.opacities)
    grown = few.scales * (total / area[chosen]).sqrt()[:, None]
    thinnest = grown.argmin(1, keepdim=True)
    wide = torch.maximum(grown, _OVERLAP * neighbor_distance(few.means)[:, None])
    few.scales = wide.scatter(1, thinnest, grown.gather(1, thinnest))  # flat Gaussians stay flat
    return few


@torch.no_grad()
def copy_appearance(avatar: Avatar, head: Gaussians) -> None:
    """Let the avatar, which has as many Gaussians, start as this head.

    Harmonics above degree 0 start at zero.

    Raises ``UserError`` for a network too narrow to carry colors and opacity.
    """
    config, last = avatar.config, appearance_size(avatar.config) - 1
    avatar.means.copy_(head.means)
    avatar.log_scales.copy_(head.scales.log())
    avatar.quats.copy_(head.quats)
    color = head.colors[:, 0] if head.sh_degree is not None else head.with_sh(0).colors[:, 0]
    # [N, 4]
    look = torch.cat([color, head.opacities.clamp(_FAINTEST, _DENSEST).logit()[:, None]], 1)
    places = [0, 1, 2, last]
    if config.changes == "geometry":
        avatar.static[:, places] = look
        if config.mlp:  # nothing moves yet
            avatar.output.weight.zero_()
            avatar.output.bias.zero_()
    elif not config.mlp:
        avatar.bias[:, places] = look
    else:
        if config.feature_dim < _CARRIED or config.hidden < 2 * _CARRIED:
            raise UserError(
                f"An avatar that starts from a head needs at least {_CARRIED} features and "
                f"{2 * _CARRIED} hidden units, but it has {config.feature_dim} and {config.hidden}."
            )
        avatar.bias[:, :_CARRIED] = look / _GAIN
        _carry(avatar.hidden, avatar.output, places)


def _carry(hidden: nn.Linear, output: nn.Linear, places: list[int]) -> None:
    """Let the first features pass the network.

    Feature k comes out at ``places[k]``, everything else as zero.
    """
    output.weight.zero_()
    output.bias.zero_()
    units = len(places)
    hidden.weight[: 2 * units], hidden.bias[: 2 * units] = 0, 0
    for index, place in enumerate(places):
        for unit, sign in ((index, 1.0), (units + index, -1.0)):
            hidden.weight[unit, index] = sign
            output.weight[place, unit] = sign * _GAIN
