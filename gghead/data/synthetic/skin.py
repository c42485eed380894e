"""Paint of the skin, lips, brows and beard, as a function of the place on the neutral
template.

Painting by place instead of by texture makes every line as sharp as the picture allows, and lids
and lips carry their paint along when they move.
"""

import numpy as np

from gghead.data.synthetic.noise import bell, linear, noise, step
from gghead.data.synthetic.person import Person
from gghead.template.head_shape import MOUTH_HALF_WIDTH, MOUTH_HEIGHT, mouth_line

MOUTH_INSIDE = linear((70, 22, 22))

_BLUSH = np.array([0.05, -0.17, -0.15], np.float32)
_FRECKLE = np.array([0.55, 0.4, 0.3], np.float32)


# [3, N], [3] or [3, N], [N] -> [3, N]
def _over(base: np.ndarray, color: np.ndarray, amount: np.ndarray) -> np.ndarray:
    return base + (color.reshape(3, -1) - base) * amount


# [3, N] neutral places -> [N] in [0, 1]
def beard_mask(person: Person, points: np.ndarray) -> np.ndarray:
    """Where the beard grows, lips and eyes left out."""
    if person.beard == "none":
        return np.zeros(points.shape[1])
    x, y, z = np.abs(points[0]), points[1], points[2]
    ragged = 0.006 * noise(points[0] * 90 + person.seed, y * 90 + person.seed)
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
    place: np.ndarray,  # [3, N] on the neutral template
    opening: float,  # of the lips, world units
) -> tuple[np.ndarray, np.ndarray]:
    """Return linear RGB [3, N] and gloss [N] (strength of the highlight)."""
    x, y, z = np.abs(place[0]), place[1], place[2]
    seed = person.seed
    front = step(z, 0.08, 0.15)
    mottle = 0.5 * noise(place[0] * 22 + seed, y * 22 + z * 9) + 0.3 * noise(
        place[0] * 60 + seed, y * 60
    )
    color = person.skin[:, None] * np.exp(0.05 * mottle)

    red = 0.9 * bell((x - 0.105, 0.042), (y + 0.015, 0.040)) + 0.8 * bell(
        (x, 0.030), (y + 0.008, 0.022)
    )
    red = red + 0.3 * bell((x, 0.05), (y + 0.18, 0.03))
    red = person.redness * (red * front + 0.6 * step(x, 0.195, 0.215))
    color = color * (1 + red * _BLUSH[:, None])
    socket = bell((x - 0.072, 0.034), (y - 0.056, 0.010)) + 0.7 * bell(
        (x - 0.046, 0.016), (y - 0.080, 0.016)
    )
    color = color * (1 - 0.15 * (socket * front))
    if person.freckles:
        spots = step(noise(place[0] * 130 + seed, y * 130), 0.35, 0.7) * bell(
            (x - 0.06, 0.07), (y - 0.02, 0.04)
        )
        color = _over(color, person.skin * _FRECKLE, person.freckles * 0.7 * spots * front)
    gloss = 0.6 + 0.5 * bell((x, 0.05), (y - 0.01, 0.09)) * front

    # Everything else is painted where it can be alone.
    mouth = np.nonzero((front > 0) & (np.abs(y - MOUTH_HEIGHT) < 0.04) & (x < 0.08))[0]
    color[:, mouth] = _paint_lips(person, color[:, mouth], x[mouth], y[mouth], opening)
    lips = (np.abs(y[mouth] - mouth_line(x[mouth])) < 0.02) & (x[mouth] < MOUTH_HALF_WIDTH)
    gloss[mouth] = np.where(lips, 1.0, gloss[mouth])
    brows = np.nonzero((front > 0) & (np.abs(y - 0.125) < 0.05) & (x < 0.155))[0]
    color[:, brows] = _paint_brows(person, color[:, brows], place[0, brows], y[brows])
    beard = beard_mask(person, place)
    if beard.any():
        strands = noise(place[0] * 200 + seed, y * 60) * 0.25
        solid = {"stubble": 0.45}.get(person.beard, 1.0) * (0.55 + 0.45 * person.beard_density)
        color = _over(color, person.hair[:, None] * np.exp(strands) * 0.85, beard * solid)
        gloss = gloss * (1 - 0.8 * beard)
    return color, gloss


# face: [3, P], x and y: [P] -> [3, P]
def _paint_lips(
    person: Person, face: np.ndarray, x: np.ndarray, y: np.ndarray, opening: float
) -> np.ndarray:
    s = x / MOUTH_HALF_WIDTH
    arch = np.clip(1 - s * s, 0, 1)
    height = y - mouth_line(x)
    bow = 1 - 0.20 * bell((s, 0.13)) + 0.10 * bell((s - 0.25, 0.15))
    upper, lower = 0.0185 * arch**0.7 * bow, 0.0235 * arch**0.6
    border = np.where(height > 0, upper, lower)
    lips = step(np.abs(height), border + 0.002, border - 0.003) * step(s, 1.0, 0.93)
    face = _over(face, person.lips[:, None] * np.where(height > 0, 0.88, 1.0), 0.85 * lips)
    shut = step(np.float32(opening), 0.010, 0.002)
    gap = step(np.abs(height), 0.0034, 0.0020) * step(s, 1.05, 0.90) * shut
    face = _over(face, MOUTH_INSIDE * np.minimum(person.skin * 3, 1), 0.85 * gap)
    return face


# face: [3, P], x and y: [P] -> [3, P]
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
