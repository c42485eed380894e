"""Landmarks by MediaPipe.

Faces are first found in the whole image, then each is measured on a crop of its own.

The mesh network looks at 192 pixels. On an upright crop in which every face has the same size its
precision does not depend on how large the photo is or where in it the face stands. The crop and its
mirror image are both measured and averaged, so that left and right are treated alike.
"""

import contextlib
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from PIL import Image

from gghead.data.photos.landmarks import Face, largest_first, mirror_index
from gghead.torch_utils.errors import UserError

_CROP = 320  # side of the image that the mesh network is given, pixels
_ROOM = 2.0  # its side over the side of the detected face box
_OVERLAP = 0.3  # boxes that share more than this (intersection over union) are one face
# mesh and mirrored mesh further apart (RMS over the face's size) are not the same face
_MISMATCH = 0.06
_NOTES = re.compile(  # of TensorFlow Lite and absl, levels info and warning
    rb"(INFO: Created TensorFlow Lite |WARNING: All log messages before absl::InitializeLog|"
    rb"[IW]\d{4} [\d:.]+ +\d+ [\w/.]+:\d+\] )[^\n]*\n"
)
_REMEDY = (
    "run `make prep`, or install gghead[prep] (Python 3.9-3.12), or give `landmarker=FILE.json`"
    " or `cameras=FILE.json`"
)


@dataclass(frozen=True)
class _Box:
    """A detected face: the square around it and where its eyes are, pixels of the photo."""

    left: float
    top: float
    width: float
    height: float
    angle: float  # radians from the image's x axis to the line from its left to its right eye
    score: float

    @property
    def side(self) -> float:
        return max(self.width, self.height)

    @property
    def center(self) -> np.ndarray:
        return np.array([self.left + self.width / 2, self.top + self.height / 2])

    def overlap(self, other: "_Box") -> float:
        wide = min(self.left + self.width, other.left + other.width) - max(self.left, other.left)
        high = min(self.top + self.height, other.top + other.height) - max(self.top, other.top)
        shared = max(wide, 0.0) * max(high, 0.0)
        return shared / (self.width * self.height + other.width * other.height - shared)


class _Network(Protocol):
    """One of MediaPipe's solutions."""

    def process(self, image: np.ndarray, /) -> Any: ...


def import_mediapipe() -> ModuleType:
    """Return the module ``mediapipe``.

    Raises ``UserError`` with a remedy where it cannot be imported.
    """
    os.environ.setdefault("GLOG_minloglevel", "2")  # its C++ parts write to stderr
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        with warnings.catch_warnings(), without_notes():
            warnings.simplefilter("ignore")
            # of the extra [prep], which may not be installed
            import mediapipe  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            f"Finding faces needs mediapipe, which cannot be imported ({error}); {_REMEDY}."
        ) from error
    return mediapipe


@contextlib.contextmanager
def without_notes() -> Iterator[None]:
    """Within it, notes of MediaPipe's C++ parts on standard error are left out.

    No setting of theirs turns these off. Everything else that arrives there, such as errors,
    follows at the end.
    """
    try:
        kept = os.dup(2)
    except OSError:  # there is no standard error
        yield
        return
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            if rest := _NOTES.sub(b"", file.read()):
                os.write(2, rest)


def start_network(network: _Network) -> _Network:
    """Make a solution of MediaPipe that has looked at an image.

    Its threads write their notes until then.
    """
    network.process(np.zeros((64, 64, 3), np.uint8))
    return network


# [H, W, 3] uint8
def process(network: _Network, image: np.ndarray) -> Any:
    """Run one of MediaPipe's solutions without notes and warnings.

    The warnings are of the protobuf inside it, on deprecation.
    """
    with warnings.catch_warnings(), without_notes():
        warnings.simplefilter("ignore")
        return network.process(np.ascontiguousarray(image))


class _Finder:
    """The detector of both adapters: boxes of faces anywhere in an image of any size."""

    def __init__(self, solutions: ModuleType) -> None:
        self._networks = [
            start_network(
                solutions.face_detection.FaceDetection(
                    model_selection=kind, min_detection_confidence=0.5
                )
            )
            # 1: small faces in a 192-pixel image; 0: large faces in a 128-pixel image
            for kind in (1, 0)
        ]

    def rounds(self, rgb: np.ndarray) -> Iterator[list[_Box]]:
        """Yield boxes in the whole image, then in smaller tiles, each round the largest first.

        Faces down to about a hundredth of the width are found so.
        """
        for level in range(4):
            if level and max(rgb.shape[:2]) / 2**level < 256:
                break
            found: list[_Box] = []
            for left, top, width, height in _tiles(rgb.shape[1], rgb.shape[0], level):
                tile = Image.fromarray(rgb[top : top + height, left : left + width])
                found += self._search(tile, left, top, framed=not level)
            yield separate_boxes(found)

    def _search(self, tile: Image.Image, left: int, top: int, framed: bool) -> list[_Box]:
        scale = min(640 / max(tile.size), 1.0)
        size = [max(round(side * scale), 1) for side in tile.size]
        small = np.asarray(tile.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))
        # the networks miss faces that fill the image: the second try stands in a frame
        margin = max(size) // 4
        boxes = []
        for border in (0, margin) if framed else (0,):
            image = (
                np.pad(small, ((border, border), (border, border), (0, 0)), mode="edge")
                if border
                else small
            )
            high, wide = image.shape[:2]
            for network in self._networks:
                for detection in process(network, image).detections or []:
                    area = detection.location_data.relative_bounding_box
                    eyes = [
                        (p.x * wide, p.y * high)
                        for p in detection.location_data.relative_keypoints[:2]
                    ]
                    boxes.append(
                        _Box(
                            (area.xmin * wide - border) / scale + left,
                            (area.ymin * high - border) / scale + top,
                            area.width * wide / scale,
                            area.height * high / scale,
                            float(np.arctan2(eyes[1][1] - eyes[0][1], eyes[1][0] - eyes[0][0])),
                            float(detection.score[0]),
                        )
                    )
            if boxes:
                break
        return boxes


def separate_boxes(boxes: list[_Box]) -> list[_Box]:
    """Return one box for each face, the surest, sorted from the largest to the smallest."""
    kept: list[_Box] = []
    for box in sorted(boxes, key=lambda box: (-box.score, box.left, box.top)):
        if all(box.overlap(other) < _OVERLAP for other in kept):
            kept.append(box)
    return sorted(kept, key=lambda box: (-box.side, box.left, box.top))


# left, top, width, height
def _tiles(width: int, height: int, level: int) -> Iterator[tuple[int, int, int, int]]:
    """Overlapping squares (or less, at narrow images) of a 2**level-th of the long side.

    They overlap by half.
    """
    side = int(np.ceil(max(width, height) / 2**level))
    steps = [max(int(np.ceil(2 * length / side)) - 1, 1) for length in (width, height)]
    for j in range(steps[1]):
        for i in range(steps[0]):
            wide, high = min(side, width), min(side, height)
            left = round((width - wide) * i / max(steps[0] - 1, 1))
            top = round((height - high) * j / max(steps[1] - 1, 1))
            yield left, top, wide, high


class MediapipeLandmarks:
    """Detection and mesh of ``mediapipe==0.10.14``, whose networks come with the package.

    ``flips`` says which of the crop (False) and its mirror image (True) are measured and averaged.

    Raises:
        UserError: mediapipe is missing, or is a version without ``mediapipe.solutions``.
    """

    def __init__(self, flips: tuple[bool, ...] = (False, True)):
        self._flips = flips
        solutions = getattr(import_mediapipe(), "solutions", None)
        if solutions is None:
            raise UserError(
                "This mediapipe has no mediapipe.solutions any more; install mediapipe==0.10.14"
                " (gghead[prep]), or download a face_landmarker.task and give"
                " `landmarker=face_landmarker.task`."
            )
        with warnings.catch_warnings(), without_notes():
            warnings.simplefilter("ignore")  # of the protobuf inside
            self._finder = _Finder(solutions)
            self._mesh = start_network(
                solutions.face_mesh.FaceMesh(
                    static_image_mode=True,
                    max_num_faces=2,
                    refine_landmarks=True,
                    min_detection_confidence=0.3,
                )
            )

    def faces(self, rgb: np.ndarray, name: str, every: bool) -> list[Face]:
        rounds = self._finder.rounds(rgb)
        if every:
            rounds = iter([separate_boxes([box for found in rounds for box in found])])
        # smaller tiles are searched only while nothing turned out to be a face
        for boxes in rounds:
            faces: list[Face] = []
            for box in boxes:
                points = measure(rgb, box, self._meshes, self._flips)
                if points is not None:
                    faces.append(Face(points, "mediapipe478", box.score))
                    if not every:
                        return faces
            if faces:
                return largest_first(faces)
        return []

    def _meshes(self, crop: np.ndarray) -> list[np.ndarray]:
        found = process(self._mesh, crop).multi_face_landmarks or []
        return [np.array([(point.x, point.y) for point in mesh.landmark]) for mesh in found]


class TaskLandmarks:
    """The same through MediaPipe's tasks API.

    It needs a ``face_landmarker.task`` file that the user has downloaded.

    Raises:
        UserError: mediapipe or the file is missing, or the file is no such model.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_file():
            raise UserError(
                f"{path} does not exist; give the path of a downloaded face_landmarker.task."
            )
        mediapipe = import_mediapipe()
        try:
            # of the extra [prep], which may not be installed
            from mediapipe.tasks import python as tasks  # pyright: ignore[reportMissingImports]

            options = tasks.vision.FaceLandmarkerOptions(
                base_options=tasks.BaseOptions(model_asset_path=str(self.path)),
                num_faces=10,
                min_face_detection_confidence=0.3,
            )
            with without_notes():
                self._network = tasks.vision.FaceLandmarker.create_from_options(options)
        except ImportError as error:
            raise UserError(
                f"mediapipe's tasks cannot be imported ({error}); {_REMEDY}."
            ) from error
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"{path} is no face_landmarker.task that this mediapipe can use ({error})."
            ) from error
        self._image = lambda rgb: mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=rgb)

    def faces(self, rgb: np.ndarray, name: str, every: bool) -> list[Face]:
        scale = min(1280 / max(rgb.shape[:2]), 1.0)
        size = [max(round(side * scale), 1) for side in rgb.shape[1::-1]]
        small = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BILINEAR))
        faces: list[Face] = []
        rough = [points * rgb.shape[1::-1] for points in self._meshes(small)]
        for first in largest_first([Face(points, "mediapipe478") for points in rough]):
            left, top, right, bottom = first.box
            # outer eye corners, left to right in the image
            across = first.points[263] - first.points[33]
            box = _Box(
                left, top, right - left, bottom - top, float(np.arctan2(across[1], across[0])), 1.0
            )
            points = measure(rgb, box, self._meshes)
            if points is not None:
                faces.append(Face(points, "mediapipe478"))
                if not every:
                    break
        return largest_first(faces)

    def _meshes(self, crop: np.ndarray) -> list[np.ndarray]:
        with without_notes():
            found = self._network.detect(self._image(np.ascontiguousarray(crop))).face_landmarks
        return [np.array([(point.x, point.y) for point in mesh]) for mesh in found]


def measure(
    rgb: np.ndarray,
    box: _Box,
    meshes: Callable[[np.ndarray], list[np.ndarray]],
    flips: tuple[bool, ...] = (False, True),
) -> np.ndarray | None:  # [478, 2] pixels of the photo
    """Return the mesh of the face in ``box``.

    It is averaged over its upright crop and the crop's mirror image.

    ``meshes`` maps an image to the meshes in it, [478, 2] divided by the image's size. None if
    there is none, or if crop and mirror image show different things.
    """
    crop, to_photo = _upright(rgb, box)
    middle = np.array([0.5, 0.5])
    pair = []
    for flip in flips:
        found = meshes(np.ascontiguousarray(crop[:, ::-1] if flip else crop))
        if flip:
            found = [(points * [-1, 1] + [1, 0])[mirror_index()] for points in found]
        found = [points for points in found if np.abs(points.mean(0) - middle).max() < 0.25]
        if not found:
            return None
        pair.append(min(found, key=lambda points: float(np.abs(points.mean(0) - middle).sum())))
    size = np.sqrt(np.prod(pair[0].max(0) - pair[0].min(0)))
    if np.sqrt(((pair[0] - pair[-1]) ** 2).sum(1).mean()) > _MISMATCH * size:
        return None
    points = np.mean(pair, axis=0) * _CROP
    return points @ to_photo[:, :2].T + to_photo[:, 2]


def _upright(rgb: np.ndarray, box: _Box) -> tuple[np.ndarray, np.ndarray]:
    """Return the square crop around ``box`` with level eyes, and its 2x3 matrix.

    The matrix goes from its pixels to the photo's.
    """
    side = _ROOM * box.side
    corner = box.center - np.hypot(side, side) / 2
    reach = int(np.ceil(np.hypot(side, side)))
    x0, y0 = np.floor(corner).astype(int)
    # black outside the photo
    window = Image.fromarray(rgb).crop((x0, y0, x0 + reach + 2, y0 + reach + 2))
    scale = side / _CROP
    shrink = max(int(scale), 1)  # transform() does not filter, so large windows are averaged first
    window = window.reduce(shrink) if shrink > 1 else window
    cos, sin = scale * np.cos(box.angle), scale * np.sin(box.angle)
    linear = np.array([[cos, -sin], [sin, cos]])
    shift = box.center - linear @ [_CROP / 2, _CROP / 2]
    local = np.column_stack([linear, shift - [x0, y0]]) / shrink
    crop = window.transform(
        (_CROP, _CROP), Image.Transform.AFFINE, local.ravel().tolist(), Image.Resampling.BILINEAR
    )
    return np.asarray(crop), np.column_stack([linear, shift])
