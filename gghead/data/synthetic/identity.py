"""Who somebody is by shape: smooth deformations of space around the head, as a linear basis.

Every mode is a displacement field, so the same coefficients move skin, hair, glasses and collar
together. Lengths are world units (0.01 = 3.7 mm).
"""

import functools
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Mode:
    """A field ``std * weight(p) * direction``.

    With ``scale`` it is ``std * weight(p) * scale * (p - center)``.

    ``weight`` is a Gaussian bump at the center, and at its mirror image if the center lies off the
    midline.
    """

    name: str
    center: tuple[float, float, float]
    sigma: tuple[float, float, float]
    std: float
    # unit vector on the subject's left, mirrored on the right
    direction: tuple[float, float, float] = (0.0, 0.0, 0.0)
    # relative stretch about the center, per axis
    scale: tuple[float, float, float] = (0.0, 0.0, 0.0)
    mean: float = 0.0  # of the coefficient
    # further shift for masculinity +1, in standard deviations (and minus that for -1)
    man: float = 0.0


_WIDE = (9.0, 9.0, 9.0)  # a bump so wide that the mode is a plain stretch
X, Y, Z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)

MODES = (
    Mode("width", (0, 0.05, 0), _WIDE, 0.042, scale=X, man=0.15),
    Mode("height", (0, 0.05, 0), _WIDE, 0.040, scale=Y, man=0.15),
    Mode("depth", (0, 0.05, 0), _WIDE, 0.035, scale=Z),
    Mode("jaw width", (0.130, -0.110, 0.080), (0.07, 0.06, 0.12), 0.0125, X, mean=-0.9, man=0.5),
    Mode("jaw angle", (0.120, -0.100, 0.020), (0.06, 0.05, 0.07), 0.0110, Y, mean=0.5),
    Mode("chin height", (0, -0.170, 0.170), (0.11, 0.055, 0.10), 0.0140, Y, man=-0.3),
    Mode("chin forward", (0, -0.175, 0.220), (0.06, 0.045, 0.07), 0.0120, Z, man=0.3),
    Mode("chin width", (0.045, -0.175, 0.200), (0.035, 0.040, 0.06), 0.0080, X, man=0.4),
    Mode("cheekbones", (0.140, 0.020, 0.130), (0.06, 0.045, 0.07), 0.0110, (0.8, 0, 0.6)),
    Mode("cheeks", (0.105, -0.065, 0.160), (0.05, 0.050, 0.06), 0.0120, (0.7, -0.1, 0.7), man=-0.2),
    Mode("nose length", (0, -0.010, 0.270), (0.040, 0.040, 0.05), 0.0090, Y, man=-0.2),
    Mode("nose forward", (0, -0.002, 0.285), (0.026, 0.040, 0.05), 0.0130, Z, man=0.3),
    Mode("nose width", (0.032, -0.018, 0.250), (0.020, 0.028, 0.04), 0.0070, X, man=0.3),
    Mode("nose tip", (0, -0.003, 0.290), (0.030, 0.025, 0.03), 0.20, scale=(1.0, 0.6, 0.2)),
    Mode("bridge height", (0, 0.060, 0.245), (0.018, 0.040, 0.04), 0.0080, Z, man=0.2),
    Mode("bridge width", (0.018, 0.050, 0.245), (0.014, 0.035, 0.04), 0.0040, X),
    Mode("nose hump", (0, 0.040, 0.265), (0.014, 0.018, 0.03), 0.0045, Z, man=0.2),
    Mode("eye distance", (0.084, 0.080, 0.200), (0.045, 0.040, 0.07), 0.0065, X),
    Mode("eye level", (0.084, 0.080, 0.200), (0.050, 0.040, 0.07), 0.0055, Y),
    Mode(
        "eye size",
        (0.084, 0.081, 0.200),
        (0.040, 0.030, 0.06),
        0.110,
        scale=(0.7, 1.1, 0.0),
        man=-0.5,
    ),
    Mode("eye tilt", (0.122, 0.083, 0.190), (0.025, 0.030, 0.05), 0.0045, Y, man=-0.2),
    Mode("brow level", (0.080, 0.130, 0.230), (0.060, 0.022, 0.05), 0.0065, Y, man=-0.5),
    Mode("brow ridge", (0.070, 0.130, 0.235), (0.060, 0.022, 0.05), 0.0060, Z, man=0.7),
    Mode("forehead slope", (0, 0.250, 0.160), (0.18, 0.080, 0.12), 0.0130, Z, man=-0.3),
    Mode("forehead width", (0.150, 0.210, 0.090), (0.07, 0.100, 0.12), 0.0110, X),
    Mode("crown", (0, 0.380, -0.020), (0.20, 0.110, 0.20), 0.0150, Y),
    Mode("back of the head", (0, 0.150, -0.270), (0.16, 0.140, 0.12), 0.0150, Z),
    Mode("mouth width", (0.068, -0.095, 0.210), (0.035, 0.030, 0.06), 0.0080, X, man=0.1),
    Mode("mouth level", (0, -0.095, 0.220), (0.080, 0.035, 0.06), 0.0070, Y),
    Mode("lips", (0, -0.096, 0.230), (0.060, 0.024, 0.06), 0.280, scale=Y, man=-0.5),
    Mode("lips forward", (0, -0.096, 0.240), (0.050, 0.028, 0.05), 0.0065, Z),
    Mode("upper lip", (0, -0.070, 0.240), (0.040, 0.018, 0.05), 0.0040, Y),
    Mode("ears out", (0.225, 0.045, -0.020), (0.030, 0.080, 0.05), 0.0110, X, man=0.2),
    Mode(
        "ear size",
        (0.215, 0.042, -0.020),
        (0.045, 0.100, 0.06),
        0.120,
        scale=(0.3, 1.0, 1.0),
        man=0.3,
    ),
    Mode("neck", (0, -0.350, -0.090), (9.0, 0.130, 9.0), 0.080, scale=(1.0, 0.0, 0.8), man=0.9),
    Mode("lopsided jaw", (0, -0.150, 0.150), (0.15, 0.090, 0.15), 0.0035, X),
    Mode("lopsided nose", (0, 0.000, 0.280), (0.03, 0.040, 0.05), 0.0020, X),
)


# [N, 3] neutral positions -> [K, N, 3] offsets per unit coefficient
def basis(points: np.ndarray) -> np.ndarray:
    """Return the displacement of every point by every mode."""
    center, sigma, direction, scale, std = _bumps()
    offsets = np.zeros((len(MODES), len(points), 3))
    for flip in (1.0, -1.0):
        away = [
            points[:, axis] - (flip if axis == 0 else 1.0) * center[:, axis, None]
            for axis in range(3)
        ]
        square = sum((away[axis] / sigma[:, axis, None]) ** 2 for axis in range(3))
        weight = std[:, None] * np.exp(-0.5 * np.asarray(square))
        # too far away to matter, or the same on both sides
        used = np.nonzero((weight.max(1) > 1e-9) & ((center[:, 0] != 0) | (flip > 0)))[0]
        for axis in range(3):
            push = (flip if axis == 0 else 1.0) * direction[used, axis, None]
            offsets[used, :, axis] += weight[used] * (
                push + scale[used, axis, None] * away[axis][used]
            )
    return offsets


@functools.lru_cache(maxsize=1)
def _bumps() -> tuple[np.ndarray, ...]:
    """Center, sigma, direction and scale [K, 3] and standard deviation [K] of all modes."""
    names = ("center", "sigma", "direction", "scale", "std")
    return tuple(np.array([getattr(mode, name) for mode in MODES], float) for name in names)


def sample_coefficients(random: np.random.RandomState, masculinity: float) -> np.ndarray:  # [K]
    """Draw an identity.

    Coefficients are cut at 2.3 standard deviations, where faces stay plausible.
    """
    means = np.array([mode.mean + mode.man * masculinity for mode in MODES])
    return means + np.clip(random.standard_normal(len(MODES)), -2.3, 2.3)
