"""Wavefront OBJ: read a mesh with texture coordinates as a template, and write one."""

from pathlib import Path

import numpy as np

from gghead.template.mesh import Template
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.files import write_atomically


def load_obj(path: str | Path) -> Template:
    """Read `v`, `vt` and `f` lines; polygons are split into fans; other lines are ignored.

    OBJ counts v upwards, our textures downwards: the reader flips it. The mesh has no regions and no blendshapes.

    Raises:
        UserError: a missing or unreadable file, a line that is not understood, faces without texture coordinates,
            indices out of range, or texture coordinates outside the unit square.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        reason = error.strerror or "unreadable"
        raise UserError(f"Template '{path}' cannot be read ({reason}); give the path of an OBJ file.") from error
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
            raise UserError(f"Template '{path}' line {number}: {error or 'not understood'}; repair the OBJ.") from error
    if not faces:
        raise UserError(f"Template '{path}' has no faces; give an OBJ with v, vt and f lines.")
    uv = np.array(uvs, dtype=np.float64)
    if uv.min() < -1e-6 or uv.max() > 1 + 1e-6:
        raise UserError(f"Template '{path}' has texture coordinates outside 0..1; pack its UVs into one unit square.")
    return Template(
        name=path.stem,
        vertices=np.array(vertices, dtype=np.float64),
        faces=np.array(faces, dtype=np.int64),
        uvs=np.clip(uv, 0.0, 1.0),
        uv_faces=np.array(uv_faces, dtype=np.int64),
    )


def _corner(word: str, vertex_count: int, uv_count: int) -> tuple[int, int]:
    """`v/vt` or `v/vt/vn` with 1-based or negative (relative to the end) indices, as 0-based (vertex, uv)."""
    parts = word.split("/")
    if len(parts) < 2 or not parts[1]:
        raise ValueError("faces without texture coordinates (vt), export the mesh with UVs")
    return _index(parts[0], vertex_count, "vertex"), _index(parts[1], uv_count, "texture coordinate")


def _index(text: str, count: int, what: str) -> int:
    value = int(text)
    index = value - 1 if value > 0 else count + value
    if value == 0 or not 0 <= index < count:
        raise ValueError(f"{what} index {value} is out of range (there are {count} so far)")
    return index


def save_obj(template: Template, path: str | Path, vertices: np.ndarray | None = None) -> None:
    """Write the mesh with its UVs; `vertices` [V, 3] replaces the template's, for posed or fitted heads.

    Nine significant digits: a float32 mesh survives the round trip exactly. The file appears whole or not at all;
    raises ``UserError`` for vertices of another shape and where it cannot be written.
    """
    points = template.vertices if vertices is None else np.asarray(vertices)
    if points.shape != template.vertices.shape:
        raise UserError(f"Vertices to save must be {list(template.vertices.shape)}, got {list(points.shape)}.")
    lines = [f"# template {template.name}: {len(points)} vertices, {len(template.faces)} triangles"]
    lines += [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in points.tolist()]
    lines += [f"vt {u:.9g} {1.0 - v:.9g}" for u, v in template.uvs.tolist()]
    pairs = np.stack([template.faces, template.uv_faces], axis=-1) + 1
    lines += ["f " + " ".join(f"{v}/{t}" for v, t in face) for face in pairs.tolist()]
    data = ("\n".join(lines) + "\n").encode()
    write_atomically(path, lambda file: file.write(data))
