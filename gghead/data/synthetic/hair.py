"""Hair as a shell around the head.

Its edge (hairline, fringe, tips) is cut per pixel, strand by strand.

The shell has two coordinates. ``s`` runs down: it is the polar angle (radians from straight up,
seen from ``CENTER``) as far as the equator, and from there goes on vertically, ``DROP`` units per
radian. ``phi`` is the azimuth, 0 in front, positive to the subject's left. A haircut is the line
``s_line(phi)`` down to which there is hair.
"""

from dataclasses import dataclass

import numpy as np

from gghead.data.synthetic.noise import bell, ring, step
from gghead.data.synthetic.person import Person

# worn down over the ears; a shell that follows curls; without hair on the shell at all
LONG = ("long", "wavy", "bob", "parted")
CURLY = ("afro", "curly")
SHAVED = ("bald", "buzz")
TIED = ("bun", "topknot", "ponytail", "pigtails")

CENTER = np.array([0.0, 0.10, -0.03])
DROP = 0.25
EQUATOR = np.pi / 2
COLUMNS, DOME_ROWS, CURTAIN_ROWS = 48, 16, 14
END = EQUATOR + 2.3


@dataclass(frozen=True)
class Shell:
    """The neutral shell on the scalp, before a haircut gives it thickness."""

    s: np.ndarray  # [V]
    phi: np.ndarray  # [V] from -pi to pi; the two columns at the back share their place
    # [V, 3] outwards from the center (dome) or from the vertical axis (curtain)
    directions: np.ndarray
    origins: np.ndarray  # [V, 3]
    # [V] distance of the scalp along the direction; the curtain keeps that of the rim
    hanging: np.ndarray
    fitting: np.ndarray  # [V] the same, but below the rim the distance of the nape
    faces: np.ndarray  # [F, 3] counter-clockwise seen from outside


def coordinates(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # [N, 3] -> s [N], phi [N]
    """Return the shell coordinates of neutral points."""
    away = points - CENTER.astype(points.dtype)  # painting stays in single precision
    flat = np.hypot(away[:, 0], away[:, 2])
    dome = np.arctan2(flat, away[:, 1])
    return np.where(away[:, 1] > 0, dome, EQUATOR - away[:, 1] / DROP), np.arctan2(
        away[:, 0], away[:, 2]
    )


def build_shell(head: np.ndarray) -> Shell:  # [N, 3] neutral head vertices
    """Return the shell that wraps the scalp and hangs down from its widest rim.

    The ears are left out.
    """
    rows = np.concatenate(
        [np.linspace(0.02, EQUATOR, DOME_ROWS), np.linspace(EQUATOR, END, CURTAIN_ROWS + 1)[1:]]
    )
    columns = np.linspace(-np.pi, np.pi, COLUMNS + 1)
    s, phi = (grid.ravel() for grid in np.meshgrid(rows, columns, indexing="ij"))
    angle = np.minimum(s, EQUATOR)
    directions = np.stack(
        [np.sin(angle) * np.sin(phi), np.cos(angle), np.sin(angle) * np.cos(phi)], -1
    )
    origins = CENTER - np.stack(
        [np.zeros_like(s), np.maximum(s - EQUATOR, 0) * DROP, np.zeros_like(s)], -1
    )

    scalp = head[(head[:, 1] > 0.0) & (np.abs(head[:, 0]) < 0.222)] - CENTER
    reach = np.sqrt((scalp**2).sum(1))
    cosine = np.einsum("ik,jk->ij", directions, scalp / reach[:, None])
    near = np.exp((cosine - 1) / (2 * np.radians(3.0) ** 2) * 2)
    radius = (near * reach).sum(1) / np.maximum(near.sum(1), 1e-12)
    hanging = radius.reshape(len(rows), -1).copy()
    hanging[DOME_ROWS:] = hanging[DOME_ROWS - 1]

    below = head[(np.abs(head[:, 0]) < 0.222) & (head[:, 1] < 0.2)]
    turn = np.arctan2(below[:, 0], below[:, 2] - CENTER[2])
    curtain = s > EQUATOR
    aside = (phi[curtain, None] - turn + np.pi) % (2 * np.pi) - np.pi
    lower = origins[curtain, 1:2] - below[:, 1]
    near = np.exp(-0.5 * ((aside / 0.12) ** 2 + (lower / 0.03) ** 2))
    fitting = hanging.ravel().copy()
    fitting[curtain] = (near * np.hypot(below[:, 0], below[:, 2] - CENTER[2])).sum(1) / np.maximum(
        near.sum(1), 1e-12
    )
    fitting = np.where(curtain & (s > EQUATOR + 1.6), hanging.ravel(), fitting)
    index = np.arange(len(s)).reshape(len(rows), -1)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    faces = np.concatenate(
        [np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)]
    )
    return Shell(s, phi, directions, origins, hanging.ravel(), fitting, faces)


def _knots(person: Person) -> tuple[list[float], list[float]]:
    """The haircut as knots (|phi|, s_line).

    What is smooth or ragged is added elsewhere.
    """
    front = 0.92 + person.hairline
    tips = EQUATOR + (CENTER[1] - person.hair_length) / DROP
    over_ear, sideburn, nape = EQUATOR - 0.03, EQUATOR + 0.34, EQUATOR + 0.85
    style = person.hair_style
    if style in ("long", "wavy", "bob"):
        return [0, 0.45, 0.80, 0.95, 1.10, np.pi], [
            front - 0.02,
            front,
            1.12,
            tips - 0.1,
            tips,
            tips,
        ]
    if style == "parted":
        return [0, 0.50, 0.72, 0.84, 0.96, np.pi], [
            front,
            front + 0.22,
            1.45,
            tips - 0.1,
            tips,
            tips,
        ]
    short_sides = [0.62, 0.92, 1.10, 1.27, 1.42, 1.72, 2.00, np.pi]
    receding = style in ("buzz", "crop", "quiff", "swept", "mohawk", "horseshoe")
    temple = front - (0.14 if receding else 0.05)
    sides = [temple, 1.30, sideburn, sideburn, over_ear, over_ear, nape - 0.1, nape]
    if style == "fringe":
        return [0, 0.40, *short_sides], [1.36, 1.36, 1.34, 1.42, *sides[2:]]
    if style in CURLY:
        sides[4:6] = [EQUATOR + 0.12] * 2
    return [0, 0.30, *short_sides], [front, front, *sides]


def line(person: Person, phi: np.ndarray) -> np.ndarray:
    """Return ``s_line``, smooth in ``phi``."""
    knots, values = _knots(person)
    return np.interp(np.abs(phi), knots, values).astype(phi.dtype)


def thickness(person: Person, s: np.ndarray, phi: np.ndarray) -> np.ndarray:
    """Return the height of the shell over the scalp; tapers to nothing at the line."""
    style, seed = person.hair_style, person.seed
    volume = {
        "bald": 0.0,
        "horseshoe": 0.008,
        "crop": 0.010,
        "afro": 0.085,
        "curly": 0.050,
        "mohawk": 0.0,
        **dict.fromkeys(TIED, 0.010),
    }
    height = np.full_like(s, volume.get(style, person.hair_volume))
    if style == "afro":
        height = height + 0.9 * person.hair_volume
    top = bell((s - 0.45, 0.55))
    front = np.cos(phi) * 0.5 + 0.5
    if style in ("short", "quiff", "fringe"):
        height = height * (0.55 + 0.8 * top)
    if style == "quiff":
        height = height + 0.050 * bell((s - 0.62, 0.25), (phi, 0.7))
    if style == "swept":
        height = height * (0.5 + 0.5 * step(np.cos(phi), -1.0, 0.4)) + 0.030 * bell(
            (s - 0.72, 0.30)
        )
    if style == "mohawk":
        height = height + 0.095 * _crest(s, phi)
    if style in LONG:
        drop = np.maximum(s - EQUATOR, 0.0)
        height = (
            height
            + 0.012 * front * step(s, 0.6, 1.2)
            + 0.016 * bell((np.abs(phi) - 1.6, 0.5), (drop - 0.3, 0.5))
        )
        height = (
            height
            + (0.030 if style != "bob" else -0.012) * drop
            - 0.030 * drop * step(-np.cos(phi), 0.2, 1.0)
        )
        height = height - 0.010 * bell((phi - person.part, 0.10)) * step(s, 1.2, 0.4) * (
            style != "bob" or 1
        )
    if style == "wavy":
        turn = 9.0 * s + 2.5 * ring(phi, s * 0.6, 9, seed)
        height = height + 0.011 * np.sin(turn) * step(s, 0.9, 1.5)
    curl = person.hair_curl
    lumps = ring(phi, s * 2.4 + seed, 16, seed) + 0.5 * ring(phi, s * 5.5 + seed, 38, 2 * seed)
    height = height * (1 + (0.15 + 0.35 * curl) * lumps * step(s, 0.0, 0.5))
    slope = (line(person, phi + 0.03) - line(person, phi - 0.03)) / 0.06
    inside = (line(person, phi) - s) / np.sqrt(1 + (slope / np.sin(np.clip(s, 0.3, EQUATOR))) ** 2)
    edge = np.clip(inside / (0.25 if style not in CURLY else 0.45), 0.0, 1.0)
    return height * np.sqrt(edge) + 0.004


def _crest(s: np.ndarray, phi: np.ndarray) -> np.ndarray:
    """One along the middle of the skull, nothing at its sides."""
    aside = np.sin(np.minimum(s, EQUATOR)) * np.sin(phi)
    return step(np.abs(aside), 0.30, 0.12)


def vertices(person: Person, shell: Shell) -> np.ndarray:  # [V, 3]
    """Return the shell with the haircut's volume, on the neutral head."""
    scalp = shell.hanging if person.hair_style in LONG else shell.fitting
    reach = scalp + thickness(person, shell.s, shell.phi)
    return shell.origins + reach[:, None] * shell.directions


def visible_faces(person: Person, shell: Shell) -> np.ndarray:  # [F', 3]
    """Return the faces of the shell that are not wholly cut away."""
    kept = shell.s < line(person, shell.phi) + 0.25
    return shell.faces[kept[shell.faces].any(1)]


def is_buried(person: Person, s: np.ndarray, phi: np.ndarray) -> np.ndarray:  # bool
    """Whether a place on the scalp lies so deep under the hair that no camera sees it."""
    if person.hair_style in (*SHAVED, "horseshoe", "mohawk"):
        return np.zeros(s.shape, bool)
    lowest = np.minimum.reduce([line(person, phi + shift) for shift in (-0.25, 0.0, 0.25)])
    return (lowest - s > 0.25) & (s < EQUATOR + 0.2)


def covers(person: Person, s: np.ndarray, phi: np.ndarray) -> np.ndarray:  # bool
    """Whether there is hair at the shell coordinates.

    It is above the line, with strands of uneven length.
    """
    if person.hair_style in SHAVED:
        return np.zeros(s.shape, bool)
    seed = person.seed
    curl = 0.3 + person.hair_curl
    wobble = 0.035 * ring(phi, s * 5 + seed, 12, seed) * curl
    limit = line(person, phi + wobble)
    tips = (limit > EQUATOR + 0.9) & (person.hair_style not in CURLY)
    ragged = ring(phi, s * 0.7, 163, seed) + 0.6 * ring(phi, s * 0.7, 377, seed)
    inside = s < limit + ragged * np.where(tips, 0.06, 0.035)
    if person.hair_style == "horseshoe":
        inside &= (s > 1.20 + 0.05 * ring(phi, s, 56, seed) - 0.2 * step(np.abs(phi), 2.2, 3.0)) & (
            np.abs(phi) > 1.0
        )
    if person.hair_style == "mohawk":
        inside &= _crest(s, phi) + 0.2 * ragged > 0.35
    return inside


def roots(person: Person, s: np.ndarray, phi: np.ndarray) -> np.ndarray:  # [N] in [0, 1]
    """How much of the scalp's skin is hidden by hair roots.

    Also shades the skin just below the line.
    """
    if person.hair_style == "bald":
        return np.zeros_like(s)
    if person.hair_style == "horseshoe":
        return step(s, 1.1, 1.25) * step(line(person, phi) - s, -0.06, 0.05)
    if person.hair_style in ("buzz", "mohawk"):
        short = 0.80 + 0.14 * ring(phi, s * 60, 377, person.seed)
        return short * step(line(person, phi) - s, -0.05, 0.05)
    return step(line(person, phi) - s, -0.06, 0.05)


def shadow(person: Person, s: np.ndarray, phi: np.ndarray) -> np.ndarray:  # [N] in [0, 1]
    """Ambient light that the hair takes from the skin near and behind its edge."""
    if person.hair_style in (*SHAVED, "horseshoe", "crop", "mohawk"):
        return np.zeros_like(s)
    below = s - line(person, phi)
    depth = {"fringe": 0.5, "afro": 0.45, "curly": 0.45}.get(person.hair_style, 0.35)
    shade = depth * step(below, 0.30, -0.02)
    # cheeks and neck beside and behind a curtain
    if person.hair_style in LONG:
        shade = np.maximum(shade, 0.45 * step(np.abs(phi), 0.75, 1.15) * step(s, 1.2, 1.6))
    return shade


def paint(person: Person, s: np.ndarray, phi: np.ndarray) -> np.ndarray:  # [3, N] linear RGB
    """Return the hair's own color: light and dark strands, darker roots."""
    seed, curl = person.seed, person.hair_curl
    along = s * (1.2 + 9 * curl)
    bend = phi + curl * 0.06 * ring(phi, s * 6 + seed, 19, seed)
    strands = 0.55 * ring(bend, along * 0.5, 69, seed) + 0.45 * ring(bend, along, 188, seed)
    if person.hair_style in CURLY:
        strands = 0.6 * strands + 0.6 * ring(phi, s * 15 + seed, 88, seed)
    light = np.exp(0.32 * strands) * (0.80 + 0.20 * step(s, 0.2, 1.2))
    return person.hair[:, None] * light
