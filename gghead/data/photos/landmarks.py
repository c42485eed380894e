"""Where the landmarks of a photo come from: one small interface, and the adapter for landmarks that stand in a file."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from gghead.torch_utils.errors import UserError

SCHEMES = {"mediapipe478": 478, "ibug68": 68}  # name -> number of points
_FORM = '{"scheme": "mediapipe478" or "ibug68", "files": {"name.jpg": [[x, y], ...]}}'


@dataclass(frozen=True, eq=False)
class Face:
    """One detected face."""

    points: np.ndarray  # [N, 2] float64, pixels of the photo; (0, 0) is the outer corner of its top left pixel
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
    """What finds faces. It is made in the process that uses it and need not travel between processes."""

    def faces(self, rgb: np.ndarray, name: str, every: bool) -> list[Face]:  # rgb: [H, W, 3] uint8
        """Return the faces of a photo, the largest first; only the largest matters unless ``every``.

        The answer must depend on the arguments alone (not on photos seen before), or results vary with the workers.
        """
        ...


def largest_first(faces: Sequence[Face]) -> list[Face]:
    """Return the faces sorted by size, ties by place, so that the order never depends on the detector's."""
    return sorted(faces, key=lambda face: (-round(face.size, 3), *np.round(face.box, 3)))


class JsonLandmarks:
    """Landmarks from a JSON file: ``{"scheme": S, "files": {name: points or list of points or []}}``.

    ``points`` are ``[[x, y], ...]`` in pixels of the photo as it is seen (after its EXIF rotation), (0, 0) the outer
    corner of the top left pixel; S is "mediapipe478" (MediaPipe Face Mesh with irises; its first 468 suffice) or
    "ibug68" (the 68 points of the 300-W challenge, from the right side of the jaw on). A face may be null where a
    detector failed. Names are relative to the folder of photos.

    Raises:
        UserError: the file is missing, no JSON, or has another form or number of points.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        try:
            content = json.loads(self.path.read_bytes())
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}); give a JSON file of landmarks.") from error
        except ValueError as error:
            raise UserError(f"{path} is not valid JSON ({error}); landmarks have the form {_FORM}.") from error
        if not isinstance(content, dict) or not isinstance(content.get("files"), dict):
            raise UserError(f"{path} has no 'files'; landmarks have the form {_FORM}.")
        self.scheme = content.get("scheme")
        if self.scheme not in SCHEMES:
            raise UserError(f"{path} has the scheme {self.scheme!r}; use one of {', '.join(SCHEMES)}.")
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
            raise UserError(f"The landmarks of {name} in {self.path} are no list of [x, y]; use {_FORM}.") from error
        count = SCHEMES[self.scheme]
        allowed = (count, 468) if self.scheme == "mediapipe478" else (count,)
        for points in arrays:
            if points.ndim != 2 or points.shape[1] != 2 or len(points) not in allowed or not np.isfinite(points).all():
                raise UserError(
                    f"The landmarks of {name} in {self.path} have the shape {list(points.shape)}, but {self.scheme} "
                    f"has {count} finite points [x, y]."
                )
        return [Face(points, self.scheme) for points in arrays]
