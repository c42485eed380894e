"""Facial landmarks: in files, and where they lie on the head.

``gghead/weights/landmark_model.npz`` holds, for each scheme of ``landmarks.SCHEMES``:

``index``  which of the scheme's points are used. None is on the face's outline: those slide over
           the head as it turns.
``mean``   [M, 3] their places in world units (the frame of EG3D's FFHQ labels), symmetric in x.
``modes``  [K, M, 2] how points move together in the image from person to person, expression to
           expression and by the detector's own correlated errors, as a share of the crop's side;
           one unit of each is one standard deviation.
``sd``     [M] what is left to each point on its own, as a share of the crop's side.

Made by ``research/calibrate_landmarks.py`` (see there for how and from which data); the numbers are
derived from ICT-FaceKit heads (MIT license) and from StyleGAN2 faces of the One Million Impressions
set; no image is in it.
"""

import functools
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from gghead.torch_utils.errors import UserError

MODEL_FILE = Path(__file__).parents[2] / "weights" / "landmark_model.npz"

# Points for the FFHQ alignment: (the eye on the left of a frontal image, the other eye, the two
# mouth corners).
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
        raise UserError(
            f"There is no landmark model for '{scheme}'; use one of {', '.join(SCHEMES)}."
        )
    with np.load(MODEL_FILE, allow_pickle=False) as file:
        modes = (
            file[f"{scheme}/modes"].astype(np.float64) * file[f"{scheme}/mode_scale"][:, None, None]
        )
        return LandmarkModel(
            scheme,
            file[f"{scheme}/index"].astype(np.int64),
            file[f"{scheme}/mean"].astype(np.float64),
            modes,
            file[f"{scheme}/sd"].astype(np.float64),
        )


@functools.cache
def mirror_index() -> np.ndarray:  # [478] int
    """Return which MediaPipe point is where in the mirror image.

    ``mirrored = points[mirror_index()]``.
    """
    with np.load(MODEL_FILE, allow_pickle=False) as file:
        return file["mirror"].astype(np.int64)


def save_models(path: str | os.PathLike, models: list[LandmarkModel], mirror: np.ndarray) -> None:
    """Write the file; modes are rounded to a 127th of their largest entry."""
    arrays: dict[str, np.ndarray] = {"mirror": mirror.astype(np.uint16)}
    for model in models:
        scale = np.abs(model.modes).max(axis=(1, 2)) / 127
        arrays[f"{model.scheme}/index"] = model.index.astype(np.uint16)
        arrays[f"{model.scheme}/mean"] = np.round(model.mean, 6).astype(np.float32)
        arrays[f"{model.scheme}/modes"] = np.rint(model.modes / scale[:, None, None]).astype(
            np.int8
        )
        arrays[f"{model.scheme}/mode_scale"] = scale.astype(np.float32)
        arrays[f"{model.scheme}/sd"] = model.sd.astype(np.float32)
    with open(path, "wb") as file:
        # numpy's signature names allow_pickle beside the arrays
        np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]


def level_angle(points: np.ndarray, scheme: str) -> float:  # [N, 2] pixels -> radians
    """Return by how much FFHQ's alignment would turn the crop.

    It is the direction in the image of the face's own x axis: the mean of the line from eye to eye
    and of the normal of the line from the eyes to the mouth (Karras et al. 2018, "Progressive
    Growing of GANs", appendix C).
    """
    left, right, mouth = (points[index].mean(0) for index in _EYES_AND_MOUTH[scheme])
    across, down = right - left, mouth - (left + right) / 2
    x_axis = across + np.array([down[1], -down[0]])
    return float(np.arctan2(x_axis[1], x_axis[0]))


SCHEMES = {"mediapipe478": 478, "ibug68": 68}  # name -> number of points
_FORM = '{"scheme": "mediapipe478" or "ibug68", "files": {"name.jpg": [[x, y], ...]}}'


@dataclass(frozen=True, eq=False)
class Face:
    """One detected face."""

    # [N, 2] float64, pixels of the photo; (0, 0) is the outer corner of its top left pixel
    points: np.ndarray
    scheme: str  # a key of SCHEMES
    score: float = 1.0  # the detector's confidence in [0, 1]

    @property
    def box(self) -> np.ndarray:  # [4] left, top, right, bottom of the points
        return np.concatenate([self.points.min(0), self.points.max(0)])

    @property
    def size(self) -> float:
        """Side in pixels of the square with the area of the box."""
        left, top, right, bottom = self.box
        return float(np.sqrt((right - left) * (bottom - top)))


class Landmarker(Protocol):
    """What finds faces.

    It is made in the process that uses it and need not travel between processes.
    """

    def faces(self, rgb: np.ndarray, name: str, every: bool) -> list[Face]:  # rgb: [H, W, 3] uint8
        """Return the faces of a photo, the largest first.

        Only the largest matters unless ``every``.

        The answer must depend on the arguments alone (not on photos seen before), or results vary
        with the workers.
        """
        ...


def largest_first(faces: Sequence[Face]) -> list[Face]:
    """Sort the faces by size, ties by place, whatever order the detector has."""
    return sorted(faces, key=lambda face: (-round(face.size, 3), *np.round(face.box, 3)))


class JsonLandmarks:
    """Landmarks from a JSON file.

    The file is ``{"scheme": S, "files": {name: points or list of points or []}}``.

    ``points`` are ``[[x, y], ...]`` in pixels of the photo as it is seen (after its EXIF rotation),
    (0, 0) the outer corner of the top left pixel; S is "mediapipe478" (MediaPipe Face Mesh with
    irises; its first 468 suffice) or "ibug68" (the 68 points of the 300-W challenge, from the right
    side of the jaw on). A face may be null where a detector failed. Names are relative to the
    folder of photos.

    Raises:
        UserError: the file is missing, no JSON, or has another form or number of points.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        try:
            content = json.loads(self.path.read_bytes())
        except OSError as error:
            raise UserError(
                f"{path} cannot be read ({error.strerror}); give a JSON file of landmarks."
            ) from error
        except ValueError as error:
            raise UserError(
                f"{path} is not valid JSON ({error}); landmarks have the form {_FORM}."
            ) from error
        if not isinstance(content, dict) or not isinstance(content.get("files"), dict):
            raise UserError(f"{path} has no 'files'; landmarks have the form {_FORM}.")
        scheme = content.get("scheme")
        if not isinstance(scheme, str) or scheme not in SCHEMES:
            raise UserError(f"{path} has the scheme {scheme!r}; use one of {', '.join(SCHEMES)}.")
        self.scheme = scheme
        self._files = content["files"]
        for name in self._files:  # here, so that a wrong file stops the work before it begins
            self._read(name)

    def faces(self, rgb: np.ndarray, name: str, every: bool) -> list[Face]:
        return largest_first(self._read(name)) if name in self._files else []

    def _read(self, name: str) -> list[Face]:
        value = self._files[name]
        if not value:
            return []
        try:
            single = not isinstance(value[0][0], (list, tuple))
            arrays = [np.asarray(points, np.float64) for points in ([value] if single else value)]
        except (TypeError, ValueError, IndexError, KeyError) as error:
            raise UserError(
                f"The landmarks of {name} in {self.path} are no list of [x, y]; use {_FORM}."
            ) from error
        count = SCHEMES[self.scheme]
        allowed = (count, 468) if self.scheme == "mediapipe478" else (count,)
        for points in arrays:
            if (
                points.ndim != 2
                or points.shape[1] != 2
                or len(points) not in allowed
                or not np.isfinite(points).all()
            ):
                raise UserError(
                    f"The landmarks of {name} in {self.path} have the shape {list(points.shape)},"
                    f" but {self.scheme} has {count} finite points [x, y]."
                )
        return [Face(points, self.scheme) for points in arrays]
