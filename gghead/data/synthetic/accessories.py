"""Solid extras on the neutral head: a garment round the neck, glasses, a bun of hair."""

import numpy as np

from gghead.data.synthetic.person import Person

# vertices [V, 3], faces [F, 3] counter-clockwise seen from outside
Mesh = tuple[np.ndarray, np.ndarray]


# [rows, columns, 3]; rows x columns directions span the outward normal
def _grid(points: np.ndarray) -> Mesh:
    index = np.arange(points.shape[0] * points.shape[1]).reshape(points.shape[:2])
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    faces = np.concatenate(
        [np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)]
    )
    return points.reshape(-1, 3), faces


def garment(person: Person) -> Mesh:
    """A pullover, shirt or scarf from the collar down over the shoulders."""
    phi = np.linspace(-np.pi, np.pi, 41)[None, :]
    t = np.linspace(0, 1, 10)[:, None]
    front = np.cos(phi)
    top = person.collar - person.neckline * np.clip(front, 0, 1) ** 2 * 1.2
    fall = np.maximum(t - 0.12, 0) / 0.88
    # lower collars stand wider
    ring = 0.145 + 0.010 * (1 - t) + 0.03 * max(0.0, -0.24 - person.collar)
    wide = ring + 0.34 * fall**0.75
    deep = ring + 0.10 * fall**0.7
    y = top * (1 - fall) + (-0.56 + 0.04 * front) * fall - 0.035 * t
    z = -0.085 + 0.035 * np.clip(front, 0, 1) * (1 - fall) + deep * np.cos(phi)
    rim = np.where(t == 0, -0.010, 0.0)  # the edge turns inwards, so that it has a thickness
    return _grid(
        np.stack(
            [np.broadcast_to((wide + rim) * np.sin(phi), y.shape), y, z + rim * np.cos(phi)], -1
        )
    )


def _tube(path: np.ndarray, radius: float, closed: bool) -> Mesh:  # [N, 3]
    """A round wire along a path."""
    ahead = np.roll(path, -1, 0) - np.roll(path, 1, 0)
    if not closed:
        ahead[0], ahead[-1] = path[1] - path[0], path[-1] - path[-2]
    ahead /= np.sqrt((ahead**2).sum(1, keepdims=True))
    side = np.cross(
        ahead, np.where(np.abs(ahead[:, 1:2]) < 0.9, [[0.0, 1.0, 0.0]], [[0.0, 0.0, 1.0]])
    )
    side /= np.sqrt((side**2).sum(1, keepdims=True))
    up = np.cross(side, ahead)
    turn = np.linspace(2 * np.pi, 0, 6)[:, None, None]
    points = path[None] + radius * (np.cos(turn) * side[None] + np.sin(turn) * up[None])
    if closed:
        points = np.concatenate([points, points[:, :1]], 1)
    return _grid(points)


def merge(meshes: list[Mesh]) -> Mesh:
    """Join meshes into one."""
    offsets = np.cumsum([0] + [len(vertices) for vertices, _ in meshes[:-1]])
    faces = [mesh[1] + offset for mesh, offset in zip(meshes, offsets, strict=True)]
    return np.concatenate([mesh[0] for mesh in meshes]), np.concatenate(faces)


def glasses(person: Person, eye: np.ndarray) -> Mesh:  # [3] center of the left eyeball
    """Rims, bridge and temples."""
    turn = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    power = 1.0 if person.glasses == "round" else 0.55
    parts = []
    for side in (-1.0, 1.0):
        x = np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** power * 0.058
        y = np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** power * 0.044
        z = eye[2] + 0.082 - 3.0 * x**2 - side * x * 0.25
        rim = np.stack([side * (eye[0] + 0.002) + x, eye[1] - 0.004 + y, z], -1)
        parts.append(_tube(rim, 0.0042, closed=True))
        corner = np.array([side * (eye[0] + 0.060), eye[1] + 0.012, eye[2] + 0.056])
        ear = np.array([side * 0.218, eye[1] + 0.020, -0.030])
        parts.append(_tube(np.linspace(corner, ear, 8), 0.0042, closed=False))
    bow = np.linspace(-1, 1, 7)
    gap = eye[0] - 0.056
    bridge = np.stack(
        [gap * bow, eye[1] + 0.016 - 0.006 * bow**2, eye[2] + 0.096 + 0.006 * (1 - bow**2)], -1
    )
    return merge([*parts, _tube(bridge, 0.0042, closed=False)])


def bun() -> Mesh:
    """A ball of hair high on the back of the head."""
    polar = np.linspace(0.02, np.pi - 0.02, 11)[:, None]
    phi = np.linspace(-np.pi, np.pi, 21)[None, :]
    ball = [np.sin(polar) * np.sin(phi), np.cos(polar) + 0 * phi, np.sin(polar) * np.cos(phi)]
    return _grid(np.array([0.0, 0.385, -0.190]) + 0.085 * np.stack(ball, -1))
