"""Triangle meshes with UVs: primitives, and Wavefront OBJ files read and written."""

import functools
import hashlib
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np

from gghead.torch_utils.errors import UserError
from gghead.torch_utils.files import write_atomically


@dataclass(frozen=True, eq=False)
class Template:
    """A triangle mesh with one UV layout.

    Arrays are numpy and must not be written to (they are shared).

    UV convention: (u, v) in [0, 1], u to the right and v down the texture, so that texel (row i,
    column j) of an R x R map lies at ((j + 0.5) / R, (i + 0.5) / R). Faces wind counter-clockwise
    seen from outside.
    """

    name: str
    vertices: np.ndarray  # [V, 3] float64, world units
    faces: np.ndarray  # [F, 3] int64
    uvs: np.ndarray  # [T, 2] float64
    uv_faces: np.ndarray  # [F, 3] int64 into uvs
    # name -> [V] float64 weights in [0, 1]
    regions: dict[str, np.ndarray] = field(default_factory=dict)
    # ARKit name -> [V, 3] offsets, world units
    blendshapes: dict[str, np.ndarray] = field(default_factory=dict)
    # name -> [3] world position on or in the head
    landmarks: dict[str, np.ndarray] = field(default_factory=dict)
    # [V] int64, vertex at (-x, y, z), or None for unknown symmetry
    mirror_index: np.ndarray | None = None

    def __post_init__(self) -> None:
        count = len(self.vertices)
        if self.vertices.shape != (count, 3) or self.uvs.ndim != 2 or self.uvs.shape[1] != 2:
            raise UserError(f"Template '{self.name}': vertices must be [V, 3] and uvs [T, 2].")
        if (
            self.faces.shape != self.uv_faces.shape
            or self.faces.ndim != 2
            or self.faces.shape[1] != 3
        ):
            raise UserError(f"Template '{self.name}': faces and uv_faces must both be [F, 3].")
        for faces, limit in ((self.faces, count), (self.uv_faces, len(self.uvs))):
            if len(faces) == 0 or faces.min() < 0 or faces.max() >= limit:
                raise UserError(
                    f"Template '{self.name}': a face index is outside 0..{limit - 1} or there is no"
                    " face."
                )
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

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Template) and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    @functools.cached_property
    def vertex_normals(self) -> np.ndarray:  # [V, 3]
        """Unit outward normals, averaged over a vertex's faces with their angle as weight."""
        return vertex_normals(self.vertices, self.faces)

    def pose(self, coefficients: dict[str, float]) -> np.ndarray:  # [V, 3]
        """Vertices with blendshapes added: `vertices + sum_k coefficient_k * blendshapes[k]`.

        Raises:
            UserError: an unknown blendshape name.
        """
        vertices = self.vertices.copy()
        for name, value in coefficients.items():
            if name not in self.blendshapes:
                known = ", ".join(sorted(self.blendshapes)) or "none"
                raise UserError(
                    f"Template '{self.name}' has no blendshape '{name}'; it has: {known}."
                )
            vertices += float(value) * self.blendshapes[name]
        return vertices


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit vertex normals [V, 3] of a mesh; (0, 0, 1) for a vertex without a proper face.

    Face normals are weighted with the face's angle at the vertex (Thuermer and Wuethrich, 1998), so
    the result does not depend on how the quads of a grid were split into triangles.
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
    """Interior angle of every triangle at each of its corners, radians.

    0 where an edge has no length.
    """
    edges = np.roll(corners, -1, axis=1) - corners
    edges = edges / np.maximum(np.linalg.norm(edges, axis=2, keepdims=True), 1e-30)
    cosine = -(edges * np.roll(edges, 1, axis=1)).sum(2)
    proper = (np.abs(edges).sum(2) > 0) & (np.abs(np.roll(edges, 1, axis=1)).sum(2) > 0)
    return np.where(proper, np.arccos(np.clip(cosine, -1.0, 1.0)), 0.0)


def grid_faces(columns: int, rows: int) -> np.ndarray:  # [2 * columns * rows, 3]
    """Triangles of a grid of (columns + 1) x (rows + 1) points stored row by row.

    Seen with the row index growing downwards they wind counter-clockwise. Diagonals mirror at the
    middle column, so a grid with an even number of columns is symmetric as a triangulation too.
    """
    j, i = np.meshgrid(np.arange(columns), np.arange(rows))
    a = (i * (columns + 1) + j).ravel()  # top left
    b, c, d = a + 1, a + columns + 1, a + columns + 2  # top right, bottom left, bottom right
    left = (j < columns / 2).ravel()[:, None]
    falling = np.stack([np.stack([a, c, d], 1), np.stack([a, d, b], 1)], 1)
    rising = np.stack([np.stack([a, c, b], 1), np.stack([b, c, d], 1)], 1)
    return np.where(left[:, None], falling, rising).reshape(-1, 3)


def grid_uvs(columns: int, rows: int) -> np.ndarray:  # [(rows + 1) * (columns + 1), 2]
    """UV coordinates of the same grid, filling the unit square."""
    v, u = np.meshgrid(np.arange(rows + 1) / rows, np.arange(columns + 1) / columns, indexing="ij")
    return np.stack([u.ravel(), v.ravel()], axis=1)


def plane(half_width: float = 0.35, cells: int = 16) -> Template:
    """A square in z = 0 that faces +z; u runs along +x and v along -y, as in an image of it."""
    uvs = grid_uvs(cells, cells)
    xy = (uvs - 0.5) * 2.0 * half_width
    vertices = np.stack([xy[:, 0], -xy[:, 1], np.zeros(len(xy))], axis=1)
    faces = grid_faces(cells, cells)
    return Template("plane", vertices, faces, uvs, faces.copy())


def sphere(radius: float = 0.3, columns: int = 64, rows: int = 48) -> Template:
    """Make a sphere around the origin.

    u is the azimuth with 0.5 at +z and the seam at -z, v runs from the top pole down.

    Each pole is one vertex; the grid's triangles that would be degenerate there stay in the UV
    layout, so the unit square is covered without holes.
    """
    uvs = grid_uvs(columns, rows)
    azimuth, polar = (uvs[:, 0] - 0.5) * 2 * np.pi, uvs[:, 1] * np.pi
    points = radius * np.stack(
        [np.sin(azimuth) * np.sin(polar), np.cos(polar), np.cos(azimuth) * np.sin(polar)], axis=1
    )
    points = points.reshape(rows + 1, columns + 1, 3)
    points[0], points[-1] = [0.0, radius, 0.0], [0.0, -radius, 0.0]
    index = np.zeros((rows + 1, columns + 1), dtype=np.int64)
    index[1:-1, :-1] = 1 + np.arange((rows - 1) * columns).reshape(rows - 1, columns)
    index[1:-1, -1] = index[1:-1, 0]
    index[-1] = 1 + (rows - 1) * columns
    vertices = np.concatenate([points[:1, 0], points[1:-1, :-1].reshape(-1, 3), points[-1:, 0]])
    uv_faces = grid_faces(columns, rows)
    return Template("sphere", vertices, index.ravel()[uv_faces], uvs, uv_faces)


def load_obj(path: str | Path) -> Template:
    """Read `v`, `vt` and `f` lines; polygons are split into fans; other lines are ignored.

    OBJ counts v upwards, our textures downwards: the reader flips it. The mesh has no regions and
    no blendshapes.

    Raises:
        UserError: a missing or unreadable file, a line that is not understood, faces without
            texture coordinates, indices out of range, or texture coordinates outside the unit
            square.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        reason = error.strerror or "unreadable"
        raise UserError(
            f"Template '{path}' cannot be read ({reason}); give the path of an OBJ file."
        ) from error
    vertices, uvs, faces, uv_faces = [], [], [], []
    for number, line in enumerate(lines, 1):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        try:
            if words[0] == "v":
                vertices.append([float(word) for word in words[1:4]])
                if len(vertices[-1]) != 3:
                    raise ValueError("a vertex needs three numbers")
            elif words[0] == "vt":
                uvs.append([float(words[1]), 1.0 - float(words[2] if len(words) > 2 else 0.0)])
            elif words[0] == "f":
                corners = [_corner(word, len(vertices), len(uvs)) for word in words[1:]]
                if len(corners) < 3:
                    raise ValueError("a face needs three corners")
                for k in range(1, len(corners) - 1):
                    triangle = (corners[0], corners[k], corners[k + 1])
                    faces.append([corner[0] for corner in triangle])
                    uv_faces.append([corner[1] for corner in triangle])
        except (ValueError, IndexError) as error:
            raise UserError(
                f"Template '{path}' line {number}: {error or 'not understood'}; repair the OBJ."
            ) from error
    if not faces:
        raise UserError(f"Template '{path}' has no faces; give an OBJ with v, vt and f lines.")
    uv = np.array(uvs, dtype=np.float64)
    if uv.min() < -1e-6 or uv.max() > 1 + 1e-6:
        raise UserError(
            f"Template '{path}' has texture coordinates outside 0..1; pack its UVs into one unit"
            " square."
        )
    return Template(
        name=path.stem,
        vertices=np.array(vertices, dtype=np.float64),
        faces=np.array(faces, dtype=np.int64),
        uvs=np.clip(uv, 0.0, 1.0),
        uv_faces=np.array(uv_faces, dtype=np.int64),
    )


def _corner(word: str, vertex_count: int, uv_count: int) -> tuple[int, int]:
    """`v/vt` or `v/vt/vn` as 0-based (vertex, uv).

    Indices are 1-based, or negative: relative to the end.
    """
    parts = word.split("/")
    if len(parts) < 2 or not parts[1]:
        raise ValueError("faces without texture coordinates (vt), export the mesh with UVs")
    return _index(parts[0], vertex_count, "vertex"), _index(
        parts[1], uv_count, "texture coordinate"
    )


def _index(text: str, count: int, what: str) -> int:
    value = int(text)
    index = value - 1 if value > 0 else count + value
    if value == 0 or not 0 <= index < count:
        raise ValueError(f"{what} index {value} is out of range (there are {count} so far)")
    return index


def save_obj(template: Template, path: str | Path, vertices: np.ndarray | None = None) -> None:
    """Write the mesh with its UVs.

    `vertices` [V, 3] replaces the template's, for posed or fitted heads.

    Nine significant digits: a float32 mesh survives the round trip exactly. The file appears whole
    or not at all. Raises ``ValueError`` for vertices of another shape, ``UserError`` where it
    cannot be written.
    """
    points = template.vertices if vertices is None else np.asarray(vertices)
    if points.shape != template.vertices.shape:
        raise ValueError(
            f"Vertices to save must be {list(template.vertices.shape)}, got {list(points.shape)}."
        )
    lines = [f"# template {template.name}: {len(points)} vertices, {len(template.faces)} triangles"]
    lines += [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in points.tolist()]
    lines += [f"vt {u:.9g} {1.0 - v:.9g}" for u, v in template.uvs.tolist()]
    pairs = np.stack([template.faces, template.uv_faces], axis=-1) + 1
    lines += ["f " + " ".join(f"{v}/{t}" for v, t in face) for face in pairs.tolist()]
    data = ("\n".join(lines) + "\n").encode()
    write_atomically(path, lambda file: file.write(data))
