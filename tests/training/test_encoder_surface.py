"""Distances to meshes: against a sphere, a brute-force search and depths that are known."""

import numpy as np
import pytest
import torch

from gghead.cameras import Cameras
from gghead.gaussians import Gaussians
from gghead.template import load_template
from gghead.torch_utils.errors import UserError
from gghead.training.encoder.losses import (
    TrueSurface,
    depth_points,
    divide_triangles,
    head_width,
    mean_distance,
    point_distances,
    read_surface,
    to_triangles,
)


def sampled_distance(point, corners, steps=200):
    """The least distance to a fine grid of points on one triangle."""
    u, v = np.meshgrid(np.linspace(0, 1, steps), np.linspace(0, 1, steps))
    keep = u + v <= 1
    a, b, c = corners
    return np.linalg.norm(
        a + u[keep][:, None] * (b - a) + v[keep][:, None] * (c - a) - point, axis=1
    ).min()


def test_point_to_triangle_is_exact_above_edges_and_corners():
    corners = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    points = np.array([[0.2, 0.3, 0.5], [0.5, -2, 0], [2, 0, 0], [-1, -1, 1], [1, 1, 0]])
    found = to_triangles(points, np.repeat(corners[None], len(points), 0))
    np.testing.assert_allclose(found, [0.5, 2, 1, 3**0.5, 0.5**0.5], atol=1e-12)


def test_random_triangles_agree_with_sampling():
    random = np.random.RandomState(0)
    corners, points = random.randn(40, 3, 3), random.randn(40, 3) * 2
    wanted = [
        sampled_distance(point, triangle) for point, triangle in zip(points, corners, strict=True)
    ]
    found = to_triangles(points, corners)
    assert (found <= np.array(wanted) + 1e-9).all()
    np.testing.assert_allclose(found, wanted, atol=0.03)


def test_triangle_without_area_is_its_edges():
    line = np.array([[[0.0, 0, 0], [1, 0, 0], [2, 0, 0]]])
    np.testing.assert_allclose(to_triangles(np.array([[1.5, 2.0, 0]]), line), [2.0])


def test_search_equals_brute_force_although_triangles_differ_in_size():
    random = np.random.RandomState(1)
    vertices = random.randn(60, 3)
    triangles = random.randint(0, 60, (50, 3))
    triangles = triangles[(np.diff(np.sort(triangles, 1), axis=1) > 0).all(1)]
    points = random.randn(200, 3) * 2
    each = [
        to_triangles(np.repeat(point[None], len(triangles), 0), vertices[triangles]).min()
        for point in points
    ]
    np.testing.assert_allclose(point_distances(points, vertices, triangles), each, atol=1e-12)


def test_divided_triangles_cover_the_same_surface():
    corners = np.random.RandomState(2).randn(5, 3, 3) * [
        [[1.0]],
        [[0.1]],
        [[3.0]],
        [[1.0]],
        [[0.0]],
    ]
    parts = divide_triangles(corners, 0.5)
    radius = np.linalg.norm(parts - parts.mean(1)[:, None], axis=2).max()
    assert radius <= 0.5 and len(parts) > 5

    def area(triangles):
        edges = triangles[:, 1:] - triangles[:, :1]
        return np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1).sum()

    assert area(parts) == pytest.approx(area(corners))
    assert len(divide_triangles(corners[:1], 1e9)) == 1


def test_depth_points_lie_on_a_wall_at_known_depth():
    grid = torch.linspace(-1, 1, 40)
    x, y = torch.meshgrid(grid, grid, indexing="xy")
    means = torch.stack([x, y, torch.full_like(x, 0.25)], -1).reshape(1, -1, 3)
    count = means.shape[1]
    wall = Gaussians(
        means,
        torch.tensor([1.0, 0, 0, 0]).expand(1, count, 4),
        torch.tensor([0.06, 0.06, 1e-4]).expand(1, count, 3),
        torch.full((1, count), 0.99),
        torch.rand(1, count, 3),
    )
    points = depth_points(wall, Cameras.orbit(torch.tensor([0.0, 0.3])), (24, 16))
    assert points.shape == (2 * 24 * 16, 3)
    # the depth of centers, seen from aside
    np.testing.assert_allclose(points[:, 2], 0.25, atol=0.04)
    assert np.abs(points[:, 0]).max() < 0.6
    truth = TrueSurface(
        np.array([[-5.0, -5, 0.2], [5, -5, 0.2], [5, 5, 0.2], [-5, 5, 0.2]]),
        np.array([[0, 1, 2], [0, 2, 3]]),
        0.5,
    )
    # 0.05 of 0.5
    assert mean_distance(wall, Cameras.orbit(0.0), (16, 16), truth) == pytest.approx(10.0, abs=1.0)
    clear = Gaussians(means, wall.quats, wall.scales, torch.zeros(1, count), wall.colors)
    with pytest.raises(UserError, match="transparent everywhere"):
        mean_distance(clear, Cameras.orbit(0.0), (16, 16), truth)


def test_width_is_taken_between_nose_and_brows():
    landmarks = np.zeros((68, 3))
    landmarks[17:27, 1], landmarks[33, 1] = 0.1, -0.05
    vertices = np.array([[-0.3, 0.0, 0], [0.25, 0.05, 0], [2, 0.5, 0], [-2, -0.5, 0]])
    assert head_width(vertices, landmarks) == pytest.approx(0.55)
    with pytest.raises(UserError, match="no vertices between nose and brows"):
        head_width(vertices[2:], landmarks)


def test_geometry_file_is_read_by_subject_and_refused_in_a_sentence(tmp_path):
    template, path = load_template("head"), tmp_path / "geometry.npz"
    landmarks = np.zeros((1, 2, 68, 3), np.float32)
    landmarks[:, :, 17:27, 1], landmarks[:, :, 33, 1] = 0.08, -0.02
    np.savez(
        path,
        subject=np.array([7]),
        vertices=template.vertices[None].astype(np.float16),
        triangles=template.faces.astype(np.int32),
        landmarks68=landmarks,
    )
    found = read_surface(path, "7")
    assert 0.3 < found.width < 0.8 and found.vertices.dtype == np.float64
    np.testing.assert_allclose(
        point_distances(found.vertices[:50], found.vertices, found.triangles), 0, atol=1e-12
    )
    with pytest.raises(UserError, match="has no subject 8"):
        read_surface(path, "8")
    path.write_bytes(b"no array")
    with pytest.raises(UserError, match="is no geometry file of mvheads"):
        read_surface(path, "7")
