"""What the head knows about itself: landmarks and soft regions.

Everything is a smooth function of the neutral vertices, written for the half x >= 0 (the subject's
left) and mirrored.
"""

import numpy as np

from gghead.template.head_shape import (
    EAR_CENTER,
    EYE_INNER,
    EYE_OUTER,
    EYEBALL,
    MOUTH_HALF_WIDTH,
    MOUTH_HEIGHT,
    ear_plane,
    eye_lines,
    mouth_line,
    smoothstep,
)


# [..., 3] neutral positions
def eye_plane(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(s, t, r), each [...]: place on the eye nearest to a neutral surface point, for drawing eyes.

    s is -1 at the inner and 1 at the outer corner; t is -1 on the lower and 1 on the upper lid's
    edge (|s|, |t| < 1 is the opening; t > 1 or t < -1 lies on a lid, clipped to +-20); r is the
    distance in the frontal plane from the pupil's center (iris about 0.0155, pupil about 0.007).
    """
    points = np.asarray(points)
    x = np.abs(points[..., 0])
    s, lower, upper = eye_lines(x)
    t = (2 * points[..., 1] - upper - lower) / np.maximum(upper - lower, 1e-4)
    return s, np.clip(t, -20, 20), np.hypot(x - EYEBALL[0], points[..., 1] - EYEBALL[1])


def lip_plane(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # [..., 3] neutral positions
    """(s, t): s is 0 in the middle and +-1 at the corners of the mouth.

    t is 1 on the upper lip's upper border, 0 on the line between the lips and -1 on the lower lip's
    lower border.
    """
    points = np.asarray(points)
    x = np.abs(points[..., 0])
    s = x / MOUTH_HALF_WIDTH
    arch = np.sqrt(np.clip(1.0 - s * s, 1e-4, 1.0))
    height = points[..., 1] - mouth_line(x)
    bow = 1.0 - 0.20 * np.exp(-((s / 0.12) ** 2))
    t = np.where(height > 0, height / (0.0200 * arch * bow), height / (0.0245 * arch))
    return np.sign(points[..., 0]) * s, np.clip(t, -20, 20)


def brow_plane(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # [..., 3] neutral positions
    """(s, t) of the nearer brow.

    s is 0 at its inner and 1 at its outer end, t is +-1 on its upper and lower border.
    """
    points = np.asarray(points)
    s = (np.abs(points[..., 0]) - 0.034) / 0.108
    along = np.clip(s, 0.0, 1.0)
    middle = 0.1340 + 0.0150 * np.sin(2.5 * along) - 0.0040 * along
    return s, (points[..., 1] - middle) / (0.0085 * (1.0 - 0.55 * along**1.5))


def frontal(points: np.ndarray, low: float = 0.08, high: float = 0.13) -> np.ndarray:
    """1 on the side of the face, 0 behind; soft between the depths ``low`` and ``high``."""
    return smoothstep(points[:, 2], low, high)


def regions(points: np.ndarray) -> dict[str, np.ndarray]:  # name -> [V] in [0, 1]
    """Soft weights of the regions, small ones first.

    scalp, face, neck and ears sum to one. The others lie inside the face.

    "scalp" is the cap that hair covers, "mouth" the inside edge of the lips that an open jaw bares.
    """
    p = np.concatenate([np.abs(points[:, :1]), points[:, 1:]], axis=1)
    x, y, z = p.T
    s, t, _ = eye_plane(p)
    eyes = smoothstep(np.abs(t), 1.10, 0.85) * smoothstep(np.abs(s), 1.04, 0.97) * frontal(p)
    lip_s, lip_t = lip_plane(p)
    lips = (
        smoothstep(np.abs(lip_t), 1.12, 0.90) * smoothstep(np.abs(lip_s), 1.04, 0.96) * frontal(p)
    )
    inner = (
        smoothstep(np.abs(y - mouth_line(x)), 0.0042, 0.0022)
        * smoothstep(np.abs(lip_s), 0.97, 0.88)
        * frontal(p)
    )
    brow_s, brow_t = brow_plane(p)
    brows = (
        smoothstep(np.abs(brow_t), 1.35, 0.75)
        * smoothstep(np.abs(brow_s - 0.5), 0.56, 0.44)
        * frontal(p)
    )
    _, _, radius = ear_plane(p)
    ears = smoothstep(radius, 1.12, 0.94) * smoothstep(x, 0.12, 0.15)
    # The hairline: over the forehead, down the temple in front of the ear, behind the ear down to
    # the nape.
    depths, heights = (
        [-0.14, -0.07, 0.0, 0.05, 0.11, 0.17, 0.22],
        [
            -0.115,
            -0.03,
            0.035,
            0.075,
            0.19,
            0.255,
            0.275,
        ],
    )
    hairline = np.interp(z, depths, heights)
    scalp = smoothstep(y - hairline, -0.012, 0.012) * (1.0 - ears)
    chin = np.interp(
        z, [-0.12, -0.05, 0.03, 0.10, 0.16, 0.20], [-0.02, -0.07, -0.15, -0.205, -0.213, -0.213]
    )
    behind = smoothstep(z, -0.055, -0.025)
    below = smoothstep(y - chin, -0.012, 0.008)
    face = below * behind * (1.0 - scalp - ears)
    neck = np.clip(1.0 - scalp - face - ears, 0.0, 1.0)
    return {
        "mouth": inner,
        "lips": lips,
        "eyes": eyes,
        "brows": brows,
        "ears": ears,
        "scalp": scalp,
        "face": face,
        "neck": neck,
    }


def landmarks(points: np.ndarray) -> dict[str, np.ndarray]:  # name -> [3]
    """Named places: on the surface at given frontal positions, eyeball centers inside.

    Left is +x.
    """
    s, lower, upper = eye_lines(np.array([EYEBALL[0]]))
    chosen = {
        "NoseTip": (0.0, 0.000),
        "NoseBridge": (0.0, 0.085),
        "NoseBase": (0.0, -0.042),
        "Glabella": (0.0, 0.130),
        "UpperLip": (0.0, MOUTH_HEIGHT + 0.0165),
        "MouthCentre": (0.0, MOUTH_HEIGHT - 0.0025),
        "LowerLip": (0.0, MOUTH_HEIGHT - 0.0265),
        "Chin": (0.0, -0.185),
        "Forehead": (0.0, 0.240),
        "EyeInner": tuple(EYE_INNER),
        "EyeOuter": tuple(EYE_OUTER),
        "LidTop": (EYEBALL[0], upper[0]),
        "LidBottom": (EYEBALL[0], lower[0]),
        "Pupil": (EYEBALL[0], EYEBALL[1]),
        "BrowInner": (0.036, 0.134),
        "BrowMiddle": (0.088, 0.147),
        "BrowOuter": (0.140, 0.138),
        "MouthCorner": (MOUTH_HALF_WIDTH, MOUTH_HEIGHT - 0.0015),
        "NoseWing": (0.044, -0.020),
        "Cheek": (0.110, 0.010),
    }
    front = points[:, 2] > 0.1
    marks = {}
    for name, (x, y) in chosen.items():
        distance = np.where(front, (points[:, 0] - x) ** 2 + (points[:, 1] - y) ** 2, np.inf)
        near = np.argsort(distance, kind="stable")[:4]
        weight = 1.0 / (distance[near] + 1e-8)
        marks[name] = np.array([x, y, float(points[near, 2] @ weight / weight.sum())])
    marks["EyeCentre"] = EYEBALL.copy()
    marks["Ear"] = EAR_CENTER.copy()
    top = points[points[:, 1].argmax()]
    marks["Crown"] = np.array([0.0, top[1], top[2]])
    back = points[points[:, 2].argmin()]
    marks["Occiput"] = np.array([0.0, back[1], back[2]])
    result = {}
    for name, point in marks.items():
        camel = name[0].lower() + name[1:]
        if point[0] == 0.0:
            result[camel] = np.round(point, 6)
        else:
            result[camel + "Left"] = np.round(point, 6)
            result[camel + "Right"] = np.round(point * np.array([-1.0, 1.0, 1.0]), 6)
    return result
