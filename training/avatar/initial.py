"""Where an avatar's Gaussians start: points on the template's surface, as far apart as their neighbours are."""

import numpy as np
import torch
from torch import Tensor

from gghead.cameras import Cameras
from gghead.template import Template
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.rng import derive_seed

_BLOCK = 1024
_IN_VIEW = 0.5  # least share of the points in the middle camera's picture


def surface_points(template: Template, count: int, seed: int) -> Tensor:  # [count, 3] world units
    """Points drawn evenly from the surface by area."""
    if count < 4:
        raise UserError(f"An avatar needs at least 4 initial points, but {count} were asked for.")
    random = np.random.RandomState(derive_seed(seed, "points") % 2**32)
    corners = template.vertices[template.faces]  # [F, 3, 3]
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    faces = random.choice(len(areas), count, p=areas / areas.sum())
    u, v = random.rand(2, count)
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    weights = np.stack([1 - u - v, u, v], 1)
    return torch.from_numpy((corners[faces] * weights[..., None]).sum(1)).float()


def check_in_view(points: Tensor, camera: Cameras, template: str) -> None:
    """Raises ``UserError`` unless half of the template's points [N, 3] lie in the picture of ``camera`` (no batch)."""
    places, depth = camera.project(points)
    share = ((places > 0) & (places < 1)).all(-1).logical_and(depth > 0).float().mean()
    if share < _IN_VIEW:
        raise UserError(f"Of the points of the template '{template}' {share:.0%} lie in the sequence's pictures, so "
                        "its cameras or the mesh have other axes or units; scripts/dataset_tool.py check shows what "
                        "the cameras see, docs/formats.md says which world is meant.")


def neighbour_distance(points: Tensor) -> Tensor:  # [N, 3] -> [N]
    """Root mean square distance to the three nearest neighbours, 3DGS's first standard deviation."""
    rows = [torch.cdist(block, points, compute_mode="donot_use_mm_for_euclid_dist").topk(4, largest=False)[0][:, 1:]
            for block in points.split(_BLOCK)]  # fmt: skip
    return torch.cat(rows).square().mean(1).sqrt().clamp_min(1e-5)
