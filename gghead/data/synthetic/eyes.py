"""Paint of the eyes: white, iris, pupil and highlight on the ball, and the lids' lashes."""

from dataclasses import dataclass

import numpy as np

from gghead.data.synthetic.noise import bell, linear, noise, step
from gghead.data.synthetic.person import Person
from gghead.template.head_shape import EYEBALL, EYEBALL_RADIUS, eye_lines

# plain floats keep the painting in single precision
EYE_X, EYE_Y = float(EYEBALL[0]), float(EYEBALL[1])
RADIUS = float(EYEBALL_RADIUS)
IRIS_RADIUS, PUPIL_RADIUS = 0.0168, 0.0066
SCLERA, CORNER = linear((242, 238, 234)), linear((216, 150, 140))
BLACK, GLINT = np.full((3, 1), 0.004, np.float32), np.full((3, 1), 1.35, np.float32)
_GLINT_AT = (0.0040, 0.0066)  # right and up from the middle of the iris, world units


@dataclass(frozen=True)
class Eyes:
    """Where the balls are on a person and where they look."""

    centers: np.ndarray  # [2, 3] world, left and right, float32
    gaze: np.ndarray  # [3] unit, float32


def gaze_direction(yaw: float, pitch: float) -> np.ndarray:  # [3]
    """Direction of a gaze: radians to the subject's left and upwards."""
    level = np.cos(pitch)
    return np.array([np.sin(yaw) * level, np.sin(pitch), np.cos(yaw) * level], np.float32)


def find_samples(place: np.ndarray) -> np.ndarray:  # [3, P] neutral -> [P'] indices
    """Return the samples near the eyes."""
    x = np.abs(place[0])
    return np.nonzero(
        (place[2] > 0.1) & (np.abs(place[1] - EYE_Y) < 0.045) & (np.abs(x - EYE_X) < 0.055)
    )[0]


def directions(eyes: Eyes, place: np.ndarray, world: np.ndarray) -> np.ndarray:  # [3, P] unit
    """Direction of samples from the middle of their eyeball."""
    away = world - eyes.centers[np.where(place[0] > 0, 0, 1)].T
    return away / np.sqrt(away[0] ** 2 + away[1] ** 2 + away[2] ** 2 + 1e-12)


def _lines(place: np.ndarray) -> tuple[np.ndarray, ...]:  # [P] each, single precision
    return tuple(line.astype(np.float32) for line in eye_lines(np.abs(place[0])))


def opening(place: np.ndarray, blink: tuple[float, float]) -> np.ndarray:  # [P] in [0, 1]
    """Where the ball shows between the lids; `blink` is that of the left and the right eye."""
    s, lower, upper = _lines(place)
    y = place[1]
    # The slit that lids leave when they meet belongs to the lashes.
    left, right = (float(np.interp(weight, [0.75, 0.95], [1.0, 0.0])) for weight in blink)
    parted = np.where(place[0] > 0, np.float32(left), np.float32(right))
    edge = step(np.minimum(y - lower, upper - y), -0.0006, 0.0008)
    return edge * (np.abs(s) < 1) * parted


def lid_rim(place: np.ndarray) -> np.ndarray:  # [P] in [0, 1]
    """The thin walls between ball and lids, widest at the inner corner."""
    s, lower, upper = _lines(place)
    y = place[1]
    return step(np.abs(s), 1.12, 1.0) * step(np.maximum(lower - y, y - upper), 0.004, 0.001)


def paint_ball(person: Person, eyes: Eyes, place: np.ndarray, ball: np.ndarray) -> np.ndarray:
    """Return linear RGB [3, P] of the ball, from the places [3, P] and directions [3, P]."""
    s, lower, upper = _lines(place)
    y = place[1]
    inner = step(s, -0.70, -0.96)
    white = SCLERA[:, None] + (CORNER - SCLERA)[:, None] * (0.8 * inner)
    white = white * (1 - 0.22 * step(np.abs(s), 0.55, 1.0))
    # The iris is a disc about the gaze, not about the lids: round whatever the face does.
    right = np.array([eyes.gaze[2], 0.0, -eyes.gaze[0]], np.float32)
    right /= np.sqrt(right[0] ** 2 + right[2] ** 2)
    up = np.cross(eyes.gaze, right)
    across, above, ahead = (
        RADIUS * (ball[0] * axis[0] + ball[1] * axis[1] + ball[2] * axis[2])
        for axis in (right, up, eyes.gaze)
    )
    away = np.hypot(across, above) + np.where(ahead > 0, 0.0, 1.0).astype(np.float32)
    spokes = noise(np.arctan2(above, across) * 7 + person.seed, away * 160)
    iris = person.iris[:, None] * (1.15 + 0.30 * spokes)
    iris = iris * (0.60 + 0.75 * step(away, PUPIL_RADIUS, 0.0125))
    iris = iris * (1 - 0.72 * step(away, 0.0125, IRIS_RADIUS - 0.0006))
    # light gathers in the lower half
    iris = iris * (1 + 0.45 * step(above, 0.004, -0.010))
    eye = _over(white, iris, step(away, IRIS_RADIUS + 0.0009, IRIS_RADIUS - 0.0009))
    eye = _over(eye, BLACK, step(away, PUPIL_RADIUS + 0.0008, PUPIL_RADIUS - 0.0008))
    # the upper lid's shadow, fainter under the lower one
    eye = eye * (1 - 0.50 * step(upper - y, 0.0085, 0.0) - 0.15 * step(y - lower, 0.003, 0.0))
    glint = np.hypot(across - _GLINT_AT[0], above - _GLINT_AT[1])
    second = np.hypot(across + 0.0050, above + 0.0062)
    eye = _over(eye, GLINT, step(glint, 0.0036, 0.0022) * (ahead > 0))
    return _over(eye, GLINT, 0.25 * step(second, 0.0026, 0.0010) * (ahead > 0))


def paint_lids(person: Person, face: np.ndarray, place: np.ndarray) -> np.ndarray:  # [3, P]
    """Draw crease, lashes and the wet rim of the lids on the painted face [3, P]."""
    y = place[1]
    s, lower, upper = _lines(place)
    inside = step(np.abs(s), 1.08, 0.95)
    crease = bell((y - upper - 0.0125, 0.0022)) * inside * step(np.abs(s), 1.0, 0.7)
    face = face * (1 - 0.38 * crease)
    bag = bell((y - lower + 0.0125, 0.0035)) * step(np.abs(s), 1.0, 0.5)
    face = face * (1 - (0.06 + 0.16 * person.age) * bag)
    pink = person.skin * (CORNER / SCLERA) ** 0.6
    rim = np.maximum(0.4 * bell((y - lower + 0.0012, 0.0011)) * inside, step(s, -0.85, -0.99))
    face = _over(face, pink[:, None], 0.8 * rim * lid_rim(place))
    # hairs that lean outwards, over a line along the edge
    hairs = noise(place[0] * 520 - (y - upper) * 200 * np.sign(place[0]) + person.seed, s)
    reach = 0.0030 + 0.0055 * step(s, -0.9, 0.9) * (0.6 + 0.4 * hairs)
    above = y - upper
    line = bell((above - 0.0004, 0.0022))
    fringe = step(above, reach, reach * 0.4) * step(above, -0.002, 0.0) * step(hairs, -0.25, 0.35)
    lash = np.maximum(line, 0.85 * fringe * person.lashes)
    lash = (
        lash * step(np.abs(s), 1.14, 1.0) * step(s, -1.0, -0.70) * (0.75 + 0.25 * step(s, 0, 0.6))
    )
    low = bell((y - lower + 0.0018, 0.0013)) * inside * step(s, -0.9, -0.5) * (0.35 + 0.25 * hairs)
    lash = np.maximum(lash, low)
    dark = np.minimum(person.brows, 0.02)[:, None]
    return _over(face, dark, np.minimum((0.35 + 0.65 * person.lashes) * lash, 1.0))


def _over(base: np.ndarray, color: np.ndarray, amount: np.ndarray) -> np.ndarray:
    return base + (color - base) * amount
