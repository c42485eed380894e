"""What an encoder is trained on: images, silhouettes, and the distance to the true surface."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from gghead.cameras import Cameras
from gghead.gaussians import Gaussians
from gghead.image_metrics import ImageLossConfig, image_loss, ssim
from gghead.models.attributes import GaussianAttributes
from gghead.rendering import render
from gghead.torch_utils.errors import UserError
from gghead.training.encoder.config import EncoderLossConfig

if TYPE_CHECKING:
    from scipy.spatial import KDTree


def image_terms(
    shown: Tensor,
    wanted: Tensor,
    alpha: Tensor,
    mask: Tensor,
    weight: Tensor | None,
    config: EncoderLossConfig,
) -> dict[str, Tensor]:
    """Pixels, structure and silhouette of images [M, 3, H, W] in [0, 1].

    alpha and mask are [M, 1, H, W].

    ``weight`` [M, 1, H, W] adds weight to regions: differences there are multiplied by 1 + weight.
    """
    if weight is not None:
        shown = wanted + (shown - wanted) * (1 + weight)
    parts = {
        "pixels": (
            image_loss(shown, wanted, ImageLossConfig(config.l1, config.l2, config.gradient)).mean()
        )
    }
    if config.ssim > 0:
        parts["ssim"] = (1 - ssim(shown, wanted)).mean()
    if config.silhouette > 0:
        parts["silhouette"] = (alpha - mask).abs().mean()
    return parts


class SurfaceWeights(Protocol):
    """Weights of the terms that keep a surface together; terms without weight are not computed."""

    @property
    def position(self) -> float:
        """Of the mean distance from the template."""
        ...

    @property
    def tv(self) -> float:
        """Of the total variation over the UV map."""
        ...


def surface_terms(
    attributes: GaussianAttributes,
    raw: dict[str, Tensor],
    heads: Gaussians,
    weights: SurfaceWeights,
) -> dict[str, Tensor]:
    """Mean distance from the template, and total variation of raw offsets and scales.

    The variation is that over the UV map.
    """
    parts = {}
    if weights.position > 0:
        moved = heads.means - attributes.position
        parts["position"] = (moved.square().sum(-1) + 1e-8).sqrt().mean()
    if weights.tv > 0:
        maps = attributes.on_grid(torch.cat([raw["position"], raw["scale"]], -1))
        valid = attributes.valid.reshape(attributes.grid, attributes.grid).float()
        right, down = valid[:, 1:] * valid[:, :-1], valid[1:] * valid[:-1]
        parts["tv"] = ((maps[..., 1:] - maps[..., :-1]).abs() * right).mean() + (
            (maps[..., 1:, :] - maps[..., :-1, :]).abs() * down
        ).mean()
    return parts


def place_term(attributes: GaussianAttributes, heads: Gaussians, offset: Tensor) -> Tensor:
    """Distance of the encoder's own idea of the surface from the Gaussians' offsets.

    ``offset`` [B, T, 3] is compared with the mean offset of the Gaussians in each token's cell,
    held fixed.
    """
    side = int(offset.shape[1] ** 0.5)
    mean, share = attributes.offset_of_cells(heads, side)
    off = (offset.transpose(1, 2).unflatten(2, (side, side)) - mean.detach()).abs()
    return (off * (share > 0)).mean()


def total(parts: dict[str, Tensor], config: EncoderLossConfig) -> Tensor:
    """The weighted sum; ``pixels`` carries its weights already."""
    weighted = (value * getattr(config, name, 1.0) for name, value in parts.items())
    return sum(weighted, torch.zeros(()))


_LARGE = 1.5  # times the median size, beyond which triangles are divided
_NEAREST = 16  # triangles tried first; more where that is not enough to be sure
_CHUNK = 1 << 14  # points at once
_OPAQUE = 0.5


@dataclass(frozen=True)
class TrueSurface:
    """The mesh of one head and its width."""

    vertices: np.ndarray  # float64 [V, 3] world units
    triangles: np.ndarray  # int64 [T, 3]
    width: float
    """World units from ear to ear, hair included: extent in x of the vertices between nose base and
    brows."""


def read_surface(path: Path, subject: str) -> TrueSurface:
    """Read a head's neutral mesh from ``geometry.npz`` of mvheads.

    Raises ``UserError`` if it has no such subject.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            row = np.flatnonzero(file["subject"].astype(str) == str(subject))
            if not len(row):
                raise UserError(
                    f"{path} has no subject {subject}; score others, or leave `geometry` out."
                )
            vertices, landmarks = (
                file[name][int(row[0])].astype(np.float64) for name in ("vertices", "landmarks68")
            )
            triangles = file["triangles"].astype(np.int64)
    except (OSError, KeyError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{path} is no geometry file of mvheads ({error}); name another by `geometry`."
        ) from error
    return TrueSurface(vertices, triangles, head_width(vertices, landmarks[0]))


def head_width(vertices: np.ndarray, landmarks: np.ndarray) -> float:  # [V, 3], [68, 3] iBUG
    """Extent in x of the vertices between the base of the nose (34) and the brows (18 to 27)."""
    low, high = landmarks[33, 1], landmarks[17:27, 1].mean()
    between = vertices[(vertices[:, 1] >= low) & (vertices[:, 1] <= high)]
    if not len(between):
        raise UserError(
            "The true mesh has no vertices between nose and brows, so that it has no width."
        )
    return float(np.ptp(between[:, 0]))


@torch.no_grad()
# -> float64 [P, 3]
def depth_points(head: Gaussians, cameras: Cameras, size: tuple[int, int]) -> np.ndarray:
    """Return the points that a head (batch shape (1,)) shows to cameras [C].

    They are the pixels of an opacity above 0.5, at the expected depth.
    """
    out = render(head, cameras, size, background=None)
    assert out.depth is not None
    width, height = size
    x = (torch.arange(width, dtype=torch.float64) + 0.5) / width
    y = (torch.arange(height, dtype=torch.float64) + 0.5) / height
    pixels = torch.stack(
        [*torch.meshgrid(x, y, indexing="xy"), torch.ones(height, width, dtype=torch.float64)], -1
    )
    points = []
    for index in range(len(cameras)):
        chosen = (out.alpha[0, index, 0] > _OPAQUE).cpu()
        depth = out.depth[0, index, 0].cpu()[chosen].double()
        pose, k = cameras.cam2world[index].cpu().double(), cameras.intrinsics[index].cpu().double()
        rays = pixels[chosen] @ torch.linalg.inv(k).T
        points.append((rays * depth[:, None]) @ pose[:3, :3].T + pose[:3, 3])
    return torch.cat(points).numpy()


def mean_distance(
    head: Gaussians, cameras: Cameras, size: tuple[int, int], truth: TrueSurface, points: int = 4000
) -> float:
    """Return the mean distance of shown points to the true mesh, in % of the head's width.

    ``points`` of them are taken, evenly chosen. Raises ``UserError`` if the cameras see nothing.
    """
    shown = depth_points(head, cameras, size)
    if not len(shown):
        raise UserError("The head is transparent everywhere, so that it has no surface to measure.")
    step = max(len(shown) // points, 1)
    return (
        100.0
        * float(point_distances(shown[::step], truth.vertices, truth.triangles).mean())
        / truth.width
    )


# [P, 3] -> [P]
def point_distances(points: np.ndarray, vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Return the exact distances of points to the nearest point of a mesh.

    Triangles are tried in the order of their centroids. A triangle whose centroid is ``c`` away and
    whose corners lie at most ``r`` from the centroid is no nearer than ``c - r``, which says when
    no further one can win. Large triangles are divided first, because the largest ``r`` counts.
    """
    from scipy.spatial import KDTree

    corners = vertices[triangles]
    corners = divide_triangles(corners, _LARGE * float(np.median(_radii(corners))))
    reach = float(_radii(corners).max())
    tree = KDTree(corners.mean(1))
    return np.concatenate(
        [
            _nearest(block, corners, tree, reach)
            for block in np.array_split(points, max(len(points) // _CHUNK, 1))
        ]
    )


def divide_triangles(corners: np.ndarray, limit: float) -> np.ndarray:  # [T, 3, 3] -> [T', 3, 3]
    """Quarter triangles until all corners lie within ``limit`` of the centroid.

    They are cut at the middles of their edges.
    """
    done = []
    while len(corners):
        large = _radii(corners) > max(limit, 1e-12)
        done.append(corners[~large])
        a, b, c = corners[large].transpose(1, 0, 2)
        ab, bc, ca = (a + b) / 2, (b + c) / 2, (c + a) / 2
        corners = np.concatenate(
            [np.stack(part, 1) for part in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))]
        )
    return np.concatenate(done)


def _radii(corners: np.ndarray) -> np.ndarray:  # [T, 3, 3] -> [T]
    return np.linalg.norm(corners - corners.mean(1)[:, None], axis=2).max(1)


def _nearest(points: np.ndarray, corners: np.ndarray, tree: "KDTree", reach: float) -> np.ndarray:
    best, left, count = (
        np.full(len(points), np.inf),
        np.arange(len(points)),
        min(_NEAREST, len(corners)),
    )
    while len(left):
        distance, index = tree.query(points[left], k=count)
        distance, index = distance.reshape(len(left), count), index.reshape(len(left), count)
        near = to_triangles(np.repeat(points[left], count, 0), corners[index.ravel()]).reshape(
            len(left), count
        )
        best[left] = near.min(1)
        if count == len(corners):
            break
        left = left[distance[:, -1] - reach < best[left]]
        count = min(2 * count, len(corners))
    return best


def to_triangles(points: np.ndarray, corners: np.ndarray) -> np.ndarray:  # [P, 3], [P, 3, 3] -> [P]
    """Return the distance of every point to its triangle.

    It is to the plane where the foot lies inside, else to an edge.
    """
    a, b, c = corners.transpose(1, 0, 2)
    normal = np.cross(b - a, c - a)
    length = np.linalg.norm(normal, axis=1)
    unit = normal / np.maximum(length, 1e-300)[:, None]
    inside = length > 1e-20  # a triangle without area consists of its edges
    edges = []
    for start, end in ((a, b), (b, c), (c, a)):
        along, away = end - start, points - start
        inside &= (np.cross(along, away) * unit).sum(1) >= 0
        share = (along * away).sum(1) / np.maximum((along * along).sum(1), 1e-300)
        edges.append(np.linalg.norm(away - np.clip(share, 0, 1)[:, None] * along, axis=1))
    plane = np.abs(((points - a) * unit).sum(1))
    return np.where(inside, plane, np.minimum.reduce(edges))
