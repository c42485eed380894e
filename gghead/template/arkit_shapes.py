"""Expression blendshapes of the head in ARKit's names.

Every shape is a smooth function of the neutral vertices, written once for the half x >= 0 (the
subject's left) and mirrored, so Left and Right are mirror images exactly.
"""

from collections.abc import Sequence

import numpy as np

from gghead.template.head_shape import (
    EYEBALL,
    EYEBALL_RADIUS,
    LID_THICKNESS,
    MOUTH_HALF_WIDTH,
    MOUTH_HEIGHT,
    eye_lines,
    mouth_line,
    smoothstep,
)
from gghead.template.rig import frontal, lip_plane

JAW_HINGE = np.array([0.0, 0.000, 0.010])


# ARKit name -> [V, 3]
def blendshapes(points: np.ndarray, mirror: np.ndarray) -> dict[str, np.ndarray]:
    """Offsets at coefficient one.

    Left shapes are computed, Right shapes are their mirror images.
    """
    flip = np.array([-1.0, 1.0, 1.0])
    result = {}
    for name, offsets in {
        **_eye_shapes(points),
        **_brow_shapes(points),
        **_mouth_side_shapes(points),
    }.items():
        offsets = np.round(
            np.where(np.linalg.norm(offsets, axis=1, keepdims=True) > 2e-5, offsets, 0.0), 6
        )
        result[name] = offsets
        result[name.removesuffix("Left") + "Right"] = offsets[mirror] * flip
    for name, offsets in _middle_shapes(points).items():
        offsets = np.where(np.linalg.norm(offsets, axis=1, keepdims=True) > 2e-5, offsets, 0.0)
        if name in ("jawLeft", "mouthLeft"):
            offsets = np.round(offsets, 6)
            result[name] = offsets
            result[name.removesuffix("Left") + "Right"] = offsets[mirror] * flip
        else:
            result[name] = np.round((offsets + offsets[mirror] * flip) / 2, 6)
    return dict(sorted(result.items()))


# [V]
def _blob(
    points: np.ndarray, center: np.ndarray | Sequence[float], sigma: float | Sequence[float]
) -> np.ndarray:
    """Gaussian weight that is exactly zero beyond three standard deviations."""
    q = (points - np.asarray(center)) / np.asarray(sigma)
    square = np.einsum("ij,ij->i", q, q)
    return np.exp(-0.5 * square) * smoothstep(square, 9.0, 5.0)


def _vector(weight: np.ndarray, direction: np.ndarray | Sequence[float]) -> np.ndarray:
    return weight[:, None] * np.asarray(direction)


def _left(points: np.ndarray, width: float = 0.012) -> np.ndarray:
    """Share of the left half, 0.5 on the midline; Left plus its mirror image is one."""
    return 0.5 + 0.5 * np.tanh(points[:, 0] / width)


def _over_ball(points: np.ndarray, height: np.ndarray, thickness: float) -> np.ndarray:
    """Points moved to the given height and put on a sphere around the left eyeball."""
    radius = EYEBALL_RADIUS + thickness
    x, y = points[:, 0] - EYEBALL[0], height - EYEBALL[1]
    z = EYEBALL[2] + np.sqrt(np.maximum(radius**2 - x * x - y * y, (0.35 * radius) ** 2))
    return np.stack([points[:, 0], height, z], axis=1)


def _eye_shapes(points: np.ndarray) -> dict[str, np.ndarray]:
    s, lower, upper = eye_lines(points[:, 0])  # only the left eye is near these lines
    near = smoothstep(points[:, 0], 0.0, 0.03) * frontal(points)
    inside = smoothstep(np.abs(s), 1.35, 1.02)
    y = points[:, 1]
    meet = lower + 0.12 * (upper - lower)
    # Upper lid: everything from the lid line up to the crease slides down, in proportion to what
    # the edge travels.
    reach = smoothstep(y - upper, 0.024, 0.0015)
    close_upper = np.where(y > meet, np.where(y > upper, reach, 1.0), 0.0)
    travel = 0.97 * np.where(y > upper, upper - meet, np.maximum(y - meet, 0.0))
    target = np.where(y > upper, y - reach * travel, y - travel)
    closing = _over_ball(points, target, LID_THICKNESS) - points
    # Above the edge the skin keeps its own depth the further it is from the edge.
    closing[:, 2] *= np.where(y > upper, smoothstep(y - upper, 0.016, 0.002), 1.0) * np.clip(
        travel / 0.004, 0.0, 1.0
    )
    # The lower lid comes up to just below the place where the lids meet.
    within = np.clip((meet - y) / np.maximum(meet - lower, 1e-9), 0.0, 1.0)
    share = np.where(y < lower, smoothstep(lower - y, 0.012, 0.0), within)
    raised = _vector(0.10 * (upper - lower) * share, (0.0, 1.0, 0.0))
    blink = (
        _vector(near * inside * (close_upper > 0), (1, 1, 1)) * closing
        + _vector(near * inside, (1, 1, 1)) * raised
    )
    band_up = smoothstep(y - upper, 0.020, 0.004) * smoothstep(y - (upper + lower) / 2, 0.0, 0.010)
    band_low = smoothstep(lower - y, 0.030, 0.006) * smoothstep((upper + lower) / 2 - y, 0.0, 0.008)
    gate = near * smoothstep(np.abs(s), 1.35, 0.75)
    wide = _vector(gate * band_up, (0.0, 0.0085, -0.0010)) + _vector(
        gate * band_low, (0.0, -0.0030, 0.0)
    )
    cheek = _blob(points, (0.092, 0.045, 0.205), (0.034, 0.018, 0.05))
    squint = (
        _vector(gate * band_low, (0.0, 0.0042, 0.0012))
        + _vector(gate * band_up, (0.0, -0.0022, 0.0005))
        + _vector(cheek, (0.0, 0.0055, 0.0030))
    )
    return {"eyeBlinkLeft": blink, "eyeWideLeft": wide, "eyeSquintLeft": squint}


def _brow_shapes(points: np.ndarray) -> dict[str, np.ndarray]:
    front = frontal(points)
    inner = _blob(points, (0.045, 0.142, 0.24), (0.030, 0.026, 0.06))
    middle = _blob(points, (0.085, 0.146, 0.22), (0.038, 0.024, 0.07))
    outer = _blob(points, (0.128, 0.146, 0.19), (0.032, 0.030, 0.07))
    half = _left(points)
    nose_side = _blob(points, (0.030, 0.020, 0.265), (0.014, 0.030, 0.04))
    wing = _blob(points, (0.040, -0.018, 0.245), (0.014, 0.018, 0.03))
    lip = _blob(points, (0.030, -0.070, 0.250), (0.022, 0.014, 0.04))
    apple = _blob(points, (0.085, 0.012, 0.225), (0.032, 0.028, 0.05))
    return {
        "browDownLeft": (
            _vector(half * front * inner, (-0.006, -0.016, 0.004))
            + _vector(front * middle, (-0.003, -0.012, 0.003))
        ),
        "browOuterUpLeft": _vector(front * (outer + 0.5 * middle), (0.0, 0.017, -0.001)),
        "noseSneerLeft": (
            half[:, None]
            * (
                _vector(wing, (0.004, 0.015, 0.002))
                + _vector(nose_side, (0.001, 0.010, 0.005))
                + _vector(lip, (0.001, 0.011, 0.001))
            )
        ),
        "cheekSquintLeft": _vector(apple, (0.002, 0.012, 0.008)),
    }


def _corner(points: np.ndarray, width: float = 1.0) -> np.ndarray:
    """Weight of the left mouth corner.

    One there, fading over the lips towards the middle and into the cheek.
    """
    center = (MOUTH_HALF_WIDTH, MOUTH_HEIGHT, 0.21)
    return _blob(points, center, (0.034 * width, 0.030 * width, 0.060))


def _mouth_side_shapes(points: np.ndarray) -> dict[str, np.ndarray]:
    half = _left(points, 0.016)[:, None]
    corner = _corner(points)
    wide = _corner(points, 1.35)
    cheek = _blob(points, (0.098, -0.010, 0.205), (0.034, 0.036, 0.06))
    _, t = lip_plane(points)
    y_line = points[:, 1] - mouth_line(np.abs(points[:, 0]))
    front = frontal(points)
    upper = smoothstep(y_line, 0.0, 0.003) * _blob(
        points, (0.030, -0.082, 0.25), (0.028, 0.020, 0.05)
    )
    lower = smoothstep(y_line, 0.0, -0.003) * _blob(
        points, (0.030, -0.112, 0.24), (0.028, 0.020, 0.05)
    )
    fold = _blob(points, (0.066, -0.045, 0.225), (0.020, 0.026, 0.04))
    dimple = _blob(points, (MOUTH_HALF_WIDTH + 0.008, MOUTH_HEIGHT, 0.205), (0.014, 0.018, 0.04))
    press = _blob(points, (0.036, MOUTH_HEIGHT, 0.245), (0.030, 0.020, 0.04))
    toward_line = np.clip(-y_line / 0.02, -1.0, 1.0)
    return {
        "mouthSmileLeft": (
            half
            * (
                _vector(0.75 * corner + 0.25 * wide, (0.019, 0.022, -0.018))
                + _vector(cheek, (0.004, 0.013, 0.009))
                + _vector(fold, (0.004, 0.007, 0.003))
            )
        ),
        "mouthFrownLeft": half * _vector(wide, (0.004, -0.021, -0.004)),
        "mouthStretchLeft": half * _vector(0.5 * corner + 0.5 * wide, (0.021, -0.007, -0.012)),
        "mouthDimpleLeft": (
            half
            * (_vector(dimple, (0.004, 0.002, -0.010)) + _vector(corner, (0.007, 0.002, -0.003)))
        ),
        "mouthUpperUpLeft": (
            half * (_vector(upper, (0.002, 0.015, 0.002)) + _vector(fold, (0.001, 0.005, 0.002)))
        ),
        "mouthLowerDownLeft": half * _vector(lower, (0.001, -0.017, 0.001)),
        "mouthPressLeft": half * front[:, None] * _vector(press * toward_line, (0.0, 0.008, 0.0)),
    }


def _jaw(points: np.ndarray) -> np.ndarray:  # [V]
    """How much a vertex follows the lower jaw.

    Lower lip and chin follow wholly, the upper lip not at all, cheeks in between.
    """
    x, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    s = np.minimum(x / MOUTH_HALF_WIDTH, 1.0)
    # Towards the corners of the mouth the two lips follow the jaw alike, so the opening is an oval.
    upper, lower = 0.46 * s**2.2, 1.0 - 0.48 * s**3.0
    lips = upper + (lower - upper) * smoothstep(y - mouth_line(x), 0.0026, -0.0026)
    # The upper lip's share dies out towards the nose, the lower lip's grows to all of the chin.
    lips = lips * smoothstep(y, -0.035, -0.085) + (1.0 - lips) * smoothstep(y, -0.110, -0.165)
    # Beside the mouth the border between the jaws widens into the cheek.
    soft = smoothstep(y, -0.010 * smoothstep(x, 0.060, 0.125), -0.170)
    weight = lips + (soft - lips) * smoothstep(
        x, MOUTH_HALF_WIDTH - 0.006, MOUTH_HALF_WIDTH + 0.040
    )
    neck = smoothstep(y, -0.300, -0.215 + 0.03 * smoothstep(z, 0.12, 0.02))
    behind = smoothstep(z, -0.010, 0.085)
    return weight * neck * behind


def _middle_shapes(points: np.ndarray) -> dict[str, np.ndarray]:
    x, y, _ = points.T
    jaw = _jaw(points)
    angle = np.radians(17.0) * jaw
    arm = points - JAW_HINGE
    cos, sin = np.cos(angle), np.sin(angle)
    rotated = np.stack(
        [arm[:, 0], cos * arm[:, 1] - sin * arm[:, 2], sin * arm[:, 1] + cos * arm[:, 2]], axis=1
    )
    line_distance = y - mouth_line(np.abs(x))
    lip_s = np.abs(x) / MOUTH_HALF_WIDTH
    throat = (
        smoothstep(np.abs(line_distance), 0.0034, 0.0008)
        * smoothstep(lip_s, 0.95, 0.6)
        * frontal(points)
    )
    jaw_open = rotated - arm + _vector(throat, (0.0, 0.0, -0.030))
    mouth = _blob(points, (0.0, MOUTH_HEIGHT, 0.235), (0.052, 0.034, 0.065))
    lips = _blob(points, (0.0, MOUTH_HEIGHT, 0.240), (0.046, 0.018, 0.05))
    seal = smoothstep(np.abs(x), 0.115, 0.070) * frontal(points)
    inner_brow = _blob(points, (0.0, 0.150, 0.25), (0.045, 0.030, 0.06))
    puff, other = (
        _blob(points, (side * 0.105, -0.070, 0.175), (0.040, 0.046, 0.060)) for side in (-1, 1)
    )
    puff = puff + other
    outward = np.stack([np.tanh(x / 0.03), 0 * x, 0.7 + 0 * x], axis=1)
    upper, lower = smoothstep(line_distance, 0.0, 0.003), smoothstep(line_distance, 0.0, -0.003)
    pull = np.stack([-0.42 * x, 0 * x, 0.020 - 0.0008 * lip_s], axis=1)
    funnel = mouth[:, None] * np.stack([-0.26 * x, 0 * x, 0.016 + 0 * x], axis=1)
    funnel += lips[:, None] * np.stack([0 * x, 0.011 * upper - 0.013 * lower, 0 * x], axis=1)
    return {
        "jawOpen": jaw_open,
        "jawForward": _vector(jaw, (0.0, 0.0, 0.020)),
        "jawLeft": _vector(jaw, (0.022, 0.0, 0.0)),
        "mouthLeft": _vector(mouth, (0.022, 0.0, -0.002)),
        "mouthPucker": mouth[:, None] * pull + _vector(lips * (upper - lower), (0.0, 0.003, 0.0)),
        "mouthFunnel": funnel,
        "mouthClose": -jaw_open * (seal * smoothstep(line_distance, -0.065, -0.012))[:, None],
        "mouthRollUpper": _vector(lips * upper, (0.0, -0.006, -0.008)),
        "mouthRollLower": _vector(lips * lower, (0.0, 0.007, -0.008)),
        "mouthShrugLower": _vector(
            _blob(points, (0.0, -0.135, 0.235), (0.045, 0.026, 0.05)), (0.0, 0.010, 0.006)
        ),
        "browInnerUp": _vector(inner_brow, (0.0, 0.018, 0.0)),
        "cheekPuff": puff[:, None] * 0.022 * outward + _vector(lips, (0.0, 0.0, 0.004)),
    }
