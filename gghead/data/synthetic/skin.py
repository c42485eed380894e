"""Paint of the skin, lips, brows and beard, as a function of the place on the neutral template.

Painting by place instead of by texture makes every line as sharp as the image allows, and lids
and lips carry their paint along when they move.
"""

import numpy as np

from gghead.data.synthetic.noise import bell, linear, noise, power, step
from gghead.data.synthetic.person import Person
from gghead.template.head_shape import MOUTH_HALF_WIDTH, MOUTH_HEIGHT, mouth_line

MOUTH_INSIDE = linear((70, 22, 22))

_BLUSH = np.array([0.05, -0.17, -0.15], np.float32)
_SHADE = np.array([0.20, 0.12, 0.10], np.float32)
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
        * step(y + 0.12 * x + 2.5 * x * x - ragged, -0.036, -0.048)
        * step(x + ragged, 0.085, 0.070)
    )
    around_mouth = step(x + ragged, 0.085 + 0.15 * np.minimum(y + 0.13, 0), 0.070)
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
    expression: dict[str, float],  # deepens wrinkles
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
        spots = step(noise(place[0] * 210 + seed, y * 210), 0.40, 0.75) * bell(
            (x - 0.06, 0.07), (y - 0.02, 0.04)
        )
        color = _over(color, person.skin * _FRECKLE, person.freckles * 0.7 * spots * front)
    color = color * (1 - _wrinkles(person, expression, place) * front)
    # the nostrils
    hole = bell((x - 0.0195, 0.0070), (y + 0.0385, 0.0048)) * step(z, 0.20, 0.23)
    color = _over(color, person.skin * _SHADE, 0.85 * hole)
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
        if person.beard == "stubble":
            beard = beard * (0.75 + 0.45 * noise(place[0] * 420 + seed, y * 420))
        solid = {"stubble": 0.45}.get(person.beard, 1.0) * (0.55 + 0.45 * person.beard_density)
        color = _over(color, person.hair[:, None] * np.exp(strands) * 0.85, beard * solid)
        gloss = gloss * (1 - 0.8 * beard)
    return color, gloss


# [N] in [0, 1): how much darker
def _wrinkles(person: Person, expression: dict[str, float], place: np.ndarray) -> np.ndarray:
    """Lines of age and of the expression.

    They lie on the forehead, between the brows, at the outer corners of the eyes, from nose to
    mouth and below its corners.
    """
    x, y = np.abs(place[0]), place[1]

    def strongest(*names: str) -> float:
        return max(expression.get(name, 0.0) for name in names)

    smile = strongest("mouthSmileLeft", "mouthSmileRight", "noseSneerLeft", "noseSneerRight")
    age = person.age * person.age
    wobble = noise(place[0] * 14 + person.seed, y * 8)
    total = np.zeros_like(x)
    raised = 0.7 * strongest("browInnerUp", "browOuterUpLeft", "browOuterUpRight")
    # four lines across the forehead, bent and broken
    rows = np.cos((y + 0.006 * wobble + 0.10 * x * x) * (2 * np.pi / 0.024))
    area = bell((x, 0.085), (y - 0.210, 0.034))
    total += (0.16 * age + 0.18 * raised) * power(np.maximum(rows, 0), 4) * area
    frown = 0.35 * age + strongest("browDownLeft", "browDownRight")
    total += 0.22 * frown * bell((x - 0.0115 - 0.05 * (y - 0.135), 0.0028), (y - 0.138, 0.013))
    # rays from the outer corner of the eye
    across, up = x - 0.118, y - 0.0845
    rays = np.cos(np.arctan2(up, np.maximum(across, 1e-4)) * 9.0)
    fan = bell((across - 0.024, 0.009), (up, 0.018)) * step(across, 0.008, 0.016)
    total += (0.24 * age + 0.10 * smile) * power(np.maximum(rays, 0), 4) * fan
    # from the wing of the nose past the corner of the mouth, then down
    t = np.clip((-0.018 - y) / 0.085, 0, 1)
    fold = x - (0.050 + 0.040 * t**1.3)
    ends = step(y, -0.108, -0.085) * step(y, -0.010, -0.026)
    total += (0.05 + 0.20 * age + 0.20 * smile) * bell((fold, 0.0045)) * ends
    corner = bell((x - 0.080 - 0.1 * (y + 0.12), 0.0035), (y + 0.128, 0.014))
    return total + 0.20 * age * corner


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
    shut = float(np.interp(opening, [0.002, 0.010], [1.0, 0.0]))
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
