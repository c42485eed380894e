"""The procedural human head.

A swept grid of rays onto the implicit surface, one rectangular UV chart.

The chart's columns are azimuths (u = 0.5 in front, the seam u = 0 = 1 down the back), its rows are
loops that start at a slit along the midline from the crown to the back of the head (v = 0; u and 1
- u meet there) and sink over face, neck and shoulders (v = 1). A slit instead of a pole gives every
texel of the scalp about the same size.
"""

import functools

import numpy as np

from gghead.template import arkit_shapes
from gghead.template import rig as head_rig
from gghead.template.head_shape import (
    MOUTH_HALF_WIDTH,
    ear_offset,
    ear_plane,
    eye_lines,
    mouth_line,
    smoothstep,
    surface,
)
from gghead.template.mesh import Template, grid_faces, grid_uvs

COLUMNS, ROWS = 80, 68

# v, elevation of the ray in front (degrees), height of the loop on the back of the head, height and
# depth of the rays' common origin on the spine. The loop is the cone between its two ends; above
# the first line it widens from the slit.
LOOPS = np.array(
    [
        (0.120, 35.0, 0.020, 0.120, -0.020),
        (0.230, 14.0, -0.024, 0.110, -0.020),
        (0.380, -3.5, -0.084, 0.095, -0.020),
        (0.520, -16.5, -0.140, 0.075, -0.024),
        (0.660, -24.0, -0.196, 0.020, -0.030),
        (0.790, -30.0, -0.248, -0.050, -0.034),
        (0.835, -40.0, -0.264, -0.080, -0.038),
        (0.875, -45.0, -0.284, -0.140, -0.055),
        (0.935, -36.0, -0.325, -0.280, -0.085),
        (1.000, -8.0, -0.398, -0.440, -0.110),
    ]
)
SLIT_TILT = 30.0  # degrees that the direction of the slit's middle leans back from straight up
# Rows that follow the lids and the lips: v of the row, and the room in v over which their bending
# fades.
UPPER_LID, LOWER_LID, UPPER_LIP, LOWER_LIP = 23 / ROWS, 28 / ROWS, 43 / ROWS, 46 / ROWS
# loops beyond this v are traced from the spine outwards: the shoulders hide the neck from outside
INSIDE_OUT = 0.82
SLIT = 0.5  # half length of the slit, radians seen from the rays' origin


def head() -> Template:
    """Build the template (a fraction of a second)."""
    # [ROWS + 1, COLUMNS // 2 + 1, 3], from the front (u = 0.5) to the seam (u = 1)
    half = _half_vertices()
    mirrored = half[:, :0:-1] * np.array([-1.0, 1.0, 1.0])
    points = np.concatenate([mirrored, half], axis=1)  # [ROWS + 1, COLUMNS + 1, 3]
    index, count = _shared_indices()
    vertices = np.zeros((count, 3))
    vertices[index.ravel()] = points.reshape(-1, 3)
    mirror = np.zeros(count, dtype=np.int64)
    mirror[index.ravel()] = index[:, ::-1].ravel()
    uv_faces = _chart_faces()
    faces = index.ravel()[uv_faces]
    return Template(
        name="head",
        vertices=vertices,
        faces=faces,
        uvs=grid_uvs(COLUMNS, ROWS),
        uv_faces=uv_faces,
        regions={name: np.round(weight, 6) for name, weight in head_rig.regions(vertices).items()},
        blendshapes=arkit_shapes.blendshapes(vertices, mirror),
        landmarks=head_rig.landmarks(vertices),
        mirror_index=mirror,
    )


def _chart_faces() -> np.ndarray:
    """The grid's triangles.

    The two cells at the slit's front end are split along their other diagonal.

    There three corners of the mirrored split would all lie on the midline, a triangle without a
    front.
    """
    faces = grid_faces(COLUMNS, ROWS)
    middle, below = COLUMNS // 2, COLUMNS + 1
    for column, rising in ((middle - 1, True), (middle, False)):
        a, b, c, d = column, column + 1, column + below, column + below + 1
        faces[2 * column : 2 * column + 2] = (
            [(a, c, b), (b, c, d)] if rising else [(a, c, d), (a, d, b)]
        )
    return faces


def _shared_indices() -> tuple[np.ndarray, int]:  # [ROWS + 1, COLUMNS + 1], number of vertices
    """Vertex of every grid point.

    The seam's two columns are one, and the slit's two halves are one.
    """
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
    density = (
        0.7
        + 2.4 / (1.0 + np.exp((angle - 0.66) / 0.11))
        + 1.3 * np.exp(-0.5 * ((angle - 1.70) / 0.20) ** 2)
    )
    share = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return np.interp(np.linspace(0.0, share[-1], COLUMNS // 2 + 1), share, angle)


def _rays(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Origins and directions [ROWS + 1, COLUMNS // 2 + 1, 3] of the rays.

    Their loop positions `rows` have the same shape.
    """
    knots = _loop_knots()
    front, back, height, depth = (_monotone(rows, knots[:, 0], knots[:, k]) for k in range(1, 5))
    cone, tilt = np.radians(front + back) / 2, np.radians(front - back) / 2
    polar = np.pi / 2 - cone
    # Near the slit the columns part evenly along it; cosines of the azimuths would crowd them at
    # its ends.
    along_slit = np.arccos(1.0 - 2.0 * np.linspace(0.0, 1.0, COLUMNS // 2 + 1))
    azimuth = _azimuths() + smoothstep(polar, 1.3, 0.0) * (along_slit - _azimuths())
    # Loops near the slit are ellipses around it that become circles at a right angle from the axis.
    fade = smoothstep(polar, np.pi / 2, 0.0)
    a, b = polar * np.sin(azimuth), np.sqrt(polar**2 + SLIT**2 * fade) * np.cos(azimuth)
    distance = np.hypot(a, b)
    turn = np.arctan2(a, b)
    local = np.stack(
        [np.sin(distance) * np.sin(turn), np.cos(distance), np.sin(distance) * np.cos(turn)], -1
    )
    cos, sin = np.cos(tilt), np.sin(tilt)
    x, y, z = local[..., 0], local[..., 1], local[..., 2]
    directions = np.stack([x, y * cos + z * sin, z * cos - y * sin], -1)
    directions[:, 0, 0] = directions[:, -1, 0] = 0.0  # the midline stays exactly on x = 0
    return np.stack([np.zeros_like(height), height, depth], -1), directions


@functools.cache
def _loop_knots() -> np.ndarray:  # [K, 5]
    """LOOPS on a fine scale.

    Where they meet the back they have the elevation of the ray behind instead of the height.
    """
    rows = np.linspace(LOOPS[0, 0], 1.0, 40)
    front, target, height, depth = (_monotone(rows, LOOPS[:, 0], LOOPS[:, k]) for k in range(1, 5))
    far, near = np.full(len(rows), -0.5), np.full(len(rows), -0.12)
    for _ in range(30):
        middle = (far + near) / 2
        outside = surface(np.stack([0 * middle, target, middle], axis=1)) > 0
        far, near = np.where(outside, middle, far), np.where(outside, near, middle)
    back = np.degrees(np.arctan2(target - height, depth - far))
    slit = [0.0, 90.0 + SLIT_TILT, 90.0 - SLIT_TILT, height[0], depth[0]]
    return np.concatenate([[slit], np.stack([rows, front, back, height, depth], axis=1)])


def _monotone(x: np.ndarray, knots: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Cubic interpolation without overshoot (Fritsch and Butland's slopes)."""
    step, rise = np.diff(knots), np.diff(values)
    slope = rise / step
    # elsewhere the curve turns or rests, and its derivative is zero
    rising = slope[1:] * slope[:-1] > 0
    before, after = np.where(rising, slope[:-1], 1.0), np.where(rising, slope[1:], 1.0)
    weights = (2 * step[1:] + step[:-1]) / before + (step[1:] + 2 * step[:-1]) / after
    inner = np.where(rising, 3 * (step[1:] + step[:-1]) / weights, 0.0)
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
    return np.round(_with_relief(_trace(_bent_rows(), steps=90)), 6)


def _bent_rows() -> np.ndarray:  # [ROWS + 1, COLUMNS // 2 + 1]
    """Loop positions v' of every grid point.

    Rows are straight, but some bend along the lid edges and the lips.
    """
    columns = COLUMNS // 2 + 1
    nominal = np.array([UPPER_LID, LOWER_LID, UPPER_LIP, LOWER_LIP])[:, None]
    low, width, parts = np.repeat(nominal - 0.1, columns, 1), 0.2, 9
    for _ in range(4):  # section search for the loop position at which each column meets each line
        # [parts + 1, 4, columns]
        samples = low + width * (np.arange(parts + 1) / parts)[:, None, None]
        points = _trace(samples.reshape(-1, columns)).reshape(parts + 1, 4, columns, 3)
        lines, share = _row_lines(points)
        below = points[..., 1] <= lines
        below[-1] = True
        low = low + width * np.maximum(below.argmax(0) - 1, 0) / parts
        width /= parts
    bent = nominal + share[0] * (low + width / 2 - nominal)
    fixed = [np.full((1, columns), v) for v in (0.0, 0.22, 0.52, 0.80, 1.0)]
    values = np.concatenate([*fixed[:2], bent[:2], fixed[2], bent[2:], *fixed[3:]])
    knots = np.concatenate(
        [*fixed[:2], nominal[:2] + 0 * bent[:2], fixed[2], nominal[2:] + 0 * bent[2:], *fixed[3:]]
    )
    rows = np.linspace(0.0, 1.0, ROWS + 1)
    return np.stack([_monotone(rows, knots[:, c], values[:, c]) for c in range(columns)], axis=1)


# [S, 4, columns, 3] -> two [S, 4, columns]
def _row_lines(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Heights that the four bent rows aim at for the given x, and how much they bend there."""
    x = points[..., 0]
    front = smoothstep(points[..., 2], 0.02, 0.10)
    s, lower, upper = eye_lines(x)
    lips = mouth_line(x)
    along = x / MOUTH_HALF_WIDTH
    # Room that keeps the rows between the lids, and between the lips, apart at the corners.
    slack = 0.0032 * np.clip(s * s, 0.0, 1.0)
    gap = 0.0006 + 0.0018 * np.sqrt(np.clip(1.2 - along, 0.0, 1.0))
    in_eye = front * smoothstep(np.abs(s), 2.1, 1.0)
    in_mouth = front * smoothstep(along, 2.0, 1.1)
    lines = [(upper + slack)[:, 0], (lower - slack)[:, 1], (lips + gap)[:, 2], (lips - gap)[:, 3]]
    return np.stack(lines, 1), np.stack(
        [in_eye[:, 0], in_eye[:, 1], in_mouth[:, 2], in_mouth[:, 3]], 1
    )


def _trace(rows: np.ndarray, steps: int = 30) -> np.ndarray:  # [R, COLUMNS // 2 + 1] -> [..., 3]
    """Surface point along each ray.

    It is the outermost on the head, the innermost on neck and shoulders.
    """
    origins, directions = (a.reshape(-1, 3) for a in _rays(rows))
    outwards = rows.ravel() > INSIDE_OUT
    radius = np.where(outwards, 0.03, 0.6)
    active = np.arange(len(origins))
    for _ in range(steps):
        distance = surface(origins[active] + radius[active, None] * directions[active])
        radius[active] -= np.where(outwards[active], 0.8, 0.6) * distance
        active = active[np.abs(distance) > 1e-6]
        if not len(active):
            break
    return (origins + radius[:, None] * directions).reshape(*rows.shape, 3)


def _relax(points: np.ndarray, weight: np.ndarray, rounds: int) -> np.ndarray:
    """Move grid points towards the mean of their four neighbors.

    `weight` [ROWS + 1, COLUMNS // 2 + 1] says how far.
    """
    weight = weight[..., None].copy()
    weight[:, [0, -1]] = weight[[0, -1]] = 0.0
    for _ in range(rounds):
        mean = points.copy()
        mean[1:-1, 1:-1] = (
            points[2:, 1:-1] + points[:-2, 1:-1] + points[1:-1, 2:] + points[1:-1, :-2]
        ) / 4
        points = points + weight * (mean - points)
    return points


def _with_relief(points: np.ndarray) -> np.ndarray:
    """Draw out the ears, and even out the grid where the surface is steep.

    That is beside the nose and behind the ears.
    """
    x, y, z = np.moveaxis(points, -1, 0)
    wing = np.exp(
        -(((x - 0.042) / 0.012) ** 2) - ((y + 0.015) / 0.028) ** 2 - ((z - 0.24) / 0.03) ** 2
    )
    points = _relax(points, 0.7 * wing, 3)
    flat = points.reshape(-1, 3)
    _, back, radius = ear_plane(flat)
    shell = (
        np.exp(-(((radius - 1.0) / 0.22) ** 2))
        * smoothstep(back, -0.1, 0.4)
        * smoothstep(flat[:, 0], 0.12, 0.15)
    )
    return _relax((flat + ear_offset(flat)).reshape(points.shape), 0.8 * shell.reshape(x.shape), 4)
