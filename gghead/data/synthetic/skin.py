"""Paint of the skin, eyes, lips, brows and beard.

It is a function of the place on the neutral template.

Painting by place instead of by texture makes every line as sharp as the picture allows, and lids
and lips carry their paint along when they move.
"""

import numpy as np

from gghead.data.synthetic.noise import bell, linear, noise, step
from gghead.data.synthetic.person import Person
from gghead.template.head_shape import EYEBALL, MOUTH_HALF_WIDTH, eye_lines, mouth_line

# plain floats keep the painting in single precision
EYE_X, EYE_Y = float(EYEBALL[0]), float(EYEBALL[1])
BLACK, GLINT = np.full(3, 0.005, np.float32), np.full(3, 1.2, np.float32)
IRIS_RADIUS, PUPIL_RADIUS = 0.0160, 0.0068
SCLERA, MOUTH_INSIDE, TEETH = linear((232, 224, 218)), linear((70, 22, 22)), linear((206, 198, 186))

_BLUSH = np.array([0.05, -0.17, -0.15], np.float32)
_FRECKLE = np.array([0.55, 0.4, 0.3], np.float32)


def _over(base: np.ndarray, color: np.ndarray, amount: np.ndarray) -> np.ndarray:
    return base + (color - base) * amount[:, None]


# [N, 3] neutral places -> [N] in [0, 1]
def beard_mask(person: Person, points: np.ndarray) -> np.ndarray:
    """Where the beard grows, lips and eyes left out."""
    if person.beard == "none":
        return np.zeros(len(points))
    x, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    ragged = 0.006 * noise(points[:, 0] * 90 + person.seed, y * 90 + person.seed)
    # The upper edge: from the sideburn in front of the ear down to the corner of the mouth.
    edge = np.interp(
        x, [0.0, 0.060, 0.085, 0.150, 0.200], [-0.125, -0.112, -0.092, -0.040, 0.060]
    ).astype(x.dtype)
    beard = step(edge - y + ragged, -0.006, 0.012) * step(y, -0.245, -0.222) * step(z, -0.005, 0.03)
    lip_top = mouth_line(x) + 0.019
    moustache = (
        step(y, lip_top - 0.006, lip_top + 0.002)
        * step(y, -0.038, -0.050)
        * step(x + ragged, 0.085, 0.070)
    )
    around_mouth = step(x + ragged, 0.088, 0.075)
    return {
        "moustache": moustache,
        "goatee": np.maximum(moustache, beard * around_mouth),
        "stubble": np.maximum(0.8 * moustache, beard),
        "full": np.maximum(moustache, beard),
    }[person.beard] * step(z, -0.01, 0.02)


def paint(
    person: Person,
    place: np.ndarray,  # [N, 3] on the neutral template
    posed: np.ndarray,  # [N, 2] the same (x, y) after the expression
    mouth_open: float,  # 0..1, shows the teeth
) -> tuple[np.ndarray, np.ndarray]:
    """Return linear RGB [N, 3] and gloss [N] (strength of the highlight)."""
    x, y, z = np.abs(place[:, 0]), place[:, 1], place[:, 2]
    seed = person.seed
    front = step(z, 0.08, 0.15)
    mottle = 0.5 * noise(place[:, 0] * 22 + seed, y * 22 + z * 9) + 0.3 * noise(
        place[:, 0] * 60 + seed, y * 60
    )
    color = person.skin * np.exp(0.05 * mottle)[:, None]

    red = 0.9 * bell((x - 0.105, 0.042), (y + 0.015, 0.040)) + 0.8 * bell(
        (x, 0.030), (y + 0.008, 0.022)
    )
    red = red + 0.3 * bell((x, 0.05), (y + 0.18, 0.03))
    red = person.redness * (red * front + 0.6 * step(x, 0.195, 0.215))
    color = color * (1 + red[:, None] * _BLUSH)
    socket = bell((x - 0.072, 0.034), (y - 0.056, 0.010)) + 0.7 * bell(
        (x - 0.046, 0.016), (y - 0.080, 0.016)
    )
    color = color * (1 - 0.15 * (socket * front))[:, None]
    if person.freckles:
        spots = step(noise(place[:, 0] * 130 + seed, y * 130), 0.35, 0.7) * bell(
            (x - 0.06, 0.07), (y - 0.02, 0.04)
        )
        color = _over(color, person.skin * _FRECKLE, person.freckles * 0.7 * spots * front)
    gloss = 0.6 + 0.5 * bell((x, 0.05), (y - 0.01, 0.09)) * front

    near = np.nonzero(front > 0)[0]  # everything else is painted on the face alone
    fx, fy = x[near], y[near]
    face, shine = color[near], gloss[near]
    face = _paint_lips(person, face, fx, fy, mouth_open)
    lips = np.abs(fy - mouth_line(fx)) < 0.02
    shine = np.where(lips & (fx < MOUTH_HALF_WIDTH), 1.0, shine)
    face = _paint_brows(person, face, place[near, 0], fy)
    color[near] = face
    beard = beard_mask(person, place)
    if beard.any():
        strands = noise(place[:, 0] * 200 + seed, y * 60) * 0.25
        solid = {"stubble": 0.45}.get(person.beard, 1.0) * (0.55 + 0.45 * person.beard_density)
        color = _over(color, person.hair * np.exp(strands)[:, None] * 0.85, beard * solid)
        gloss = gloss * (1 - 0.8 * beard)
        shine = gloss[near]
        face = color[near]
    color[near], gloss[near] = _paint_eyes(person, face, shine, place[near], posed[near])
    return color, gloss


# face: [P, 3], x and y: [P] -> [P, 3]
def _paint_lips(
    person: Person, face: np.ndarray, x: np.ndarray, y: np.ndarray, mouth_open: float
) -> np.ndarray:
    s = x / MOUTH_HALF_WIDTH
    arch = np.clip(1 - s * s, 0, 1)
    height = y - mouth_line(x)
    bow = 1 - 0.20 * bell((s, 0.13)) + 0.10 * bell((s - 0.25, 0.15))
    upper, lower = 0.0185 * arch**0.7 * bow, 0.0235 * arch**0.6
    border = np.where(height > 0, upper, lower)
    lips = step(np.abs(height), border + 0.002, border - 0.003) * step(s, 1.0, 0.93)
    face = _over(face, person.lips * np.where(height > 0, 0.88, 1.0)[:, None], 0.85 * lips)
    gap = step(np.abs(height), 0.0034, 0.0020) * step(s, 1.05, 0.90)
    face = _over(face, MOUTH_INSIDE * np.minimum(person.skin * 3, 1), 0.85 * gap)
    if mouth_open > 0.08:
        teeth = step(height, 0.0002, 0.0010) * step(height, 0.0034, 0.0022) * step(s, 0.85, 0.45)
        face = _over(face, TEETH, teeth * min(0.9, 3 * (mouth_open - 0.08)))
    return face


# face: [P, 3], x and y: [P] -> [P, 3]
def _paint_brows(
    person: Person, face: np.ndarray, signed_x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    x = np.abs(signed_x)
    t = np.clip((x - 0.030) / 0.115, 0, 1)  # 0 at the inner, 1 at the outer end
    middle = (
        0.121 + 0.009 * np.sin(np.pi * t) + person.brow_arch * bell((t - 0.62, 0.22)) - 0.007 * t
    )
    half = (
        person.brow_thickness * (0.35 + 0.65 * step(t, 0.0, 0.15)) * (1 - 0.75 * step(t, 0.55, 1.0))
    )
    hairs = 0.80 + 0.20 * noise(signed_x * 330 + y * 200 + person.seed, y * 110)
    brow = (
        step(np.abs(y - middle), half * 1.35, half * 0.55)
        * hairs
        * step(x, 0.027, 0.036)
        * step(x, 0.150, 0.140)
    )
    return _over(face, person.brows, 0.9 * brow)


# [P, 3], [P], [P, 3], [P, 3] -> [P, 3], [P]
def _paint_eyes(
    person: Person, face: np.ndarray, gloss: np.ndarray, place: np.ndarray, posed: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.abs(place[:, 0]), place[:, 1]
    s, lower, upper = eye_lines(x)
    opening = step(np.minimum(y - lower, upper - y), -0.0006, 0.0008) * (np.abs(s) < 1)
    white = (
        SCLERA
        * (1 - 0.35 * step(np.abs(s), 0.5, 1.0) - 0.40 * step(upper - y, 0.006, 0.0))[:, None]
    )
    # The iris sits on the ball, not on the lids: the expression's motion of the lids does not carry
    # it along.
    away = np.hypot(np.abs(posed[:, 0]) - EYE_X, posed[:, 1] - EYE_Y - 0.002)
    spokes = 1 + 0.25 * noise(
        np.arctan2(posed[:, 1] - EYE_Y, np.abs(posed[:, 0]) - EYE_X) * 5, away * 200
    )
    iris = person.iris[None] * (spokes * (0.65 + 0.8 * step(away, PUPIL_RADIUS, 0.013)))[:, None]
    iris = (
        iris
        * ((1 - 0.55 * step(away, 0.0125, IRIS_RADIUS)) * (1 - 0.3 * step(upper - y, 0.008, 0.0)))[
            :, None
        ]
    )
    eye = _over(white, iris, step(away, IRIS_RADIUS + 0.0012, IRIS_RADIUS - 0.0012))
    eye = _over(eye, BLACK, step(away, PUPIL_RADIUS + 0.001, PUPIL_RADIUS - 0.001))
    glint = np.hypot(
        posed[:, 0] - np.sign(posed[:, 0]) * EYE_X - 0.005, posed[:, 1] - EYE_Y - 0.0085
    )
    eye = _over(eye, GLINT, step(glint, 0.0038, 0.0022))
    face = _over(face, eye, opening)
    inside = step(np.abs(s), 1.08, 0.95)
    crease = bell((y - upper - 0.0125, 0.0022)) * inside * step(np.abs(s), 1.0, 0.7)
    face = face * (1 - 0.35 * crease)[:, None]
    lash = (
        bell((y - upper - 0.0008, 0.0024))
        * step(np.abs(s), 1.12, 1.0)
        * (0.7 + 0.3 * step(s, -0.8, 0.6))
    )
    lash = np.maximum(lash, 0.45 * bell((y - lower + 0.0008, 0.0016)) * inside)
    face = _over(face, np.minimum(person.brows, 0.03), np.minimum(person.lashes * lash, 1.0))
    return face, np.where(opening > 0.5, 0.3, gloss)
