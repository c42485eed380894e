"""Rotations as quaternions (w first), matrices, axis times angle, and six numbers."""

import torch
import torch.nn.functional as F
from torch import Tensor


def quat_multiply(first: Tensor, second: Tensor) -> Tensor:  # [..., 4], [..., 4] -> [..., 4]
    """Hamilton product: the rotation ``second``, then ``first``."""
    aw, ax, ay, az = first.unbind(-1)
    bw, bx, by, bz = second.unbind(-1)
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        dim=-1,
    )


def matrix_to_quat(matrix: Tensor) -> Tensor:  # [..., 3, 3] rotations -> [..., 4], w first
    """Quaternions of rotation matrices, up to their sign.

    All four components are worked out from the largest one (Shepperd 1978), so no division by a
    small number occurs.
    """
    m = matrix
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    wx, wy, wz = (
        m[..., 2, 1] - m[..., 1, 2],
        m[..., 0, 2] - m[..., 2, 0],
        m[..., 1, 0] - m[..., 0, 1],
    )
    xy, xz, yz = (
        m[..., 0, 1] + m[..., 1, 0],
        m[..., 0, 2] + m[..., 2, 0],
        m[..., 1, 2] + m[..., 2, 1],
    )
    # 4 q_i^2
    squares = torch.stack(
        [1 + xx + yy + zz, 1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz], -1
    )
    products = torch.stack(
        [
            squares[..., 0],
            wx,
            wy,
            wz,
            wx,
            squares[..., 1],
            xy,
            xz,
            wy,
            xy,
            squares[..., 2],
            yz,
            wz,
            xz,
            yz,
            squares[..., 3],
        ],
        -1,
    )
    products = products.unflatten(-1, (4, 4))  # 4 q q^T: every row is a multiple of q
    largest = squares.argmax(-1)[..., None, None].expand(*m.shape[:-2], 1, 4)
    return F.normalize(products.gather(-2, largest)[..., 0, :], dim=-1)


def rotation_6d_to_matrix(raw: Tensor) -> Tensor:  # [..., 6] -> [..., 3, 3]
    """Gram-Schmidt on two columns.

    Zhou et al. 2019, "On the continuity of rotation representations".
    """
    first = F.normalize(raw[..., :3], dim=-1)
    second = raw[..., 3:] - (first * raw[..., 3:]).sum(-1, keepdim=True) * first
    second = F.normalize(second, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], dim=-1)


# [..., 3], length = angle in radians -> [..., 3, 3]
def axis_angle_to_matrix(vector: Tensor) -> Tensor:
    """Rodrigues' formula; a zero vector gives the identity."""
    angle = vector.norm(dim=-1, keepdim=True)
    x, y, z = (vector / angle.clamp_min(torch.finfo(vector.dtype).tiny)).unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    eye = torch.eye(3, dtype=vector.dtype, device=vector.device)
    angle = angle[..., None]
    return eye + angle.sin() * cross + (1 - angle.cos()) * (cross @ cross)


def matrix_to_axis_angle(matrix: Tensor) -> Tensor:  # [..., 3, 3] rotations -> [..., 3]
    """The inverse of ``axis_angle_to_matrix`` for angles from 0 to pi."""
    quat = matrix_to_quat(matrix)
    quat = torch.where(quat[..., :1] < 0, -quat, quat)
    sine = quat[..., 1:].norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(sine, quat[..., :1])
    # For small angles sin(a / 2) = a / 2, so the factor tends to 2.
    factor = torch.where(sine > 1e-7, angle / sine.clamp_min(1e-7), torch.full_like(sine, 2.0))
    return quat[..., 1:] * factor
