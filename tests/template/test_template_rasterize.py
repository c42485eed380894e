import numpy as np
import pytest

from gghead.template.rasterize import rasterize_samples, rasterize_triangles


def brute_force(xy, depth, faces, width, height, perspective):
    """Pixel by pixel, triangle by triangle; pixels closer than 1e-4 to an edge are reported as
    unsure."""
    index = np.full((height, width), -1)
    unsure = np.zeros((height, width), dtype=bool)
    bary = np.zeros((height, width, 3))
    best = np.full((height, width), np.inf)
    for i in range(height):
        for j in range(width):
            for f, face in enumerate(faces):
                matrix = np.concatenate([xy[face].T, np.ones((1, 3))])
                if abs(np.linalg.det(matrix)) < 1e-9:
                    continue
                w = np.linalg.solve(matrix, [j + 0.5, i + 0.5, 1.0])
                if np.abs(w).min() < 1e-4:
                    unsure[i, j] = True
                if (w < 0).any():
                    continue
                if perspective:
                    w = w / depth[face]
                    w = w / w.sum()
                z = w @ depth[face]
                if z < best[i, j]:
                    best[i, j], index[i, j], bary[i, j] = z, f, w
    return index, bary, unsure


@pytest.mark.parametrize("perspective", [False, True])
def test_agrees_with_brute_force(perspective):
    rng = np.random.default_rng(3)
    xy, depth = rng.uniform(-4, 20, (24, 2)), rng.uniform(1, 5, 24)
    faces = rng.integers(0, 24, (20, 3))
    index, bary = rasterize_triangles(xy, depth, faces, 17, 13, perspective=perspective)
    expected_index, expected_bary, unsure = brute_force(xy, depth, faces, 17, 13, perspective)
    assert (~unsure).mean() > 0.9 and (expected_index >= 0).mean() > 0.3
    np.testing.assert_array_equal(index[~unsure], expected_index[~unsure])
    np.testing.assert_allclose(bary[~unsure], expected_bary[~unsure], atol=1e-10)


def test_no_gaps_and_no_overlaps_between_neighbors():
    """A shuffled, jittered triangulation of a square: every pixel center is covered by exactly one
    triangle."""
    rng = np.random.default_rng(5)
    n, size = 9, 40
    y, x = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    points = np.stack([x, y], -1).reshape(-1, 2).astype(float)
    inner = ((points > 0) & (points < n - 1)).all(1)
    points[inner] += rng.uniform(-0.3, 0.3, (inner.sum(), 2))
    points[::7] = np.round(points[::7] * 8) / 8  # some vertices exactly on pixel centers and edges
    a = (y[:-1, :-1] * n + x[:-1, :-1]).ravel()
    faces = np.concatenate([np.stack([a, a + 1, a + n + 1], 1), np.stack([a + n + 1, a + n, a], 1)])
    faces = np.array([np.roll(face, k % 3)[:: 1 if k % 2 else -1] for k, face in enumerate(faces)])
    xy = points * size / (n - 1)
    count = np.zeros((size, size), dtype=int)
    for face in faces:
        count += rasterize_triangles(xy, None, face[None], size, size)[0] >= 0
    assert (count == 1).all()
    index, bary = rasterize_triangles(xy, None, faces, size, size)
    assert (index >= 0).all()
    center = (bary[..., None] * xy[faces[index]]).sum(2)
    expected = np.stack(np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5), -1)
    np.testing.assert_allclose(center, expected, atol=1e-4)


def test_perspective_weights_interpolate_points_in_space():
    vertices = np.array([[-1.0, -1.0, 2.0], [3.0, -0.5, 6.0], [0.0, 2.0, 3.0]])
    xy = vertices[:, :2] / vertices[:, 2:] * 40 + 32
    index, bary = rasterize_triangles(
        xy, vertices[:, 2], np.array([[0, 1, 2]]), 64, 64, perspective=True
    )
    hit = index == 0
    assert hit.sum() > 200
    points = bary[hit] @ vertices
    pixels = points[:, :2] / points[:, 2:] * 40 + 32
    rows, columns = np.nonzero(hit)
    np.testing.assert_allclose(pixels, np.stack([columns + 0.5, rows + 0.5], 1), atol=1e-9)


def test_nearer_triangle_wins_and_ties_go_to_the_lower_index():
    xy = np.array([[-10.0, -10.0], [40.0, -10.0], [-10.0, 40.0]] * 3)
    faces = np.arange(9).reshape(3, 3)
    depth = np.repeat([2.0, 1.0, 1.0], 3)
    assert (rasterize_triangles(xy, depth, faces, 8, 8)[0] == 1).all()
    assert (rasterize_triangles(xy, None, faces, 8, 8)[0] == 0).all()


def test_back_faces_can_be_left_out():
    xy = np.array([[0.0, 0.0], [0.0, 8.0], [8.0, 0.0]])
    face = np.array([[0, 1, 2]])
    counts = [
        (rasterize_triangles(xy, None, face, 8, 8, cull=cull)[0] >= 0).sum()
        for cull in ("back", "front", None)
    ]
    assert counts[0] == counts[2] > 0 and counts[1] == 0


def test_only_what_lies_in_front_of_the_limit_is_returned():
    xy = np.array([[-10.0, -10.0], [40.0, -10.0], [-10.0, 40.0]])
    depth, faces = np.array([1.0, 3.0, 2.0]), np.array([[0, 1, 2]])
    for perspective in (False, True):
        everything = rasterize_samples(xy, depth, faces, 8, 8, perspective=perspective)
        assert np.array_equal(everything.pixel, np.arange(64))
        there = (everything.weights * depth).sum(1)
        limit = np.where(np.arange(64) % 2, np.median(there), np.inf)
        found = rasterize_samples(xy, depth, faces, 8, 8, perspective=perspective, limit=limit)
        kept = there < limit
        assert 0 < kept.sum() < 64
        np.testing.assert_array_equal(found.pixel, everything.pixel[kept])
        np.testing.assert_array_equal(found.weights, everything.weights[kept])
        np.testing.assert_allclose(found.depth, there[kept], rtol=1e-12)
    with pytest.raises(ValueError, match="limit must have the shape"):
        rasterize_samples(xy, depth, faces, 8, 8, limit=np.zeros(3))


def test_far_coordinates_behind_camera_and_empty_input():
    xy = np.array([[-1e7, -1e7], [3e7, -1e7], [-1e7, 3e7]])
    assert (rasterize_triangles(xy, None, np.array([[0, 1, 2]]), 16, 16)[0] == 0).all()
    behind = rasterize_triangles(
        xy, np.array([1.0, 1.0, -1.0]), np.array([[0, 1, 2]]), 4, 4, perspective=True
    )[0]
    assert (behind == -1).all()
    assert (rasterize_triangles(xy, None, np.zeros((0, 3), dtype=int), 4, 4)[0] == -1).all()


@pytest.mark.parametrize(
    "arguments",
    [
        (np.zeros((3, 3)), None, np.array([[0, 1, 2]])),
        (np.full((3, 2), np.nan), None, np.array([[0, 1, 2]])),
        (np.zeros((3, 2)), np.zeros(4), np.array([[0, 1, 2]])),
    ],
)
def test_wrong_input_is_refused(arguments):
    with pytest.raises(ValueError, match="must have|non-finite"):
        rasterize_triangles(*arguments, 4, 4)
