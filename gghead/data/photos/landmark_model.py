"""The 3D landmark model: where detected landmarks lie on an average head, and how they stray from there.

``gghead/weights/landmark_model.npz`` holds, for each scheme of ``landmarks.SCHEMES``:

``index``  which of the scheme's points are used. None is on the face's outline: those slide over the head as it turns.
``mean``   [M, 3] their places in world units (the frame of EG3D's FFHQ labels), symmetric in x.
``modes``  [K, M, 2] how points move together in the picture from person to person, expression to expression and by the
           detector's own correlated errors, as a share of the crop's side; one unit of each is one standard deviation.
``sd``     [M] what is left to each point on its own, as a share of the crop's side.

Made by ``python -m gghead.data.photos.calibration`` (see there for how and from which data); the numbers are derived
from ICT-FaceKit heads (MIT licence) and from StyleGAN2 faces of the One Million Impressions set; no picture is in it.
"""

import functools
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gghead.data.photos.landmarks import SCHEMES
from gghead.torch_utils.errors import UserError

MODEL_FILE = Path(__file__).parents[2] / "weights" / "landmark_model.npz"

# Points for the FFHQ alignment: (the eye on the left of a frontal picture, the other eye, the two mouth corners).
_EYES_AND_MOUTH = {
    "mediapipe478": ([33, 133, 159, 145], [263, 362, 386, 374], [61, 291]),
    "ibug68": ([36, 37, 38, 39, 40, 41], [42, 43, 44, 45, 46, 47], [48, 54]),
}


@dataclass(frozen=True, eq=False)
class LandmarkModel:
    """One scheme's part of the file; see the module's docstring for the fields."""

    scheme: str
    index: np.ndarray  # [M] int
    mean: np.ndarray  # [M, 3] float64
    modes: np.ndarray  # [K, M, 2] float64
    sd: np.ndarray  # [M] float64


@functools.cache
def landmark_model(scheme: str) -> LandmarkModel:
    """Return the model for landmarks of ``scheme``; raises ``UserError`` for an unknown one."""
    if scheme not in SCHEMES:
        raise UserError(f"There is no landmark model for '{scheme}'; use one of {', '.join(SCHEMES)}.")
    with np.load(MODEL_FILE, allow_pickle=False) as file:
        modes = file[f"{scheme}/modes"].astype(np.float64) * file[f"{scheme}/mode_scale"][:, None, None]
        return LandmarkModel(
            scheme,
            file[f"{scheme}/index"].astype(np.int64),
            file[f"{scheme}/mean"].astype(np.float64),
            modes,
            file[f"{scheme}/sd"].astype(np.float64),
        )


@functools.cache
def mirror_index() -> np.ndarray:  # [478] int
    """Return which MediaPipe point of a face is where in the mirror image: ``mirrored = points[mirror_index()]``."""
    with np.load(MODEL_FILE, allow_pickle=False) as file:
        return file["mirror"].astype(np.int64)


def save_models(path: str | os.PathLike, models: list[LandmarkModel], mirror: np.ndarray) -> None:
    """Write the file; modes are rounded to a 127th of their largest entry."""
    arrays: dict[str, np.ndarray] = {"mirror": mirror.astype(np.uint16)}
    for model in models:
        scale = np.abs(model.modes).max(axis=(1, 2)) / 127
        arrays[f"{model.scheme}/index"] = model.index.astype(np.uint16)
        arrays[f"{model.scheme}/mean"] = np.round(model.mean, 6).astype(np.float32)
        arrays[f"{model.scheme}/modes"] = np.rint(model.modes / scale[:, None, None]).astype(np.int8)
        arrays[f"{model.scheme}/mode_scale"] = scale.astype(np.float32)
        arrays[f"{model.scheme}/sd"] = model.sd.astype(np.float32)
    with open(path, "wb") as file:
        np.savez_compressed(file, **arrays)


def level_angle(points: np.ndarray, scheme: str) -> float:  # [N, 2] pixels -> radians
    """Return by how much FFHQ's alignment would turn the crop: the direction in the picture of the face's own x axis,
    the mean of the line from eye to eye and of the normal of the line from the eyes to the mouth (Karras et al. 2018,
    "Progressive Growing of GANs", appendix C)."""
    left, right, mouth = (points[index].mean(0) for index in _EYES_AND_MOUTH[scheme])
    across, down = right - left, mouth - (left + right) / 2
    x_axis = across + np.array([down[1], -down[0]])
    return float(np.arctan2(x_axis[1], x_axis[0]))
