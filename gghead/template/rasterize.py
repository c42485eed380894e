"""A numpy triangle rasterizer with exact coverage, for UV baking and for perspective images.

Coverage is decided in integers (coordinates snapped to at most 1/65536 pixel) with the top-left
rule, so two triangles that share an edge never leave a pixel between them and never both claim one.
Depth is resolved per pixel by the smallest value, ties by the smallest face index: the result does
not depend on the order of the work.
"""

from typing import NamedTuple

import numpy as np

SUBPIXEL_BITS = 16
_PART = 1 << 13  # pixels whose weights are computed together, so that they stay in the cache


def rasterize_triangles(
    xy: np.ndarray,  # [V, 2]
    depth: np.ndarray | None,  # [V]
    faces: np.ndarray,  # [F, 3]
    width: int,
    height: int,
    *,
    perspective: bool = False,
    cull: str | None = None,
) -> tuple[np.ndarray, np.ndarray]:  # face_index [H, W] int32 (-1: none), bary [H, W, 3] float64
    """Return which triangle covers each pixel center, and the barycentric weights there.

    Both are images; the weights are those of the triangle's three corners. The arguments are those
    of `rasterize_samples`.
    """
    samples = rasterize_samples(xy, depth, faces, width, height, perspective=perspective, cull=cull)
    face_index = np.full(height * width, -1, dtype=np.int32)
    bary = np.zeros((height * width, 3))
    face_index[samples.pixel] = samples.face
    bary[samples.pixel] = samples.weights
    return face_index.reshape(height, width), bary.reshape(height, width, 3)


class Samples(NamedTuple):
    """The P covered pixels."""

    pixel: np.ndarray  # [P] int64, row * width + column, ascending
    face: np.ndarray  # [P] int64, the triangle that is seen
    weights: np.ndarray  # [P, 3] float64, barycentric
    depth: np.ndarray  # [P] float64; zero where no depth was given


def rasterize_samples(
    # [V, 2] pixel coordinates, pixel (row i, column j) has its center at (j + 0.5, i + 0.5)
    xy: np.ndarray,
    # [V] distance along the view axis, smaller is nearer; None: the lowest face wins
    depth: np.ndarray | None,
    faces: np.ndarray,  # [F, 3] vertex indices, either winding
    width: int,
    height: int,
    *,
    perspective: bool = False,
    cull: str | None = None,
    limit: np.ndarray | None = None,
) -> Samples:
    """Return the covered pixels, each with its triangle, depth and barycentric weights.

    The triangle is the one that is seen there; the weights are those of its three corners.

    Args:
        perspective: `depth` is camera depth (> 0) and the weights are corrected for perspective, so
            they interpolate quantities that are linear on the triangle in space. Faces with a
            corner at depth <= 0 are left out (no near-plane clipping).
        cull: "back" leaves out triangles that wind clockwise on the screen (y down), "front" the
            others.
        limit: [H * W] depth of what is drawn already; only what lies in front of it is returned.

    Raises:
        ValueError: inputs of wrong shape or with non-finite coordinates.
    """
    xy = np.asarray(xy, dtype=np.float64)
    faces = np.asarray(faces, dtype=np.int64).reshape(-1, 3)
    if xy.ndim != 2 or xy.shape[1] != 2:
        raise ValueError(f"xy must have the shape [V, 2], got {list(xy.shape)}.")
    if depth is not None:
        depth = np.asarray(depth, dtype=np.float64)
        if depth.shape != xy.shape[:1]:
            raise ValueError(f"depth must have the shape [{xy.shape[0]}], got {list(depth.shape)}.")
    if depth is None and (perspective or limit is not None):
        option = "perspective=True" if perspective else "limit"
        raise ValueError(f"{option} needs a depth for every vertex.")
    if limit is not None and limit.shape != (height * width,):
        raise ValueError(f"limit must have the shape [{height * width}], got {list(limit.shape)}.")
    if cull not in (None, "back", "front"):
        raise ValueError(f"cull must be None, 'back' or 'front', got {cull!r}.")
    corners = np.ascontiguousarray(faces.T)
    x, y = (np.ascontiguousarray(column).take(corners) for column in xy.T)  # [3, F] each
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("xy has non-finite coordinates.")

    z = None if depth is None else depth.take(corners)
    kept, snapped, bits = _set_up(x, y, z if perspective else None, width, height, cull)
    x, y, z = x[:, kept], y[:, kept], None if z is None else z[:, kept]
    line, start, length = _spans(*snapped, bits, width, height)
    total = np.cumsum(length)
    pixel = np.arange(total[-1] if len(total) else 0) + np.repeat(start - (total - length), length)
    triangle = np.repeat(line, length)
    nearest = None
    if z is not None:
        near = _nearness(x, y, 1.0 / z if perspective else -z, line, start, length, width)
        nearest = np.full(height * width, -np.inf)
        if limit is not None:
            nearest = 1.0 / limit if perspective else -limit
            front = near > nearest[pixel]
            pixel, triangle, near = pixel[front], triangle[front], near[front]
        np.maximum.at(nearest, pixel, near)
        front = near == nearest[pixel]
        pixel, triangle = pixel[front], triangle[front]
    # Triangles come in ascending order, and the last of repeated assignments stays: the lowest.
    chosen = np.full(height * width, -1)
    chosen[pixel[::-1]] = triangle[::-1]
    pixel = np.nonzero(chosen >= 0)[0]
    triangle = chosen[pixel]
    weights = np.empty((len(pixel), 3))
    for begin in range(0, len(pixel), _PART):
        part = slice(begin, begin + _PART)
        there = triangle[part]
        row = pixel[part] // width
        column = pixel[part] - row * width
        share = _weights(x[:, there], y[:, there], column + 0.5, row + 0.5)
        if perspective and z is not None:
            share /= z[:, there]
            share *= 1.0 / (share[0] + share[1] + share[2])
        weights[part] = share.T
    there = np.zeros(len(pixel))
    if nearest is not None:
        there = 1.0 / nearest[pixel] if perspective else -nearest[pixel]
    return Samples(pixel, kept[triangle], weights, there)


def _set_up(
    x: np.ndarray,  # [3, F]
    y: np.ndarray,  # [3, F]
    view_depth: np.ndarray | None,  # [3, F]
    width: int,
    height: int,
    cull: str | None,
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray], int]:
    """Drop what cannot cover a pixel, snap the rest ([3, T] each), and turn it to positive area."""
    reach = max(float(width), float(height), 1.0)
    if x.size:
        reach = max(reach, *(float(np.abs(values).max()) for values in (x, y)))
    # Edge functions are sums of two products of coordinate differences; 29 bits per coordinate keep
    # them inside int64.
    bits = min(SUBPIXEL_BITS, 29 - int(np.ceil(np.log2(reach))))
    keep = (np.maximum(np.maximum(x[0], x[1]), x[2]) > 0) & (
        np.maximum(np.maximum(y[0], y[1]), y[2]) > 0
    )
    keep &= np.minimum(np.minimum(x[0], x[1]), x[2]) < width
    keep &= np.minimum(np.minimum(y[0], y[1]), y[2]) < height
    if view_depth is not None:
        keep &= (view_depth[0] > 0) & (view_depth[1] > 0) & (view_depth[2] > 0)
    kept = np.nonzero(keep)[0]
    # A power-of-two scale is exact, and a negative number of bits (enormous coordinates) still
    # orders edges alike.
    sx, sy = (np.rint(values[:, kept] * 2.0**bits).astype(np.int64) for values in (x, y))
    area = (sx[1] - sx[0]) * (sy[2] - sy[0]) - (sy[1] - sy[0]) * (sx[2] - sx[0])
    proper = {None: area != 0, "back": area < 0, "front": area > 0}[cull]
    kept, sx, sy = kept[proper], sx[:, proper], sy[:, proper]
    turned = area[proper] < 0
    for values in (sx, sy):
        values[1:, turned] = values[2:0:-1, turned]
    return kept, (sx, sy), bits


def _spans(
    x: np.ndarray,  # [3, T] snapped
    y: np.ndarray,  # [3, T] snapped
    bits: int,
    width: int,
    height: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the runs of covered pixels, one a line of a triangle.

    Triangle, first pixel and length, [R] each.
    """
    one = 2.0**bits

    def bounds(values: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        low = np.minimum(np.minimum(values[0], values[1]), values[2])
        high = np.maximum(np.maximum(values[0], values[1]), values[2])
        first = np.clip(np.ceil(low / one - 0.5), 0, size).astype(np.int64)
        last = np.clip(np.floor(high / one - 0.5), -1, size - 1).astype(np.int64)
        return first, np.maximum(last - first + 1, 0)

    (x0, wide), (y0, tall) = bounds(x, width), bounds(y, height)
    tall = np.where(wide > 0, tall, 0)
    line = np.repeat(np.arange(len(tall)), tall)
    down = np.arange(len(line)) - np.repeat(np.cumsum(tall) - tall, tall)
    first, last = np.zeros(len(line), np.int64), wide[line] - 1
    # Each edge function is linear: its value at the box's first pixel center and its steps per
    # pixel and per line. It is positive inside.
    first_x, first_y = (np.rint((corner + 0.5) * one).astype(np.int64) for corner in (x0, y0))
    pixel = int(one) if bits >= 0 else one
    for i, j in ((1, 2), (2, 0), (0, 1)):
        edge_x, edge_y = x[j] - x[i], y[j] - y[i]
        # With y down and positive area the interior lies to the right of each edge: top edges run
        # in +x, left ones in -y.
        top_left = ((edge_y == 0) & (edge_x > 0)) | (edge_y < 0)
        value = edge_x * (first_y - y[i]) - edge_y * (first_x - x[i]) + top_left
        value = value[line] + (edge_x * pixel)[line] * down
        slope = (-edge_y * pixel)[line]
        rising, falling = slope > 0, slope < 0
        # the last pixel outside on the left, or the last one inside on the right
        turn = np.where(rising, -value, value - 1) // np.where(slope == 0, 1, np.abs(slope))
        first = np.where(rising, np.maximum(first, turn + 1), first)
        last = np.where(falling, np.minimum(last, turn), last)
        last = np.where(rising | falling | (value > 0), last, -1)
    length = np.maximum(last - first + 1, 0).astype(np.int64)
    full = np.nonzero(length)[0]
    line, down, first = line[full], down[full], first[full].astype(np.int64)
    return line, (y0[line] + down) * width + x0[line] + first, length[full]


def _nearness(
    x: np.ndarray,  # [3, T]
    y: np.ndarray,  # [3, T]
    near: np.ndarray,  # [3, T], linear on the screen, larger is nearer
    line: np.ndarray,  # [R] triangles
    start: np.ndarray,  # [R] first pixels
    length: np.ndarray,  # [R]
    width: int,
) -> np.ndarray:  # [P]
    """Return the value at every covered pixel; never beyond those of the triangle's corners."""
    ux, uy, un = (values[1] - values[0] for values in (x, y, near))
    vx, vy, vn = (values[2] - values[0] for values in (x, y, near))
    area = ux * vy - uy * vx
    proper = area != 0
    area = np.where(proper, area, 1.0)
    per_x = np.where(proper, (un * vy - vn * uy) / area, 0.0)
    per_y = np.where(proper, (ux * vn - vx * un) / area, 0.0)
    low = np.minimum(np.minimum(near[0], near[1]), near[2])[line]
    high = np.maximum(np.maximum(near[0], near[1]), near[2])[line]
    offset = near[0] - per_x * (x[0] - 0.5) - per_y * (y[0] - 0.5)
    row = start // width
    begin = offset[line] + per_x[line] * (start - row * width) + per_y[line] * row
    end = np.clip(begin + per_x[line] * (length - 1), low, high)
    begin = np.clip(begin, low, high)
    step = (end - begin) / np.maximum(length - 1, 1)
    before = np.cumsum(length) - length
    along = np.arange(length.sum())
    return np.repeat(begin - step * before, length) + np.repeat(step, length) * along


def _weights(x: np.ndarray, y: np.ndarray, at_x: np.ndarray, at_y: np.ndarray) -> np.ndarray:
    """Barycentric weights [3, P] from the unsnapped corners [3, P].

    They are clipped to the triangle, because snapping moves edges.
    """
    x, y = x - at_x, y - at_y
    weights = np.stack(
        [
            x[1] * y[2] - y[1] * x[2],
            x[2] * y[0] - y[2] * x[0],
            x[0] * y[1] - y[0] * x[1],
        ]
    )
    area = weights[0] + weights[1] + weights[2]
    # A sliver whose float area vanishes although its snapped area does not: any point of it is as
    # good as another.
    weights = np.where(area == 0, 1.0, weights) / np.where(area == 0, 3.0, area)
    weights = np.maximum(weights, 0.0)
    return weights / (weights[0] + weights[1] + weights[2])
