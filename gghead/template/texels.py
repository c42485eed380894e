"""Texel maps.

What lies at the center of every texel of a template's UV layout, baked exactly and cached.
"""

import functools
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gghead.template.mesh import Template, corner_angles
from gghead.template.rasterize import rasterize_triangles
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.files import cache_dir, write_atomically

# raise it when the meaning or the numbers of a map change: older cache files are then not found
FORMAT_VERSION = 1
_ARRAYS = (
    "position",
    "normal",
    "frame",
    "spacing",
    "region",
    "mask",
    "face_index",
    "bary",
    "blendshapes",
)


@dataclass(frozen=True, eq=False)
class TexelMaps:
    """Maps over an R x R texel grid.

    Texel (row i, column j) is the UV point ((j + 0.5) / R, (i + 0.5) / R).

    Texels outside every triangle have mask False, position 0, the identity as frame and region 0.
    Tensors are shared by a cache: do not write into them.
    """

    position: Tensor  # [3, R, R] float32, world units
    normal: Tensor  # [3, R, R] unit outward normal (interpolated vertex normals)
    # [3, 3, R, R]; frame[:, k] is the k-th axis: tangent along u, bitangent n x t, normal
    frame: Tensor
    spacing: Tensor  # [2, R, R] world distance between neighboring texels along u and along v, > 0
    region: Tensor  # [R, R] int64 index into region_names
    mask: Tensor  # [R, R] bool, the texel lies on the surface
    face_index: Tensor  # [R, R] int32 into template.faces, -1 outside
    bary: Tensor  # [3, R, R] float32 weights of that face's corners
    blendshapes: Tensor  # [K, 3, R, R] offsets, world units
    region_names: tuple[str, ...]  # ("unknown", …)
    blendshape_names: tuple[str, ...]  # [K]

    @property
    def resolution(self) -> int:
        return self.mask.shape[-1]

    def to(self, device: torch.device | str) -> "TexelMaps":
        """The same maps on another device."""
        moved = {
            f.name: getattr(self, f.name).to(device) for f in fields(self) if f.name in _ARRAYS
        }
        return replace(self, **moved)


def texel_maps(template: Template, resolution: int) -> TexelMaps:
    """Texel maps of `template` at `resolution`.

    They come from memory, else from the disk cache, else they are baked (and stored).

    The disk cache is `$XDG_CACHE_HOME/gghead/texels` (default `~/.cache/gghead/texels`), keyed by
    content hash, resolution and format version. A damaged file is rebuilt with one warning.

    Raises:
        UserError: a resolution that is not a positive integer.
    """
    if (
        not isinstance(resolution, int)
        or isinstance(resolution, bool)
        or not 1 <= resolution <= 8192
    ):
        raise UserError(f"Texel resolution must be an integer from 1 to 8192, got {resolution!r}.")
    return _texels(template, resolution)


@functools.lru_cache(maxsize=8)
def _texels(template: Template, resolution: int) -> TexelMaps:
    path = cache_path(template, resolution)
    arrays = _read(path, resolution)
    if arrays is None:
        arrays = bake(template, resolution)
        _write(path, arrays)
    return TexelMaps(
        **{name: torch.from_numpy(arrays[name]) for name in _ARRAYS},
        region_names=("unknown", *template.regions),
        blendshape_names=tuple(template.blendshapes),
    )


def cache_path(template: Template, resolution: int) -> Path:
    """Where the maps of this template and resolution are kept on disk."""
    return cache_dir("texels") / f"{template.sha256[:24]}-{resolution}-v{FORMAT_VERSION}.npz"


def _read(path: Path, resolution: int) -> dict[str, np.ndarray] | None:
    if not path.exists():
        return None
    try:
        # The members of the zip carry checksums, which reading checks.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in _ARRAYS}
        if arrays["mask"].shape != (resolution, resolution):
            raise ValueError("wrong resolution")
        return arrays
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        warnings.warn(f"Texel cache {path} is damaged ({error}) and will be rebuilt.", stacklevel=4)
        return None


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # numpy's signature names allow_pickle beside the arrays
        write_atomically(path, lambda file: np.savez(file, **arrays))  # pyright: ignore[reportArgumentType]
    except (OSError, UserError) as error:
        warnings.warn(f"Texel maps could not be cached: {error}", stacklevel=4)


def bake(template: Template, resolution: int) -> dict[str, np.ndarray]:
    """Rasterize the UV layout at texel centers and interpolate everything there in float64."""
    face, bary = rasterize_triangles(
        template.uvs * resolution, None, template.uv_faces, resolution, resolution
    )
    mask = face >= 0
    corner = template.faces[face]  # [R, R, 3]; the last face where there is none, masked below
    uv_corner = template.uv_faces[face]

    # [V, C] -> [C, R, R]
    def interpolate(values: np.ndarray, corners: np.ndarray = corner) -> np.ndarray:
        mixed = np.zeros((*mask.shape, values.shape[1]))
        for i in range(3):
            mixed += bary[..., i, None] * values[corners[..., i]]
        return np.moveaxis(np.where(mask[..., None], mixed, 0.0), -1, 0)

    position = interpolate(template.vertices)
    normal = _unit(interpolate(template.vertex_normals), (0.0, 0.0, 1.0))
    along_u, along_v = _uv_derivatives(template)
    tangent = interpolate(along_u, uv_corner)
    frame = _frame(tangent, normal)
    local = np.stack(
        [np.linalg.norm(tangent, axis=0), np.linalg.norm(interpolate(along_v, uv_corner), axis=0)]
    )
    island = np.where(mask, _islands(template.uv_faces, len(template.uvs))[uv_corner[..., 0]], -1)
    spacing = _spacing(position, island, local / resolution)
    shapes = [interpolate(offsets) for offsets in template.blendshapes.values()]
    return {
        "position": position.astype(np.float32),
        "normal": normal.astype(np.float32),
        "frame": frame.astype(np.float32),
        "spacing": np.where(mask, spacing, 0.0).astype(np.float32),
        "region": _region_labels(template, interpolate) * mask,
        "mask": mask,
        "face_index": face,
        "bary": np.ascontiguousarray(np.moveaxis(bary, -1, 0), dtype=np.float32),
        "blendshapes": (
            np.array(shapes, dtype=np.float32).reshape(len(shapes), 3, resolution, resolution)
        ),
    }


# [R, R] int64
def _region_labels(
    template: Template, interpolate: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """The first region with half the weight, else the heaviest.

    Regions are in the template's order, small ones first.
    """
    weights = [interpolate(weight[:, None])[0] for weight in template.regions.values()]
    if not weights:
        return np.zeros(interpolate(np.ones((len(template.vertices), 1))).shape[1:], dtype=np.int64)
    stack = np.stack(weights)
    clear = stack >= 0.5
    label = np.where(clear.any(0), clear.argmax(0), stack.argmax(0)) + 1
    return np.where(stack.max(0) > 0, label, 0).astype(np.int64)


def _uv_derivatives(template: Template) -> tuple[np.ndarray, np.ndarray]:  # [T, 3], [T, 3]
    """dP/du and dP/dv at every UV vertex.

    The faces' derivatives are averaged with their UV angle as weight.
    """
    uv, points = template.uvs[template.uv_faces], template.vertices[template.faces]
    (du1, dv1), (du2, dv2) = (uv[:, 1] - uv[:, 0]).T, (uv[:, 2] - uv[:, 0]).T
    e1, e2 = points[:, 1] - points[:, 0], points[:, 2] - points[:, 0]
    area = du1 * dv2 - du2 * dv1
    divisor = np.where(np.abs(area) > 1e-15, area, np.inf)[:, None]
    derivatives = (
        (dv2[:, None] * e1 - dv1[:, None] * e2) / divisor,
        (du1[:, None] * e2 - du2[:, None] * e1) / divisor,
    )
    count, corner = len(template.uvs), template.uv_faces.ravel()
    weight = (corner_angles(uv) * (np.abs(area) > 1e-15)[:, None]).ravel()
    total = np.maximum(np.bincount(corner, weights=weight, minlength=count), 1e-30)[:, None]
    sums = [
        np.stack(
            [
                np.bincount(corner, weight * np.repeat(d[:, axis], 3), minlength=count)
                for axis in range(3)
            ],
            1,
        )
        for d in derivatives
    ]
    return sums[0] / total, sums[1] / total


def _frame(tangent: np.ndarray, normal: np.ndarray) -> np.ndarray:  # [3, 3, R, R]
    """Gram-Schmidt of the u direction against the normal.

    Right-handed axes tangent, bitangent, normal.
    """
    tangent = tangent - normal * (tangent * normal).sum(0)
    # Where u has no direction (a pole) any tangent will do: take the world axis that the normal is
    # least along.
    least = np.abs(normal).argmin(0)
    helper = np.moveaxis(np.eye(3)[least], -1, 0)
    helper = helper - normal * (helper * normal).sum(0)
    weak = np.linalg.norm(tangent, axis=0) < 1e-9
    tangent = _unit(np.where(weak, helper, tangent), (1.0, 0.0, 0.0))
    bitangent = np.cross(normal, tangent, axis=0)
    return np.stack([tangent, bitangent, normal], axis=1)


def _unit(vectors: np.ndarray, default: tuple[float, float, float]) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=0)
    fallback = np.array(default)[:, None, None]
    return np.where(length > 1e-12, vectors / np.maximum(length, 1e-12), fallback)


# [2, R, R]
def _spacing(position: np.ndarray, island: np.ndarray, local: np.ndarray) -> np.ndarray:
    """Distance to the neighbors along u and v.

    It is averaged over the (one or two) neighbors of the same UV island.

    `local` [2, R, R] is the surface derivative times the texel size; it stands in where a texel has
    no neighbor. A floor of a tenth of the median keeps poles, where all texels of a row meet, from
    having no size.
    """
    result = np.empty_like(local)
    for k, axis in enumerate((2, 1)):
        step = np.linalg.norm(np.diff(position, axis=axis), axis=0)
        same = np.diff(island, axis=axis - 1) == 0
        before, after = [(0, 0), (0, 0)], [(0, 0), (0, 0)]
        before[axis - 1], after[axis - 1] = (1, 0), (0, 1)
        total = np.pad(step * same, before) + np.pad(step * same, after)
        count = np.pad(same, before).astype(np.int64) + np.pad(same, after)
        result[k] = np.where(count > 0, total / np.maximum(count, 1), local[k])
    valid = island >= 0
    if valid.any():
        result = np.maximum(result, 0.1 * np.median(result[:, valid], axis=1)[:, None, None])
    return result


# [T] label of the connected UV component
def _islands(uv_faces: np.ndarray, count: int) -> np.ndarray:
    """Connected components of the UV layout by repeated minimum over faces and pointer jumping."""
    label = np.arange(count)
    while True:
        lowest = label[uv_faces].min(1)
        new = label.copy()
        for i in range(3):
            np.minimum.at(new, uv_faces[:, i], lowest)
        new = new[new]
        if np.array_equal(new, label):
            return label
        label = new
