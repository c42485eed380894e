"""The head's surface as an implicit function.

Smooth unions of ellipsoids and capsules, sculpted with bumps.

All positions are world units (1 unit = 0.37 m). The measures (eyes, nose tip, mouth corners, widths
and depths) follow average anthropometry and the place of these points under the label cameras of
face photographs. Everything is given for the half x >= 0; the function depends on |x|.
"""

from collections.abc import Sequence

import numpy as np

EYEBALL = np.array([0.0840, 0.0815, 0.1690])  # center
EYEBALL_RADIUS = 0.0350
LID_THICKNESS = 0.0062
EYE_INNER, EYE_OUTER = np.array([0.0460, 0.0775]), np.array([0.1215, 0.0835])  # corners, (x, y)
MOUTH_HEIGHT, MOUTH_HALF_WIDTH = -0.0950, 0.0710


# [N, 3] -> [N]
def ellipsoid(
    p: np.ndarray, center: np.ndarray | Sequence[float], radii: Sequence[float]
) -> np.ndarray:
    """Approximate signed distance to an ellipsoid (first order exact at its surface)."""
    q = (p - np.asarray(center)) / np.asarray(radii)
    k0 = np.sqrt(np.einsum("ij,ij->i", q, q))
    q /= np.asarray(radii)
    k1 = np.sqrt(np.einsum("ij,ij->i", q, q))
    return k0 * (k0 - 1.0) / np.maximum(k1, 1e-9)


# [N, 3] -> [N]
def capsule(
    p: np.ndarray, a: Sequence[float], b: Sequence[float], ra: float, rb: float
) -> np.ndarray:
    """Distance to a segment a-b whose radius runs from ra to rb."""
    start = np.asarray(a)
    axis = np.asarray(b) - start
    t = np.clip((p - start) @ axis / (axis @ axis), 0.0, 1.0)
    away = p - start - t[:, None] * axis
    return np.sqrt((away * away).sum(1)) - (ra + (rb - ra) * t)


def smooth_min(a: np.ndarray, b: np.ndarray, k: float | np.ndarray) -> np.ndarray:
    """Polynomial smooth minimum: a union whose seam is rounded over the length k."""
    h = np.maximum(k - np.abs(a - b), 0.0) / k
    return np.minimum(a, b) - h * h * k * 0.25


# [N]
def bump(p: np.ndarray, center: np.ndarray | Sequence[float], sigma: Sequence[float]) -> np.ndarray:
    """Gaussian bump of height one with standard deviations `sigma` per axis."""
    q = (p - np.asarray(center)) / np.asarray(sigma)
    return np.exp(-0.5 * np.einsum("ij,ij->i", q, q))


def smoothstep(x: np.ndarray, low: float | np.ndarray, high: float | np.ndarray) -> np.ndarray:
    """0 below `low`, 1 above `high`, a cubic between; `low` may be the larger of the two."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


# [N] of |x| -> [N], [N], [N]
def eye_lines(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Position s along the eye, and heights of the lower and the upper lid's edge there.

    s is -1 at the inner and 1 at the outer corner.

    Beyond the corners s leaves [-1, 1] and both heights go on along the line through the corners.
    """
    middle, half = (EYE_INNER[0] + EYE_OUTER[0]) / 2, (EYE_OUTER[0] - EYE_INNER[0]) / 2
    s = (x - middle) / half
    axis = EYE_INNER[1] + (EYE_OUTER[1] - EYE_INNER[1]) * (s + 1) / 2
    inside = np.clip(s, -1.0, 1.0)
    arch = 1.0 - inside * inside
    upper = 0.0175 * arch**0.75 * (1.0 - 0.10 * inside)
    lower = 0.0105 * arch**0.85 * (1.0 + 0.22 * inside)
    return s, axis - lower, axis + upper


def mouth_line(x: np.ndarray) -> np.ndarray:  # [N] of |x| -> [N]
    """Height of the line between the lips."""
    s = np.minimum(x / MOUTH_HALF_WIDTH, 1.3)
    return MOUTH_HEIGHT - 0.0025 * np.exp(-((s / 0.20) ** 2)) - 0.0015 * s**4


def surface(points: np.ndarray) -> np.ndarray:  # [N, 3] -> [N], negative inside
    """Approximate signed distance to the neutral head."""
    p = np.concatenate([np.abs(points[:, :1]), points[:, 1:]], axis=1)
    d = _skull(p)
    d = smooth_min(d, _neck(p), 0.045 + 0.085 * smoothstep(p[:, 2], 0.0, -0.12))
    d = _sculpt(p, d)
    d = smooth_min(d, _nose(p), 0.030)
    d = _mouth(p, d)
    return _eye(p, d)


def _skull(p: np.ndarray) -> np.ndarray:
    # Wide pairs meet on the midline: |x| rounded off there keeps them from leaving a crease.
    soft = np.concatenate([np.sqrt(p[:, :1] ** 2 + 0.04**2), p[:, 1:]], axis=1)
    d = ellipsoid(p, (0.0, 0.168, -0.022), (0.206, 0.228, 0.256))  # braincase
    d = smooth_min(d, ellipsoid(p, (0.0, 0.200, 0.088), (0.172, 0.155, 0.155)), 0.06)  # forehead
    d = smooth_min(d, ellipsoid(p, (0.0, 0.020, 0.062), (0.182, 0.205, 0.160)), 0.07)  # midface
    d = smooth_min(d, ellipsoid(p, (0.0, -0.100, 0.076), (0.140, 0.108, 0.136)), 0.06)  # jaw
    # angle of the jaw
    d = smooth_min(d, ellipsoid(soft, (0.090, -0.110, 0.050), (0.052, 0.062, 0.080)), 0.06)
    d = smooth_min(d, ellipsoid(p, (0.0, -0.172, 0.176), (0.060, 0.040, 0.050)), 0.05)  # chin
    # cheekbone
    d = smooth_min(d, ellipsoid(soft, (0.108, 0.022, 0.120), (0.058, 0.046, 0.066)), 0.06)
    # teeth and lips' base
    return smooth_min(d, ellipsoid(p, (0.0, -0.090, 0.160), (0.078, 0.072, 0.078)), 0.06)


def _neck(p: np.ndarray) -> np.ndarray:
    neck = capsule(p, (0.0, -0.08, -0.085), (0.0, -0.50, -0.105), 0.134, 0.132)
    shoulders = capsule(p, (0.0, -0.475, -0.125), (0.40, -0.550, -0.125), 0.110, 0.095)
    chest = ellipsoid(p, (0.0, -0.62, -0.07), (0.30, 0.20, 0.15))
    return smooth_min(smooth_min(neck, shoulders, 0.17), chest, 0.06)


def _sculpt(p: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Broad relief: brows, eye sockets, temples, cheeks, folds, chin."""
    d = d - 0.010 * bump(p, (0.075, 0.137, 0.225), (0.050, 0.016, 0.045))  # brow ridge
    d = d - 0.006 * bump(p, (0.0, 0.125, 0.250), (0.030, 0.022, 0.040))  # glabella
    d = d + 0.020 * bump(p, (0.080, 0.088, 0.215), (0.034, 0.022, 0.045))  # eye socket
    # inner corner beside the bridge
    d = d + 0.008 * bump(p, (0.040, 0.078, 0.225), (0.012, 0.020, 0.040))
    d = d + 0.006 * bump(p, (0.195, 0.150, 0.110), (0.045, 0.050, 0.050))  # temple
    d = d + 0.003 * bump(p, (0.125, -0.075, 0.165), (0.035, 0.040, 0.050))  # hollow of the cheek
    d = d - 0.006 * bump(p, (0.082, 0.010, 0.225), (0.030, 0.024, 0.040))  # apple of the cheek
    # fold from nose to mouth
    d = d + 0.004 * bump(p, (0.068, -0.055, 0.230), (0.012, 0.026, 0.040))
    d = d + 0.008 * bump(p, (0.0, -0.143, 0.245), (0.040, 0.011, 0.040))  # under the lower lip
    d = d - 0.005 * bump(p, (0.0, -0.180, 0.235), (0.030, 0.020, 0.030))  # chin
    return d + 0.006 * bump(p, (0.0, -0.450, 0.030), (0.030, 0.040, 0.050))  # pit of the neck


def _nose(p: np.ndarray) -> np.ndarray:
    bridge = capsule(p, (0.0, 0.095, 0.224), (0.0, 0.012, 0.272), 0.016, 0.020)
    flank = capsule(p, (0.0, 0.060, 0.196), (0.0, -0.004, 0.228), 0.022, 0.043)
    nose = smooth_min(bridge, flank, 0.025)
    nose = smooth_min(nose, ellipsoid(p, (0.0, -0.003, 0.276), (0.027, 0.023, 0.030)), 0.025)  # tip
    # wing
    nose = smooth_min(nose, ellipsoid(p, (0.031, -0.018, 0.247), (0.018, 0.019, 0.026)), 0.022)
    # between the nostrils
    nose = smooth_min(nose, ellipsoid(p, (0.0, -0.020, 0.256), (0.012, 0.020, 0.030)), 0.016)
    return nose + 0.010 * bump(p, (0.019, -0.040, 0.262), (0.009, 0.008, 0.015))  # nostril


def _mouth(p: np.ndarray, d: np.ndarray) -> np.ndarray:
    x, y = p[:, 0], p[:, 1]
    s = x / MOUTH_HALF_WIDTH
    arch = np.maximum(1.0 - s * s, 0.0)
    line = mouth_line(x)
    front = smoothstep(p[:, 2], 0.12, 0.17)
    # Fullness of each lip as a function of the distance from the line between them.
    above, below = np.maximum(y - line, 0.0) / 0.0095, np.maximum(line - y, 0.0) / 0.0120
    bow = 1.0 - 0.22 * np.exp(-((s / 0.10) ** 2))
    upper = arch * bow * above * np.exp((1 - above**1.6) / 1.6)
    lower = arch**0.8 * below * np.exp((1 - below**1.6) / 1.6)
    d = d - front * (0.0100 * upper + 0.0115 * lower)
    # line
    d = d + 0.0065 * front * np.exp(-0.5 * ((y - line) / 0.0032) ** 2) * smoothstep(s, 1.12, 0.85)
    d = d + 0.0060 * bump(p, (0.0745, MOUTH_HEIGHT - 0.002, 0.205), (0.009, 0.010, 0.030))  # corner
    return d + 0.0035 * bump(p, (0.0, -0.058, 0.262), (0.0065, 0.013, 0.030))  # philtrum


def _eye(p: np.ndarray, d: np.ndarray) -> np.ndarray:
    away = p - EYEBALL
    distance = np.sqrt((away * away).sum(1))
    s, lower, upper = eye_lines(p[:, 0])
    # Signed height above the lower or below the upper lid edge: positive in the opening.
    inside = np.minimum(p[:, 1] - lower, upper - p[:, 1]) - 0.1 * np.maximum(np.abs(s) - 0.97, 0.0)
    opening = smoothstep(inside, -0.0014, 0.0010) * smoothstep(away[:, 2], 0.0, 0.008)
    crease = (
        0.0030
        * np.exp(-0.5 * ((p[:, 1] - upper - 0.0120) / 0.0032) ** 2)
        * np.maximum(1 - 0.8 * s * s, 0.0) ** 2
    )
    lids = distance - EYEBALL_RADIUS - LID_THICKNESS + crease
    ball = distance - EYEBALL_RADIUS
    covered = smooth_min(d, lids, 0.016)
    # In the opening nothing but the ball; the tissue around it is cut away.
    bare = np.maximum(ball, covered)
    return np.where(opening > 0, covered + opening * (bare - covered), covered)


EAR_CENTER = np.array([0.2050, 0.0420, -0.0120])
EAR_HALF_HEIGHT, EAR_HALF_BREADTH = 0.088, 0.048


def ear_plane(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coordinates of points [N, 3] (x >= 0) in the ear's oval: up, back and radius.

    The first two are 1 at its rim.
    """
    lean = 0.16  # radians that the ear's axis leans backwards
    y, z = points[:, 1] - EAR_CENTER[1], points[:, 2] - EAR_CENTER[2]
    up = (y * np.cos(lean) - z * np.sin(lean)) / EAR_HALF_HEIGHT
    back = (-z * np.cos(lean) - y * np.sin(lean)) / EAR_HALF_BREADTH
    back = back / (1.0 + 0.28 * np.clip(up, -1.0, 1.0))  # narrow at the lobe
    return up, back, np.hypot(up, back)


def ear_offset(points: np.ndarray) -> np.ndarray:  # [N, 3] -> [N, 3]
    """How far the bare side of the head is drawn out into an ear; for points with x >= 0.

    A displacement rather than a part of the implicit function: an ear hides its own back from rays
    out of the head.
    """
    up, back, radius = ear_plane(points)
    side = smoothstep(points[:, 0], 0.12, 0.15)
    oval = smoothstep(radius, 1.06, 0.76) * side
    height = 0.012 + 0.038 * smoothstep(back, -0.9, 0.75)  # the flange opens towards the back
    height = height * (1.0 - 0.40 * smoothstep(up, 0.35, 1.0) - 0.15 * smoothstep(up, -0.4, -1.0))
    rim = 0.008 * np.exp(-(((radius - 0.80) / 0.13) ** 2)) * smoothstep(back + 0.5 * up, -0.6, 0.1)
    concha = 0.024 * np.exp(-(((up + 0.12) / 0.30) ** 2) - ((back - 0.02) / 0.34) ** 2)
    scapha = 0.008 * np.exp(-(((up - 0.48) / 0.20) ** 2) - ((back - 0.10) / 0.40) ** 2)
    tragus = 0.007 * np.exp(-(((up + 0.14) / 0.16) ** 2) - ((back + 0.62) / 0.20) ** 2)
    direction = np.stack([0.86 + 0 * up, 0.02 * up, -0.24 * smoothstep(back, -0.4, 0.8)], axis=1)
    return (oval * (height + rim - concha - scapha + tragus))[:, None] * direction
