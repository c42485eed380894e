"""Rotations against one another."""

import torch
import torch.nn.functional as F

from gghead.rendering.projection import quat_to_rotmat
from gghead.rotations import (
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    matrix_to_quat,
    quat_multiply,
    rotation_6d_to_matrix,
)


def test_products_and_conversions_agree_with_matrices():
    generator = torch.Generator().manual_seed(1)
    a, b = (F.normalize(torch.randn(50, 4, generator=generator), dim=-1) for _ in range(2))
    product = quat_to_rotmat(quat_multiply(a, b))
    torch.testing.assert_close(product, quat_to_rotmat(a) @ quat_to_rotmat(b), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        quat_to_rotmat(matrix_to_quat(product)), product, atol=1e-5, rtol=1e-5
    )


def test_half_turns_have_no_small_divisor():
    half_turns = torch.stack(
        [torch.diag(torch.tensor(d)) for d in ([1.0, -1, -1], [-1.0, 1, -1], [-1.0, -1, 1])]
    )
    half_turns.requires_grad_(True)
    quats = matrix_to_quat(half_turns)
    torch.testing.assert_close(quat_to_rotmat(quats), half_turns)
    quats.sum().backward()
    assert torch.isfinite(half_turns.grad).all()


def test_six_numbers_give_rotations():
    matrix = rotation_6d_to_matrix(torch.randn(20, 6, generator=torch.Generator().manual_seed(2)))
    torch.testing.assert_close(matrix @ matrix.mT, torch.eye(3).expand(20, 3, 3), atol=1e-5, rtol=0)
    assert (torch.linalg.det(matrix) > 0.99).all()


def test_axis_and_angle_are_what_the_matrix_turns_about():
    vectors = torch.tensor(
        [[0.0, 0.0, 0.0], [0.3, -1.2, 0.5], [0.0, 3.1, 0.0], [1e-9, 0.0, 0.0], [0.02, 0.01, -0.03]]
    )
    vectors = vectors.double()
    matrices = axis_angle_to_matrix(vectors)
    cross = torch.zeros(5, 3, 3, dtype=torch.float64)
    for (i, j), (axis, sign) in {
        (2, 1): (0, 1),
        (1, 2): (0, -1),
        (0, 2): (1, 1),
        (2, 0): (1, -1),
        (1, 0): (2, 1),
        (0, 1): (2, -1),
    }.items():
        cross[:, i, j] = sign * vectors[:, axis]
    torch.testing.assert_close(matrices, torch.linalg.matrix_exp(cross))
    torch.testing.assert_close(matrix_to_axis_angle(matrices), vectors, atol=1e-9, rtol=1e-7)
