"""A numpy triangle rasteriser with exact coverage, for UV baking and for perspective pictures.

Coverage is decided in integers (coordinates snapped to at most 1/65536 pixel) with the top-left
rule, so two triangles that share an edge never leave a pixel between them and never both claim one.
Depth is resolved per pixel by the smallest value, ties by the smallest face index: the result does
not depend on the order of the work.
"""

from collections.abc import Iterator

import numpy as np

SUBPIXEL_BITS = 16
_CHUNK = 1 << 21  # candidate pixels held at once, bounds the memory of very large triangles


def rasterize_triangles(
    # [V, 2] pixel coordinates, pixel (row i, column j) has its centre at (j + 0.5, i + 0.5)
    xy: np.ndarray,
    # [V] distance along the view axis, smaller is nearer; None: the lowest face wins
    depth: np.ndarray | None,
    faces: np.ndarray,  # [F, 3] vertex indices, either winding
    width: int,
    height: int,
    *,
    perspective: bool = False,
    cull: str | None = None,
) -> tuple[np.ndarray, np.ndarray]:  # face_index [H, W] int32 (-1: none), bary [H, W, 3] float64
    """Which triangle covers each pixel center, and the barycentric weights there.

    Args:
        perspective: `depth` is camera depth (> 0) and the weights are corrected for perspective, so
            they interpolate quantities that are linear on the triangle in space. Faces with a
            corner at depth <= 0 are left out (no near-plane clipping).
        cull: "back" leaves out triangles that wind clockwise on the screen (y down), "front" the
            others.

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
    if perspective and depth is None:
        raise ValueError("perspective=True needs a depth for every vertex.")
    if cull not in (None, "back", "front"):
        raise ValueError(f"cull must be None, 'back' or 'front', got {cull!r}.")
    if len(faces) and not np.isfinite(xy[faces]).all():
        raise ValueError("xy has non-finite coordinates.")

    face_index = np.full(height * width, -1, dtype=np.int32)
    bary = np.zeros((height * width, 3))
    kept, corners, snapped, bits = _set_up(
        xy, depth if perspective else None, faces, width, height, cull
    )
    if len(kept):
        pixel, face, weights = _covered(kept, corners, snapped, bits, width, height)
        if depth is not None:
            z = depth[faces[face]]  # [P, 3]
            if perspective:
                weights = weights / z
                total = weights.sum(1)
                pixel_depth = 1.0 / total
                weights = weights * pixel_depth[:, None]
            else:
                pixel_depth = (weights * z).sum(1)
            nearest = np.full(height * width, np.inf)
            np.minimum.at(nearest, pixel, pixel_depth)
            front = pixel_depth == nearest[pixel]
            pixel, face, weights = pixel[front], face[front], weights[front]
        first = np.full(height * width, len(faces), dtype=np.int64)
        np.minimum.at(first, pixel, face)
        chosen = face == first[pixel]
        face_index[pixel[chosen]] = face[chosen]
        bary[pixel[chosen]] = weights[chosen]
    return face_index.reshape(height, width), bary.reshape(height, width, 3)


def _set_up(
    xy: np.ndarray,  # [V, 2]
    view_depth: np.ndarray | None,  # [V]
    faces: np.ndarray,  # [F, 3]
    width: int,
    height: int,
    cull: str | None,
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray], int]:
    """Drop what cannot cover a pixel, snap the rest.

    All kept triangles are turned to positive area.
    """
    reach = max(
        float(width), float(height), float(np.abs(xy[faces]).max()) if len(faces) else 1.0, 1.0
    )
    # Edge functions are sums of two products of coordinate differences; 29 bits per coordinate keep
    # them inside int64.
    bits = min(SUBPIXEL_BITS, 29 - int(np.ceil(np.log2(reach))))
    keep = np.ones(len(faces), dtype=bool)
    if view_depth is not None:
        keep &= (view_depth[faces] > 0).all(1)
    corners = xy[faces]  # [F, 3, 2]
    # A power-of-two scale is exact, and a negative number of bits (enormous coordinates) still
    # orders edges alike.
    snapped = np.rint(corners * 2.0**bits).astype(np.int64)
    ab, ac = snapped[:, 1] - snapped[:, 0], snapped[:, 2] - snapped[:, 0]
    area = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
    keep &= area != 0
    if cull == "back":
        keep &= area < 0
    elif cull == "front":
        keep &= area > 0
    low, high = corners.min(1), corners.max(1)
    keep &= (high[:, 0] > 0) & (high[:, 1] > 0) & (low[:, 0] < width) & (low[:, 1] < height)
    kept = np.nonzero(keep)[0]
    flip = area[kept] < 0
    return kept, corners[kept], (snapped[kept], flip), bits


def _covered(
    kept: np.ndarray,  # [T]
    corners: np.ndarray,  # [T, 3, 2]
    snapped_and_flip: tuple[np.ndarray, np.ndarray],  # [T, 3, 2], [T]
    bits: int,
    width: int,
    height: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All (pixel, face, weights) with the pixel center inside the triangle.

    [P], [P] and [P, 3]; the weights are those on the screen.
    """
    snapped, flip = snapped_and_flip
    one = 2.0**bits
    low, high = snapped.min(1), snapped.max(1)
    x0 = np.clip(np.ceil(low[:, 0] / one - 0.5), 0, width).astype(np.int64)
    x1 = np.clip(np.floor(high[:, 0] / one - 0.5), -1, width - 1).astype(np.int64)
    y0 = np.clip(np.ceil(low[:, 1] / one - 0.5), 0, height).astype(np.int64)
    y1 = np.clip(np.floor(high[:, 1] / one - 0.5), -1, height - 1).astype(np.int64)
    wide = np.maximum(x1 - x0 + 1, 0)
    counts = wide * np.maximum(y1 - y0 + 1, 0)
    # Edge i runs from corner i+1 to corner i+2 of the positively oriented triangle; reversing the
    # two ends of every edge flips the sign of all three functions, which is the same as turning the
    # triangle round.
    start, end = snapped[:, [1, 2, 0]], snapped[:, [2, 0, 1]]
    edge = end - start
    edge = np.where(flip[:, None, None], -edge, edge)  # [T, 3, 2]
    # With y down and positive area the interior lies to the right of each edge: top edges run in
    # +x, left ones in -y.
    top_left = ((edge[..., 1] == 0) & (edge[..., 0] > 0)) | (edge[..., 1] < 0)
    # Each edge function is linear: its value at the box's first pixel centre and its steps per
    # pixel and per line.
    step = int(one) if bits >= 0 else one
    first_x, first_y = (
        np.rint((corner + 0.5) * one).astype(np.int64)[:, None] for corner in (x0, y0)
    )
    value0 = (
        edge[..., 0] * (first_y - start[..., 1])
        - edge[..., 1] * (first_x - start[..., 0])
        + top_left
    )
    step_x, step_y = -edge[..., 1] * step, edge[..., 0] * step
    # [T, 11]
    lines = np.concatenate([value0, step_x, step_y, np.stack([wide, y0 * width + x0], 1)], axis=1)
    pixels, owners = [], []
    for begin, stop in _chunks(counts):
        count = counts[begin:stop]
        triangle = np.repeat(np.arange(begin, stop), count)
        offset = np.arange(len(triangle)) - np.repeat(np.cumsum(count) - count, count)
        line = lines[triangle]
        down = offset // line[:, 9]
        across = offset - down * line[:, 9]
        inside = line[:, 0] + line[:, 3] * across + line[:, 6] * down > 0
        inside &= line[:, 1] + line[:, 4] * across + line[:, 7] * down > 0
        inside &= line[:, 2] + line[:, 5] * across + line[:, 8] * down > 0
        pixels.append((line[:, 10] + down * width + across)[inside])
        owners.append(triangle[inside])
    pixel, triangle = np.concatenate(pixels), np.concatenate(owners)
    return (
        pixel,
        kept[triangle],
        _weights(corners[triangle], pixel % width + 0.5, pixel // width + 0.5),
    )


def _chunks(counts: np.ndarray) -> Iterator[tuple[int, int]]:
    """Ranges of triangles whose candidate pixels together stay near the chunk size."""
    total = np.cumsum(counts)
    begin = 0
    while begin < len(counts):
        done = total[begin - 1] if begin else 0
        stop = max(int(np.searchsorted(total, done + _CHUNK, side="right")), begin + 1)
        yield begin, stop
        begin = stop


def _weights(corners: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Barycentric weights from the unsnapped corners [P, 3, 2], clipped to the triangle.

    Snapping moves edges.
    """
    a = corners - np.stack([x, y], axis=-1)[:, None]
    w0 = a[:, 1, 0] * a[:, 2, 1] - a[:, 1, 1] * a[:, 2, 0]
    w1 = a[:, 2, 0] * a[:, 0, 1] - a[:, 2, 1] * a[:, 0, 0]
    w2 = a[:, 0, 0] * a[:, 1, 1] - a[:, 0, 1] * a[:, 1, 0]
    weights = np.stack([w0, w1, w2], axis=-1)
    area = weights.sum(1, keepdims=True)
    # A sliver whose float area vanishes although its snapped area does not: any point of it is as
    # good as another.
    weights = np.where(area == 0, 1.0, weights) / np.where(area == 0, 3.0, area)
    weights = np.maximum(weights, 0.0)
    return weights / weights.sum(1, keepdims=True)
