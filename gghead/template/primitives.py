"""Templates for objects that are not heads: a sphere and a plane."""

import numpy as np

from gghead.template.mesh import Template


def grid_faces(columns: int, rows: int) -> np.ndarray:  # [2 * columns * rows, 3]
    """Triangles of a grid of (columns + 1) x (rows + 1) points stored row by row.

    Seen with the row index growing downwards they wind counter-clockwise. Diagonals mirror at the middle column, so a
    grid with an even number of columns is symmetric as a triangulation too.
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
    """A square in z = 0 that faces +z; u runs along +x and v along -y, as in a picture of it."""
    uvs = grid_uvs(cells, cells)
    xy = (uvs - 0.5) * 2.0 * half_width
    vertices = np.stack([xy[:, 0], -xy[:, 1], np.zeros(len(xy))], axis=1)
    faces = grid_faces(cells, cells)
    return Template("plane", vertices, faces, uvs, faces.copy())


def sphere(radius: float = 0.3, columns: int = 64, rows: int = 48) -> Template:
    """A sphere around the origin: u is the azimuth with 0.5 at +z and the seam at -z, v runs from the top pole down.

    Each pole is one vertex; the grid's triangles that would be degenerate there stay in the UV layout, so the unit
    square is covered without holes.
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
