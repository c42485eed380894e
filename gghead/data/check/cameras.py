"""Faults of camera labels that show in the numbers alone.

Layout, axes, units, field of view, and single odd ones.

The head is taken to stand around the world's origin, upright along +y. A camera that misses it is
tried under the mix-ups that occur in this field; the one under which it looks at the head is named.
"""

import numpy as np
import torch

from gghead.cameras import FFHQ_RADIUS, Cameras
from gghead.data.camera_labels import rigid_faults
from gghead.data.check.findings import WARNING, Finding, findings_where

HEAD_HEIGHT = 0.65  # chin to crown of the template, world units
UNIT_METERS = 0.373
_AIM = 25.0  # degrees between the image's middle and the head's, beyond which a camera misses it
_SHARED = 0.7  # share of the wrong cameras that one mix-up must explain
_ROLL = 60.0  # degrees; nobody tilts the head further
_STEEP = 50.0  # degrees of pitch that few cameras have
_FLIP = np.diag([1.0, -1.0, -1.0, 1.0])  # y and z of the camera
# new y = old z, new z = -old y
_Z_UP = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
_DIAGONAL_FOCAL = 3.0143  # 0.5 / tan(18.837 degrees / 2)
_SHARE = (0.3, 1.9)  # head height / image height of usual crops; FFHQ has 1.03, mvheads 0.70
_ABSURD = (0.15, 3.0)


# [N, 25]
def check_cameras(labels: np.ndarray, names: list[str]) -> tuple[list[Finding], np.ndarray]:
    """Return the faults of the labels, and which labels are usable cameras.

    The second is [N] bool: rigid and aimed at the head.
    """
    labels = np.asarray(labels, np.float64)
    findings, usable = [], np.ones(len(labels), bool)
    for code, (wrong, _) in rigid_faults(labels).items():
        if code == "layout" and wrong.any():
            column_major = wrong & _column_major(labels)
            findings += findings_where("transposed", column_major, names)
            usable &= ~column_major
            wrong = wrong & ~column_major
        findings += findings_where(code, wrong, names)
        usable &= ~wrong
    found, aimed = _orientation(labels, usable, names)
    findings += found
    usable = usable & aimed
    if usable.any():
        findings += _framing(labels, usable, names)
    return findings, usable


def _column_major(labels: np.ndarray) -> np.ndarray:  # [N, 25] -> [N] bool
    pose, k = labels[:, :16].reshape(-1, 4, 4).mT, labels[:, 16:].reshape(-1, 3, 3)
    other_k = np.where(np.abs(k[:, 2, :2]).max(1)[:, None, None] > 1e-3, k.mT, k)
    turned = np.concatenate([pose.reshape(-1, 16), other_k.reshape(-1, 9)], 1)
    as_stored = np.concatenate([labels[:, :16], other_k.reshape(-1, 9)], 1)
    fine = [
        ~np.any([wrong for wrong, _ in rigid_faults(rows).values()], axis=0)
        for rows in (turned, as_stored)
    ]
    return fine[0] | fine[1]


def angles(labels: np.ndarray) -> np.ndarray:  # [N, 25] -> [N, 3] yaw, pitch, roll in degrees
    """Viewing directions in degrees, with the signs of ``Cameras.orbit``."""
    cameras = Cameras.from_label(torch.from_numpy(np.ascontiguousarray(labels, np.float64)))
    return np.rad2deg(torch.stack(cameras.angles(), -1).numpy())


def _aim(pose: np.ndarray, k: np.ndarray) -> np.ndarray:  # [N, 4, 4], [N, 3, 3] -> [N] degrees
    """Angle between the ray through the image's middle and the direction to the origin."""
    ray = np.stack(
        [(0.5 - k[:, 0, 2]) / k[:, 0, 0], (0.5 - k[:, 1, 2]) / k[:, 1, 1], np.ones(len(k))], -1
    )
    to_head = -(pose[:, :3, :3].mT @ pose[:, :3, 3:])[..., 0]
    length = np.linalg.norm(ray, axis=1) * np.linalg.norm(to_head, axis=1)
    return np.rad2deg(np.arccos(np.clip((ray * to_head).sum(1) / np.maximum(length, 1e-12), -1, 1)))


def _badness(pose: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how far cameras are from looking at an upright head, and which do.

    [N] in degrees and [N] bool.
    """
    label = np.concatenate([pose.reshape(-1, 16), k.reshape(-1, 9)], 1)
    _, pitch, roll = angles(label).T
    aim = _aim(pose, k)
    # possible for some cameras, but hardly for most of them
    steep = np.maximum(np.abs(pitch) - _STEEP, 0)
    tilted = (np.abs(roll) > _ROLL) & (np.abs(pitch) < 75)  # seen from the pole roll says nothing
    return aim + 90.0 * tilted + steep, (aim < _AIM) & ~tilted


def _orientation(
    labels: np.ndarray, usable: np.ndarray, names: list[str]
) -> tuple[list[Finding], np.ndarray]:
    pose, k = labels[:, :16].reshape(-1, 4, 4), labels[:, 16:].reshape(-1, 3, 3)
    good = np.ones(len(labels), bool)
    chosen = np.flatnonzero(usable)
    if not len(chosen):
        return [], good
    pose, k = pose[chosen], k[chosen]
    inverse = np.linalg.inv(pose)
    turned = pose.copy()
    turned[:, :3, :3] = pose[:, :3, :3].mT
    mix_ups = {
        "opengl-axes": pose @ _FLIP,
        "world-to-camera": inverse,
        "world-to-camera-opengl": inverse @ _FLIP,
        "transposed-rotation": turned,
        "z-up": _Z_UP @ pose,
        "z-up-opengl": _Z_UP @ pose @ _FLIP,
        "upside-down": _FLIP @ pose,
    }
    stored, fine = _badness(pose, k)
    tried = {code: _badness(other, k) for code, other in mix_ups.items()}
    findings = []
    # Narrow sets: a wrong matrix may still have the head in view, but another reading aims far
    # better at it.
    best = min(tried, key=lambda code: float(np.median(tried[code][0])))
    if np.median(stored) > 2.5 and np.median(tried[best][0]) < 0.34 * np.median(stored):
        fine = fine & (tried[best][0] > stored)
    wrong = ~fine
    while wrong.any():
        medians = {
            code: float(np.median(other[wrong]))
            for code, (other, helps) in tried.items()
            if helps[wrong].any()
        }
        if not medians:
            break
        code = min(medians, key=medians.__getitem__)
        helped = wrong & tried[code][1] & (tried[code][0] < _AIM / 2)
        if helped.sum() < _SHARED * wrong.sum():
            break  # what mends a few cameras by chance is no explanation
        good[chosen[helped]] = False
        findings += findings_where(code, good_mask(len(labels), chosen[helped]), names)
        wrong = wrong & ~helped
    if wrong.any():
        good[chosen[wrong]] = False
        severity = {} if wrong.mean() > 0.05 else {"severity": WARNING}
        findings += findings_where("aim", good_mask(len(labels), chosen[wrong]), names, **severity)
    left = labels[chosen[good[chosen]]]
    if len(left) > len(chosen) / 2 and np.mean(np.abs(angles(left)[:, 0]) > 100) > 0.9:
        findings += findings_where(
            "from-behind", good_mask(len(labels), chosen[good[chosen]]), names
        )
    return findings, good


def good_mask(count: int, indices: np.ndarray) -> np.ndarray:
    """[count] bool, true at ``indices``."""
    mask = np.zeros(count, bool)
    mask[indices] = True
    return mask


def _framing(labels: np.ndarray, usable: np.ndarray, names: list[str]) -> list[Finding]:
    radius, focal = np.linalg.norm(labels[:, [3, 7, 11]], axis=1), labels[:, 20]
    share = np.where(usable, focal * HEAD_HEIGHT / np.maximum(radius, 1e-9), np.nan)
    typical, findings = float(np.nanmedian(share)), []
    if not _SHARE[0] < typical < _SHARE[1]:
        unit, scale = _unit(typical, float(np.median(radius[usable])))
        if unit:
            findings += findings_where(
                "units", usable, names, values={"unit": unit, "scale": scale}
            )
        else:
            severity = {} if not _ABSURD[0] < typical < _ABSURD[1] else {"severity": WARNING}
            findings += findings_where(
                "framing", usable, names, values={"share": typical}, **severity
            )
        return findings
    off = usable & (np.abs(share / typical - 1) > 0.35)
    if off.mean() < 0.2:
        findings += findings_where("radius-outlier", off, names)
    diagonal = (
        usable
        & (np.abs(focal / _DIAGONAL_FOCAL - 1) < 0.004)
        & (np.abs(radius / FFHQ_RADIUS - 1) < 0.1)
    )
    if diagonal.mean() > 0.5:
        findings += findings_where("focal-diagonal", diagonal, names)
    k = labels[:, 16:].reshape(-1, 3, 3)
    stretched = np.abs(k[:, 0, 0] / np.where(k[:, 1, 1] == 0, 1, k[:, 1, 1]) - 1) > 0.03
    skewed = np.abs(k[:, 0, 1]) > 0.01
    aside = np.abs(k[:, :2, 2] - 0.5).max(1) > 0.25
    findings += findings_where("intrinsics", usable & (stretched | skewed | aside), names)
    if len(labels) > 1 and usable.all() and np.ptp(labels, axis=0).max() < 1e-5:
        findings += findings_where("one-camera", usable, names)
    return findings


def _unit(share: float, radius: float) -> tuple[str, float]:
    """The unit in which heads fill the image and stand as far away as usual.

    Returns it and how many of it are one unit of the world.
    """
    for unit, per_meter in (("millimeters", 1000), ("centimeters", 100), ("meters", 1)):
        scale = UNIT_METERS * per_meter
        if 0.5 < share * scale < 1.6 and 1.2 < radius / scale < 5.5:
            return unit, round(scale, 3)
    return "", 1.0
