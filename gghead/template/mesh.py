"""The template mesh: geometry, UV layout, soft regions, blendshapes and landmarks, with a content hash."""

import functools
import hashlib
from dataclasses import dataclass, field, fields

import numpy as np

from gghead.torch_utils.errors import UserError


@dataclass(frozen=True, eq=False)
class Template:
    """A triangle mesh with one UV layout. Arrays are numpy and must not be written to (they are shared).

    UV convention: (u, v) in [0, 1], u to the right and v down the texture, so that texel (row i, column j) of an R x R
    map lies at ((j + 0.5) / R, (i + 0.5) / R). Faces wind counter-clockwise seen from outside.
    """

    name: str
    vertices: np.ndarray  # [V, 3] float64, world units
    faces: np.ndarray  # [F, 3] int64
    uvs: np.ndarray  # [T, 2] float64
    uv_faces: np.ndarray  # [F, 3] int64 into uvs
    regions: dict[str, np.ndarray] = field(default_factory=dict)  # name -> [V] float64 weights in [0, 1]
    blendshapes: dict[str, np.ndarray] = field(default_factory=dict)  # ARKit name -> [V, 3] offsets, world units
    landmarks: dict[str, np.ndarray] = field(default_factory=dict)  # name -> [3] world position on or in the head
    mirror_index: np.ndarray | None = None  # [V] int64, vertex at (-x, y, z), or None for unknown symmetry

    def __post_init__(self):
        count = len(self.vertices)
        if self.vertices.shape != (count, 3) or self.uvs.ndim != 2 or self.uvs.shape[1] != 2:
            raise UserError(f"Template '{self.name}': vertices must be [V, 3] and uvs [T, 2].")
        if self.faces.shape != self.uv_faces.shape or self.faces.ndim != 2 or self.faces.shape[1] != 3:
            raise UserError(f"Template '{self.name}': faces and uv_faces must both be [F, 3].")
        for faces, limit in ((self.faces, count), (self.uv_faces, len(self.uvs))):
            if len(faces) == 0 or faces.min() < 0 or faces.max() >= limit:
                raise UserError(f"Template '{self.name}': a face index is outside 0..{limit - 1} or there is no face.")
        if not (np.isfinite(self.vertices).all() and np.isfinite(self.uvs).all()):
            raise UserError(f"Template '{self.name}': vertices and uvs must be finite numbers.")

    @functools.cached_property
    def sha256(self) -> str:
        """Hex hash of everything that the template says (not of its name)."""
        digest = hashlib.sha256()
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name == "name" or value is None:
                continue
            arrays = value if isinstance(value, dict) else {"": value}
            for key, array in arrays.items():
                kind = np.int64 if np.issubdtype(array.dtype, np.integer) else np.float64
                digest.update(f"{item.name}/{key}{list(array.shape)}".encode())
                digest.update(np.ascontiguousarray(array, dtype=kind).tobytes())
        return digest.hexdigest()

    def __eq__(self, other):
        return isinstance(other, Template) and self.sha256 == other.sha256

    def __hash__(self):
        return hash(self.sha256)

    @functools.cached_property
    def vertex_normals(self) -> np.ndarray:  # [V, 3]
        """Unit outward normals, averaged over the faces around a vertex with their angle as weight."""
        return vertex_normals(self.vertices, self.faces)

    def posed(self, coefficients: dict[str, float]) -> np.ndarray:  # [V, 3]
        """Vertices with blendshapes added: `vertices + sum_k coefficient_k * blendshapes[k]`.

        Raises:
            UserError: an unknown blendshape name.
        """
        vertices = self.vertices.copy()
        for name, value in coefficients.items():
            if name not in self.blendshapes:
                known = ", ".join(sorted(self.blendshapes)) or "none"
                raise UserError(f"Template '{self.name}' has no blendshape '{name}'; it has: {known}.")
            vertices += float(value) * self.blendshapes[name]
        return vertices

    def texels(self, resolution: int):
        """The texel maps at `resolution` (see gghead.template.texels.TexelMaps), cached in memory and on disk."""
        from gghead.template.texels import texels

        return texels(self, resolution)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit vertex normals [V, 3] of a mesh; (0, 0, 1) for a vertex without a proper face.

    Face normals are weighted with the face's angle at the vertex (Thuermer and Wuethrich, 1998), so the result does not
    depend on how the quads of a grid were split into triangles.
    """
    corners = vertices[faces].astype(np.float64)
    face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(face_normals, axis=1, keepdims=True)
    face_normals = face_normals / np.maximum(length, 1e-30)
    angles = corner_angles(corners)
    normals = np.zeros((len(vertices), 3))
    for i in range(3):
        for axis in range(3):
            weights = angles[:, i] * face_normals[:, axis]
            normals[:, axis] += np.bincount(faces[:, i], weights=weights, minlength=len(vertices))
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.where(length > 1e-12, normals / np.maximum(length, 1e-12), np.array([0.0, 0.0, 1.0]))


def corner_angles(corners: np.ndarray) -> np.ndarray:  # [F, 3, D] -> [F, 3]
    """Interior angle of every triangle at each of its corners, radians; 0 where an edge has no length."""
    edges = np.roll(corners, -1, axis=1) - corners
    edges = edges / np.maximum(np.linalg.norm(edges, axis=2, keepdims=True), 1e-30)
    cosine = -(edges * np.roll(edges, 1, axis=1)).sum(2)
    proper = (np.abs(edges).sum(2) > 0) & (np.abs(np.roll(edges, 1, axis=1)).sum(2) > 0)
    return np.where(proper, np.arccos(np.clip(cosine, -1.0, 1.0)), 0.0)
