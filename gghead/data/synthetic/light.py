"""Light on skin, cloth and hair, for samples held component by component ([3, P], float32)."""

import numpy as np

from gghead.data.synthetic.noise import power
from gghead.data.synthetic.person import Light


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:  # [3, P], [3, P] or [3] -> [P]
    """Product along the first axis; several times faster than a sum over it."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def unit(vectors: np.ndarray) -> np.ndarray:  # [3, P]
    return vectors / np.sqrt(dot(vectors, vectors) + 1e-20)


def _dome(normal: np.ndarray, light: Light) -> np.ndarray:  # [3, P] -> [3, P]
    return light.ground[:, None] + (light.sky - light.ground)[:, None] * (normal[1] * 0.5 + 0.5)


def illuminate(
    albedo: np.ndarray,  # [3, P]
    normal: np.ndarray,  # [3, P]
    view: np.ndarray,  # [3, P] unit, towards the camera
    gloss: np.ndarray,  # [P]
    occlusion: np.ndarray,  # [P] share of the sky that is seen
    lit: np.ndarray,  # [P] share of the key light that is seen
    light: Light,
    # [3] how far each color of light creeps round the terminator: red farthest under skin
    wrap: np.ndarray,
) -> np.ndarray:
    """A dome with occlusion, a soft-shadowed key light, a fill light, and their highlights.

    Key and fill light are wrapped round the form.
    """
    total = albedo * _dome(normal, light) * occlusion
    # Light that skin sends to skin keeps deep places warm, not black (Jimenez et al. 2016).
    total *= 1 + 0.55 * albedo * (1 - occlusion)
    wrap = wrap[:, None]
    for direction, color, share in (
        (light.key, light.key_color, 0.15 + 0.85 * lit),
        (light.fill, light.fill_color, 0.25 + 0.75 * occlusion),
    ):
        diffuse = np.maximum((dot(normal, direction) + wrap) / (1 + wrap), 0.0)
        diffuse *= np.sqrt(np.sqrt(diffuse))
        half = unit(view + direction[:, None])
        cosine = np.maximum(dot(normal, half), 0.0)
        broad = power(cosine, 8)
        shine = 0.05 * gloss * (broad * 0.6 + power(broad, 4) * 1.1)
        total += (albedo * diffuse + shine) * share * (color * 1.2)[:, None]
    return total


def hair_light(
    albedo: np.ndarray,  # [3, P]
    normal: np.ndarray,  # [3, P]
    view: np.ndarray,  # [3, P]
    occlusion: np.ndarray,  # [P]
    light: Light,
) -> np.ndarray:
    """Hair: soft diffuse light and a highlight across the strands (Kajiya and Kay 1989)."""
    down = np.array([0.0, -1.0, 0.0], np.float32)[:, None]
    tangent = unit(down + normal[1] * normal + 1e-4)
    total = albedo * _dome(normal, light) * occlusion
    for direction, color in ((light.key, light.key_color), (light.fill, light.fill_color)):
        cosine = dot(normal, direction)
        lit = np.maximum((cosine + 0.4) / 1.4, 0.0)
        along = dot(tangent, unit(view + direction[:, None]))
        sharp = power(np.maximum(1 - along * along, 0.0), 14)
        shine = (0.35 * albedo + 0.03) * (sharp * cosine.clip(0.0))
        total += (albedo * lit * 1.1 + shine) * occlusion * color[:, None]
    return total
