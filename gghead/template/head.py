"""The procedural human head: a swept grid of rays onto the implicit surface, one rectangular UV chart.

The chart's columns are azimuths (u = 0.5 in front, the seam u = 0 = 1 down the back), its rows are loops that start at a
slit along the midline from the crown to the back of the head (v = 0; u and 1 - u meet there) and sink over face, neck
and shoulders (v = 1). A slit instead of a pole gives every texel of the scalp about the same size.
"""

import numpy as np

from gghead.template.head_shape import MOUTH_HALF_WIDTH, eye_lines, mouth_line, smoothstep, surface
from gghead.template.mesh import Template
from gghead.template.primitives import grid_faces, grid_uvs

COLUMNS, ROWS = 80, 68

# v, elevation of the ray in front, elevation of the ray behind (degrees; the loop is the cone between), height and depth
# of the rays' common origin on the spine.
LOOPS = np.array(
    [
        (0.000, 125.0, 55.0, 0.120, -0.020),
        (0.140, 35.0, -30.0, 0.120, -0.020),
        (0.250, 14.0, -36.0, 0.110, -0.020),
        (0.420, -3.5, -37.0, 0.095, -0.020),
        (0.560, -16.5, -34.0, 0.075, -0.024),
        (0.700, -24.0, -29.0, 0.020, -0.030),
        (0.810, -30.0, -25.0, -0.050, -0.034),
        (0.850, -40.0, -22.0, -0.080, -0.038),
        (0.885, -45.0, -18.0, -0.140, -0.055),
        (0.940, -36.0, -8.0, -0.280, -0.085),
        (1.000, -8.0, 16.0, -0.440, -0.110),
    ]
)
# Rows that follow the lids and the lips: v of the row, and the room in v over which their bending fades.
UPPER_LID, LOWER_LID, UPPER_LIP, LOWER_LIP = 26 / ROWS, 31 / ROWS, 46 / ROWS, 49 / ROWS
INSIDE_OUT = 0.83  # loops beyond this v are traced from the spine outwards: the shoulders hide the neck from outside
SLIT = 0.5  # half length of the slit, radians seen from the rays' origin


def head() -> Template:
    """Build the template (a fraction of a second)."""
    half = _half_vertices()  # [ROWS + 1, COLUMNS // 2 + 1, 3], from the front (u = 0.5) to the seam (u = 1)
    mirrored = half[:, :0:-1] * np.array([-1.0, 1.0, 1.0])
    points = np.concatenate([mirrored, half], axis=1)  # [ROWS + 1, COLUMNS + 1, 3]
    index, count = _shared_indices()
    vertices = np.zeros((count, 3))
    vertices[index.ravel()] = points.reshape(-1, 3)
    mirror = np.zeros(count, dtype=np.int64)
    mirror[index.ravel()] = index[:, ::-1].ravel()
    uv_faces = grid_faces(COLUMNS, ROWS)
    return Template(
        name="head",
        vertices=vertices,
        faces=index.ravel()[uv_faces],
        uvs=grid_uvs(COLUMNS, ROWS),
        uv_faces=uv_faces,
        mirror_index=mirror,
    )


def _shared_indices() -> tuple[np.ndarray, int]:  # [ROWS + 1, COLUMNS + 1], number of vertices
    """Vertex of every grid point: the seam's two columns are one, and the slit's two halves are one."""
    index = np.zeros((ROWS + 1, COLUMNS + 1), dtype=np.int64)
    middle = COLUMNS // 2
    index[0, middle:] = np.arange(middle + 1)
    index[0, :middle] = index[0, :middle:-1]
    index[1:, :COLUMNS] = middle + 1 + np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)
    index[1:, COLUMNS] = index[1:, 0]
    return index, middle + 1 + ROWS * COLUMNS


def _azimuths() -> np.ndarray:  # [COLUMNS // 2 + 1] radians from 0 (front) to pi (back)
    """Columns are dense over the face, denser than average at the ears."""
    angle = np.linspace(0.0, np.pi, 721)
    density = 0.6 + 2.4 / (1.0 + np.exp((angle - 0.66) / 0.11)) + 0.9 * np.exp(-0.5 * ((angle - 1.66) / 0.22) ** 2)
    share = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return np.interp(np.linspace(0.0, share[-1], COLUMNS // 2 + 1), share, angle)


def _rays(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Origins and directions [ROWS + 1, COLUMNS // 2 + 1, 3] of the rays at loop positions `rows` of the same shape."""
    front, back, height, depth = (_monotone(rows, LOOPS[:, 0], LOOPS[:, k]) for k in range(1, 5))
    cone, tilt = np.radians(front + back) / 2, np.radians(front - back) / 2
    polar = np.pi / 2 - cone
    azimuth = _azimuths()[None]
    # Loops near the slit are ellipses around it that become circles at a right angle from the axis.
    fade = np.clip(1 - polar / (np.pi / 2), 0, 1) ** 2
    a, b = polar * np.sin(azimuth), np.sqrt(polar**2 + SLIT**2 * fade) * np.cos(azimuth)
    distance = np.hypot(a, b)
    turn = np.arctan2(a, b)
    local = np.stack([np.sin(distance) * np.sin(turn), np.cos(distance), np.sin(distance) * np.cos(turn)], -1)
    cos, sin = np.cos(tilt), np.sin(tilt)
    x, y, z = local[..., 0], local[..., 1], local[..., 2]
    directions = np.stack([x, y * cos + z * sin, z * cos - y * sin], -1)
    directions[:, 0, 0] = directions[:, -1, 0] = 0.0  # the midline stays exactly on x = 0
    return np.stack([np.zeros_like(height), height, depth], -1), directions


def _monotone(x: np.ndarray, knots: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Cubic interpolation without overshoot (Fritsch and Butland's slopes)."""
    step, rise = np.diff(knots), np.diff(values)
    slope = rise / step
    inner = np.where(
        slope[1:] * slope[:-1] > 0,
        3 * (step[1:] + step[:-1])
        / ((2 * step[1:] + step[:-1]) / np.where(slope[:-1] == 0, 1, slope[:-1])
           + (step[1:] + 2 * step[:-1]) / np.where(slope[1:] == 0, 1, slope[1:])),
        0.0,
    )  # fmt: skip
    derivative = np.concatenate([[slope[0]], inner, [slope[-1]]])
    i = np.clip(np.searchsorted(knots, x, side="right") - 1, 0, len(step) - 1)
    h, t = step[i], (x - knots[i]) / step[i]
    return (
        values[i] * (1 + 2 * t) * (1 - t) ** 2
        + derivative[i] * h * t * (1 - t) ** 2
        + values[i + 1] * t * t * (3 - 2 * t)
        + derivative[i + 1] * h * t * t * (t - 1)
    )


def _half_vertices() -> np.ndarray:
    """Surface points of the right half of the chart, [ROWS + 1, COLUMNS // 2 + 1, 3]."""
    return np.round(_relaxed(_trace(_bent_rows())), 6)


def _bent_rows() -> np.ndarray:  # [ROWS + 1, COLUMNS // 2 + 1]
    """Loop positions v' of every grid point: straight rows, but some bent along the lid edges and the lips."""
    columns = COLUMNS // 2 + 1
    nominal = np.array([UPPER_LID, LOWER_LID, UPPER_LIP, LOWER_LIP])[:, None]
    low, high = np.repeat(nominal - 0.1, columns, 1), np.repeat(nominal + 0.1, columns, 1)
    for _ in range(16):  # bisection for the loop position at which each column meets each line
        middle = (low + high) / 2
        points = _trace(middle)
        lines, share = _row_lines(points[..., 0])
        above = points[..., 1] > lines
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    bent = nominal + share * (middle - nominal)
    fixed = [np.full((1, columns), v) for v in (0.0, 0.25, 0.575, 0.82, 1.0)]
    values = np.concatenate([*fixed[:2], bent[:2], fixed[2], bent[2:], *fixed[3:]])
    knots = np.concatenate([*fixed[:2], nominal[:2] + 0 * bent[:2], fixed[2], nominal[2:] + 0 * bent[2:], *fixed[3:]])
    rows = np.linspace(0.0, 1.0, ROWS + 1)
    return np.stack([_monotone(rows, knots[:, c], values[:, c]) for c in range(columns)], axis=1)


def _row_lines(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # [4, columns] -> heights, shares, both [4, columns]
    """Heights that the four bent rows aim at where their points have the given x, and how much they bend there."""
    s, lower, upper = eye_lines(x)
    lips = mouth_line(x)
    along = x / MOUTH_HALF_WIDTH
    # Room that keeps the rows between the lids, and between the lips, apart at the corners.
    slack = 0.0032 * np.clip(s * s, 0.0, 1.0)
    gap = 0.0006 + 0.0018 * np.sqrt(np.clip(1.2 - along, 0.0, 1.0))
    in_eye = 1.0 - smoothstep(np.abs(s), 1.0, 2.1)
    in_mouth = 1.0 - smoothstep(along, 1.1, 2.0)
    lines = np.stack([(upper + slack)[0], (lower - slack)[1], (lips + gap)[2], (lips - gap)[3]])
    return lines, np.stack([in_eye[0], in_eye[1], in_mouth[2], in_mouth[3]])


def _trace(rows: np.ndarray) -> np.ndarray:  # [R, COLUMNS // 2 + 1] -> [R, COLUMNS // 2 + 1, 3]
    """Surface point along each ray: the outermost on the head, the innermost on neck and shoulders."""
    origins, directions = (a.reshape(-1, 3) for a in _rays(rows))
    outwards = rows.ravel() > INSIDE_OUT
    radius = np.where(outwards, 0.03, 0.6)
    active = np.arange(len(origins))
    for _ in range(120):
        distance = surface(origins[active] + radius[active, None] * directions[active])
        radius[active] -= np.where(outwards[active], 0.8, 0.6) * distance
        active = active[np.abs(distance) > 1e-6]
        if not len(active):
            break
    return (origins + radius[:, None] * directions).reshape(*rows.shape, 3)


def _relaxed(points: np.ndarray) -> np.ndarray:
    """Even out the grid where the surface is steep along the rays: ears and sides of the nose."""
    x, y, z = np.moveaxis(points, -1, 0)
    ear = np.exp(-(((x - 0.23) / 0.05) ** 2) - ((y - 0.04) / 0.09) ** 2 - ((z + 0.03) / 0.07) ** 2)
    wing = np.exp(-(((x - 0.042) / 0.012) ** 2) - ((y + 0.015) / 0.028) ** 2 - ((z - 0.24) / 0.03) ** 2)
    weight = np.clip(1.6 * ear + 0.7 * wing, 0.0, 0.85)[..., None]
    weight[:, [0, -1]] = weight[[0, -1]] = 0.0
    for _ in range(3):
        mean = points.copy()
        mean[1:-1, 1:-1] = (points[2:, 1:-1] + points[:-2, 1:-1] + points[1:-1, 2:] + points[1:-1, :-2]) / 4
        points = points + weight * (mean - points)
    return points
