"""Solid extras on the neutral head: a garment round the neck, glasses, a bun of hair."""

import numpy as np

from gghead.data.synthetic.person import Person

# vertices [V, 3], faces [F, 3] counter-clockwise seen from outside
Mesh = tuple[np.ndarray, np.ndarray]

_ROUND = 41  # points round a collar


# [rows, columns, 3]; rows x columns directions span the outward normal
def grid_mesh(points: np.ndarray) -> Mesh:
    """Return the mesh of a grid of points."""
    index = np.arange(points.shape[0] * points.shape[1]).reshape(points.shape[:2])
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    faces = np.concatenate(
        [np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)]
    )
    return points.reshape(-1, 3), faces


def garment(person: Person) -> Mesh:
    """A pullover, shirt or scarf from the collar down over the shoulders."""
    phi = np.linspace(-np.pi, np.pi, _ROUND)[None, :]
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
    return grid_mesh(
        np.stack(
            [np.broadcast_to((wide + rim) * np.sin(phi), y.shape), y, z + rim * np.cos(phi)], -1
        )
    )


def lining(outside: Mesh) -> Mesh:
    """The inner side of a garment, as far down as one sees into its collar."""
    vertices = outside[0][: 6 * _ROUND]
    return vertices, outside[1][(outside[1] < len(vertices)).all(1)][:, ::-1]


def _tube(
    path: np.ndarray,  # [N, 3]
    radius: float | np.ndarray,  # one, or one for each point
    closed: bool,
    sides: int = 5,
) -> Mesh:
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
    turn = np.linspace(2 * np.pi, 0, sides + 1)[:, None, None]
    points = path[None] + np.reshape(radius, (-1, 1)) * (
        np.cos(turn) * side[None] + np.sin(turn) * up[None]
    )
    if closed:
        points = np.concatenate([points, points[:, :1]], 1)
    return grid_mesh(points)


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


# middle and radius
_BUNS = {"bun": (0.385, -0.190, 0.085), "topknot": (0.470, -0.060, 0.062)}


def tied_hair(person: Person) -> Mesh:
    """What is tied of somebody's hair: a ball of it high on the head, or tails."""
    if person.hair_style in _BUNS:
        y, z, radius = _BUNS[person.hair_style]
        polar = np.linspace(0.02, np.pi - 0.02, 11)[:, None]
        phi = np.linspace(-np.pi, np.pi, 21)[None, :]
        ball = [np.sin(polar) * np.sin(phi), np.cos(polar) + 0 * phi, np.sin(polar) * np.cos(phi)]
        return grid_mesh(np.array([0.0, y, z]) + radius * np.stack(ball, -1))
    along = np.linspace(0, 1, 15)
    end = np.clip(person.hair_length, -0.36, -0.10)
    width = 0.010 + 0.046 * np.sqrt(np.sin(np.pi * (0.06 + 0.94 * along) ** 0.6).clip(0))
    if person.hair_style == "ponytail":
        y = np.interp(along, [0, 0.15, 0.3, 1], [0.250, 0.285, 0.210, end])
        z = np.interp(along, [0, 0.15, 0.3, 0.6, 1], [-0.235, -0.290, -0.330, -0.310, -0.290])
        return _tube(np.stack([0 * y, y, z], -1), width, closed=False, sides=14)
    tails = []
    for side in (-1.0, 1.0):
        y = np.interp(along, [0, 0.2, 1], [0.130, 0.110, end])
        x = side * np.interp(along, [0, 0.2, 0.6, 1], [0.190, 0.265, 0.285, 0.250])
        z = np.interp(along, [0, 1], [-0.110, -0.050])
        tails.append(_tube(np.stack([x, y, z], -1), 0.9 * width, closed=False, sides=14))
    return merge(tails)


def around_tie(person: Person, place: np.ndarray) -> np.ndarray:  # [3, P] -> [P] radians
    """Direction of places on tied hair round its own axis."""
    x, _, z = place
    if person.hair_style == "pigtails":
        return np.arctan2(np.abs(x) - 0.265, z + 0.08)
    middle = -0.310 if person.hair_style == "ponytail" else _BUNS[person.hair_style][1]
    return np.arctan2(x, z - middle)
