"""What an open mouth shows: two rows of teeth and a tongue, and where the lips part."""

import functools
from dataclasses import dataclass

import numpy as np

from gghead.data.synthetic.accessories import grid_mesh, merge
from gghead.data.synthetic.identity import basis
from gghead.data.synthetic.noise import bell, linear, step
from gghead.template.arkit_shapes import JAW_HINGE
from gghead.template.head_shape import MOUTH_HALF_WIDTH, mouth_line
from gghead.template.mesh import Template

TEETH, TONGUE = linear((226, 218, 204)), linear((188, 92, 90))
GUMS, INSIDE = linear((176, 96, 92)), linear((64, 20, 20))
JAW_ANGLE = np.radians(17.0)  # of the rig's jawOpen


@dataclass(frozen=True)
class Interior:
    """Teeth and tongue of the neutral head."""

    vertices: np.ndarray  # [W, 3]
    faces: np.ndarray  # [F, 3]
    jaw: np.ndarray  # [W] 1 for what the lower jaw carries
    # [W, 3] for painting: along the arch from the middle, height, 0 upper teeth 1 lower 2 tongue
    place: np.ndarray
    modes: np.ndarray  # [K, W, 3] of identity


@functools.lru_cache(maxsize=1)
def interior() -> Interior:
    """Return the inside of the mouth."""
    along = np.linspace(-1, 1, 17)[None, :]
    parts, places = [], []
    for kind, heights, depth in (
        (0, [-0.070, -0.080, -0.090, -0.1005], 0.2265),
        (1, [-0.0990, -0.1070, -0.1150, -0.1240], 0.2225),
    ):
        y = np.array(heights)[:, None] + 0 * along
        x = 0.060 * along * (1.0 if kind == 0 else 0.94) + 0 * y
        # incisors lean a little: the roots stand behind the edges
        root = np.abs(np.arange(4) - (3 if kind == 0 else 0))[:, None] * 0.0012
        z = depth - 8.5 * x**2 - root
        parts.append(grid_mesh(np.stack([x, y, z], -1)))
        places.append(np.stack([x * (1 + 20 * x**2), y, 0 * x + kind], -1).reshape(-1, 3))
    turn = np.linspace(-np.pi / 2, np.pi / 2, 13)[None, :]
    ahead = np.linspace(-0.15, 1.35, 9)[:, None]  # from the back of the tongue over its tip
    radius = np.cos(np.clip(ahead - 0.35, 0, 1) * 1.5)
    x = 0.040 * radius * np.sin(turn)
    y = -0.122 + 0.014 * radius * np.cos(turn) - 0.012 * np.clip(ahead - 0.6, 0, 1) ** 2
    z = 0.150 + 0.052 * ahead + 0 * x
    y = y - 0.004 * np.exp(-((x / 0.006) ** 2))  # the groove
    parts.append(grid_mesh(np.stack([x, y, z], -1)))
    places.append(np.stack([x, z, 0 * x + 2], -1).reshape(-1, 3))
    vertices, faces = merge(parts)
    place = np.concatenate(places)
    return Interior(vertices, faces, (place[:, 2] > 0).astype(float), place, basis(vertices))


def posed_interior(expression: dict[str, float]) -> np.ndarray:  # [W, 3]
    """Return the vertices with the jaw where the expression has it."""
    inside = interior()
    arm = inside.vertices - JAW_HINGE
    cos, sin = np.cos(JAW_ANGLE), np.sin(JAW_ANGLE)
    turned = np.stack(
        [arm[:, 0], cos * arm[:, 1] - sin * arm[:, 2], sin * arm[:, 1] + cos * arm[:, 2]], 1
    )
    aside = expression.get("jawLeft", 0.0) - expression.get("jawRight", 0.0)
    moved = expression.get("jawOpen", 0.0) * (turned - arm)
    moved = moved + np.array([0.022 * aside, 0.0, 0.020 * expression.get("jawForward", 0.0)])
    return inside.vertices + inside.jaw[:, None] * moved


def near_lips(points: np.ndarray) -> np.ndarray:  # [N, 3] neutral -> [N] bool
    """Whether a point of the skin is on the lips."""
    x, y, z = points.T
    height = y - mouth_line(np.abs(x))
    return (np.abs(height) < 0.03) & (np.abs(x) < MOUTH_HALF_WIDTH * 1.1) & (z > 0.13)


@dataclass(frozen=True)
class Lips:
    """The vertices next to the line between the lips, in ascending x."""

    upper: np.ndarray  # [A] indices
    lower: np.ndarray  # [B]
    above: np.ndarray  # [A] height over the line, world units
    below: np.ndarray  # [B] the same, negative


def find_lips(template: Template) -> Lips:
    """Return the rows of vertices just above and just below the line between the lips."""
    x, y, z = template.vertices.T
    height = y - mouth_line(np.abs(x))
    near = (z > 0.13) & (np.abs(x) < MOUTH_HALF_WIDTH * 1.02) & (np.abs(height) < 0.02)
    columns = np.linspace(-MOUTH_HALF_WIDTH, MOUTH_HALF_WIDTH, 23)
    rows = []
    for side, least in ((1.0, 0.0040), (-1.0, 0.0015)):
        found = np.nonzero(near & (side * height > least))[0]
        cost = np.abs(columns[:, None] - x[found]) * 4 + np.abs(height[found])
        chosen = np.unique(found[cost.argmin(1)])
        rows.append(chosen[np.argsort(x[chosen])])
    upper, lower = rows
    return Lips(upper, lower, height[upper], height[lower])


@dataclass(frozen=True)
class Gap:
    """Where the lips part: edges as functions of the posed x, before identity."""

    upper: tuple[np.ndarray, np.ndarray]  # x, y
    lower: tuple[np.ndarray, np.ndarray]

    @property
    def opening(self) -> float:
        """Largest distance of the lips, world units."""
        x = np.linspace(-0.05, 0.05, 11)
        return float((np.interp(x, *self.upper) - np.interp(x, *self.lower)).max())

    def contains(self, posed: np.ndarray) -> np.ndarray:  # [2, P] -> [P] bool
        """Whether the skin's sample lies between the edges of the lips."""
        x, y = posed
        low, high = np.interp(x, *self.lower), np.interp(x, *self.upper)
        # the lips' ends taper
        ends = np.minimum(x - self.upper[0][0], self.upper[0][-1] - x)
        margin = 0.0012 + 0.006 * step(ends, 0.014, 0.002)
        return (y > low + margin) & (y < high - margin)


def find_gap(lips: Lips, posed: np.ndarray) -> Gap:  # [V, 3]
    """Return the edges of the lips: each row moved onto the line by its distance at rest."""
    upper, lower = posed[lips.upper], posed[lips.lower]
    return Gap((upper[:, 0], upper[:, 1] - lips.above), (lower[:, 0], lower[:, 1] - lips.below))


def paint(place: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # [3, P]
    """Return linear RGB [3, P], gloss [P] and occlusion [P] of teeth and tongue."""
    u, y, kind = place
    wide = np.abs(u)
    upper = kind < 0.5
    # borders between the teeth, from the middle line outwards
    borders = np.array([0.0, 0.0200, 0.0360, 0.0510, 0.0650, 0.0780], np.float32)
    if_lower = np.array([0.0, 0.0135, 0.0275, 0.0420, 0.0560, 0.0700], np.float32)
    gap = np.zeros_like(u)
    for top, bottom in zip(borders, if_lower, strict=True):
        gap = np.maximum(gap, bell((wide - np.where(upper, top, bottom), 0.0009)))
    teeth = TEETH[:, None] * (1 - 0.45 * gap)
    root = np.where(upper, step(y, -0.0835, -0.0790), step(y, -0.1135, -0.1180))
    teeth = teeth + (GUMS[:, None] - teeth) * root
    groove = bell((u, 0.003))
    tongue = TONGUE[:, None] * (1 - 0.25 * groove)
    is_tongue = kind > 1.5
    shade = np.where(
        is_tongue,
        0.20 + 0.40 * step(y, 0.165, 0.205),
        0.85 - 0.60 * step(wide, 0.022, 0.066) - 0.15 * ~upper,
    )
    gloss = np.where(is_tongue, 0.5, 0.9) * (1 - root)
    return np.where(is_tongue, tongue, teeth), gloss, shade
