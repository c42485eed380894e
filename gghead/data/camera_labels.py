"""Camera labels as EG3D has them: 25 numbers per image, and every fault that one can have.

A label is a row-major camera-to-world matrix (16 numbers, OpenCV axes, world units) and then
row-major intrinsics (9 numbers, divided by the image size).
"""

import os
from collections.abc import Mapping, Sequence

import numpy as np

from gghead.torch_utils.errors import UserError

LABEL_SIZE = 25
Labels = Mapping[str, Sequence[float]]
"""Name of an image -> its label, not checked yet."""
LABEL_REMEDY = (
    "each image needs 25 numbers (cam2world 4x4, intrinsics 3x3) under 'labels' in dataset.json"
)
_ROTATION_TOLERANCE = 1e-3  # labels are often rounded to 4-7 digits


def label_array(labels: Labels, names: Sequence[str], where: str | os.PathLike) -> np.ndarray:
    """Return the labels of ``names`` as float32 [N, 25], checked.

    Raises ``UserError`` naming the first bad file.
    """
    try:
        rows = np.array([labels[name] for name in names], np.float64)
    except (KeyError, TypeError, ValueError):
        rows = None
    if rows is None or rows.shape != (len(names), LABEL_SIZE):
        for name in names:
            if name not in labels:
                raise UserError(f"{name} in {where} has no camera label; {LABEL_REMEDY}.")
            if fault := label_fault(labels[name]):
                raise UserError(f"The label of {name} in {where} {fault}; {LABEL_REMEDY}.")
        raise UserError(f"{where} holds no labeled image; {LABEL_REMEDY}.")
    check_labels(rows, names, where)
    return rows.astype(np.float32)


def label_fault(label: object) -> str | None:
    """Return what keeps one entry of dataset.json from being 25 numbers, or None."""
    count = len(label) if isinstance(label, (list, tuple)) else 1
    if count != LABEL_SIZE:
        return f"has {count} number{'s' * (count != 1)}"
    try:
        np.array(label, np.float64).reshape(LABEL_SIZE)
    except (TypeError, ValueError):
        return "is not made of numbers"
    return None


# [N, 25] -> name: ([N] bool, sentence)
def rigid_faults(labels: np.ndarray) -> dict[str, tuple[np.ndarray, str]]:
    """Return the faults that make a label no camera at all, and which labels have them.

    Each label has one at most.
    """
    rotation = labels[:, :16].reshape(-1, 4, 4)[:, :3, :3]
    last_rows = np.concatenate(
        [labels[:, 12:16] - [0, 0, 0, 1], labels[:, 22:25] - [0, 0, 1]], axis=1
    )
    with np.errstate(invalid="ignore", over="ignore"):
        skew = np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
        handed = np.linalg.det(np.where(np.isfinite(rotation), rotation, 0))
    # The order matters: a number that is not finite would fail the later tests with a misleading
    # sentence.
    found = {
        "not-finite": (
            ~np.isfinite(labels).all(axis=1),
            "holds NaN or infinite numbers; leave the image out or estimate its camera again",
        ),
        "layout": (
            ~(np.abs(last_rows).max(axis=1) < _ROTATION_TOLERANCE),
            (
                "must be a row-major cam2world 4x4 ending in 0 0 0 1, then a row-major 3x3 ending"
                " in 0 0 1"
            ),
        ),
        "rotation": (
            ~(skew < _ROTATION_TOLERANCE),
            "has a cam2world whose 3x3 part is no rotation (rows are not orthonormal)",
        ),
        "handedness": (
            ~(handed > 0),
            "has a cam2world that mirrors (determinant -1); cameras are right-handed, OpenCV axes",
        ),
        "focal-sign": (
            ~((labels[:, 16] > 0) & (labels[:, 20] > 0)),
            "has a focal length that is not positive",
        ),
        "pixels": (
            (~(np.abs(labels[:, [18, 21]] - 0.5) < 2) | ~(labels[:, [16, 20]] < 50)).any(axis=1),
            "has intrinsics in pixels; divide them by the image size",
        ),
    }
    earlier = np.zeros(len(labels), bool)
    for name, (wrong, sentence) in found.items():
        found[name] = wrong & ~earlier, sentence
        earlier = earlier | wrong
    return found


# labels: [N, 25]
def check_labels(labels: np.ndarray, names: Sequence[str], where: str | os.PathLike) -> None:
    """Raise ``UserError`` naming the first image whose camera is impossible.

    That is one not finite, rigid or right-handed, or without a focal length.
    """
    for wrong, sentence in rigid_faults(labels).values():
        if wrong.any():
            raise UserError(f"The label of {names[int(np.argmax(wrong))]} in {where} {sentence}.")
