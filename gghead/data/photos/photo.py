"""One photo: find the face, fit the camera, cut the crop and the mask, judge.

Everything that a worker process does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gghead.cameras import Cameras
from gghead.data.images import (
    decode_image,
    estimate_foreground,
    resize_image,
    resize_straight_alpha,
)
from gghead.data.photos.config import AUTO_ALIGN_DEGREES, PhotoOptions
from gghead.data.photos.crop import Crop, cut
from gghead.data.photos.landmarks import (
    Face,
    JsonLandmarks,
    Landmarker,
    landmark_model,
    level_angle,
)
from gghead.data.photos.mattes import Matte, make_matte
from gghead.data.photos.pose import fit_pose
from gghead.data.photos.report import Measures, fault, score, sharpness
from gghead.data.zip_writer import encode_png
from gghead.torch_utils.errors import UserError


@dataclass(frozen=True, eq=False)
class Item:
    """A finished image."""

    image: bytes  # PNG [R, R, 3]
    mask: bytes | None  # PNG [R, R]
    label: list[float]  # 25
    record: dict  # what ``frames`` in dataset.json says of it


@dataclass(frozen=True)
class Skip:
    """A photo or a face that is left out."""

    reason: str
    detail: str


class PhotoWorker:
    """Turns photos into items.

    Made once in each process, because networks cannot travel between processes.

    ``labels`` are ready cameras by name; with them photos are taken whole and no detector is
    needed.

    Raises:
        UserError: a package, file or option is missing or wrong.
    """

    def __init__(self, options: PhotoOptions, labels: Mapping[str, Sequence[float]] | None = None):
        self.options = options
        self._labels = labels
        self._landmarker = None if labels is not None else make_landmarker(options.landmarker)
        self._matte: Matte | None = make_matte(options.matte, options.masks)

    def run(self, data: bytes, name: str) -> list[Item | Skip]:
        """Return what becomes of a photo (its encoded bytes).

        It is an item or a reason for every face considered.
        """
        try:
            rgb = np.asarray(decode_image(data, "RGB", name))
        except UserError as error:
            return [Skip("unreadable", str(error))]
        if self._labels is not None:
            return [self._with_camera(rgb, name, self._labels[name])]
        assert self._landmarker is not None  # there is one where there are no labels
        every = self.options.faces == "all"
        faces = self._landmarker.faces(rgb, name, every)
        if not faces:
            return [Skip("no face", "no face was found")]
        return [
            self._face(rgb, name, face, index)
            for index, face in enumerate(faces if every else faces[:1])
        ]

    def _face(self, rgb: np.ndarray, name: str, face: Face, index: int) -> Item | Skip:
        options = self.options
        fit = fit_pose(face.points, landmark_model(face.scheme))
        angle = level_angle(face.points, face.scheme)
        leans = abs(np.degrees(angle)) > AUTO_ALIGN_DEGREES
        turn = options.align == "always" or (options.align == "auto" and leans)
        crop = Crop(fit.center, fit.size, angle if turn else 0.0)
        label = crop.label(fit.rotation)
        yaw, pitch, roll = camera_degrees(label)
        height, width = rgb.shape[:2]
        outside = (face.points < 0) | (face.points > [width, height])
        # nothing but a failed fit; a crop of that size costs memory
        if fit.size > 20 * max(width, height):
            return Skip("poor fit", f"the crop would have {fit.size:.0f} pixels")
        side = max(options.resolution, 256)  # masks are cut at no less
        image, filled = cut(rgb, crop, side)
        measures = Measures(
            scale=fit.size / options.resolution,
            sharpness=sharpness(image),
            filled=filled,
            cut=float(outside.any(1).mean()),
            yaw=yaw,
            pitch=pitch,
            residual=fit.residual,
        )
        if found := fault(measures, options.limits):
            return Skip(*found)
        record = {
            "source": name,
            "face": index,
            "yaw": yaw,
            "pitch": pitch,
            "roll": roll,
            "crop_box_in_source": crop.box,
            "crop_angle": round(float(np.degrees(crop.angle)), 2),
            "filled": round(filled, 4),
            "residual_px": round(fit.residual * 512, 3),
            "unusual": round(fit.unusual, 2),
            "sharpness": measures.sharpness,
            "score": round(face.score, 4),
            "quality": score(measures),
        }
        return self._finish(image, name, crop, (width, height), label.tolist(), record)

    def _with_camera(self, rgb: np.ndarray, name: str, label: Sequence[float]) -> Item | Skip:
        height, width = rgb.shape[:2]
        if width != height:
            return Skip(
                "not square", f"{width}x{height}; a photo with a ready camera must be square"
            )
        yaw, pitch, roll = camera_degrees(np.array(label))
        side = max(self.options.resolution, 256)
        image = resize_image(rgb, side)
        record = {"source": name, "yaw": yaw, "pitch": pitch, "roll": roll}
        return self._finish(image, name, None, (width, height), list(label), record)

    def _finish(
        self,
        image: np.ndarray,  # [S, S, 3] uint8
        name: str,
        crop: Crop | None,
        size: tuple[int, int],
        label: list[float],
        record: dict,
    ) -> Item | Skip:
        resolution = self.options.resolution
        if self._matte is None:
            return Item(encode_png(resize_image(image, resolution)), None, label, record)
        try:
            alpha = self._matte.alpha(image, name, crop, size)
        except UserError as error:
            return Skip("no mask", str(error))
        if not alpha.any():
            return Skip("no mask", "the mask is empty: no person was found")
        if self.options.foreground:
            image = np.where(alpha[..., None] > 0, estimate_foreground(image, alpha), image)
        image, alpha = resize_straight_alpha(image, alpha, resolution)
        if not alpha.any():
            return Skip("no mask", "the mask is empty at this resolution")
        return Item(encode_png(image), encode_png(alpha), label, record)


def make_landmarker(name: str) -> Landmarker:
    """Return the adapter for a landmarker; raises ``UserError`` if it cannot be used."""
    if name == "mediapipe":
        from gghead.data.photos.mediapipe_faces import MediapipeLandmarks

        return MediapipeLandmarks()
    if name.endswith(".json"):
        return JsonLandmarks(name)
    if name.endswith(".task"):
        from gghead.data.photos.mediapipe_faces import TaskLandmarks

        return TaskLandmarks(name)
    raise UserError(
        f"`landmarker={name}` is unknown; use mediapipe, a .json file of landmarks or a .task"
        " model file."
    )


def camera_degrees(label: np.ndarray) -> tuple[float, float, float]:  # [25] -> yaw, pitch, roll
    """Angles of a label's camera in degrees (signs as in ``Cameras.orbit``)."""
    import torch

    angles = Cameras.from_label(torch.from_numpy(np.asarray(label, np.float64))).angles()
    yaw, pitch, roll = (round(float(np.degrees(float(angle))), 3) for angle in angles)
    return yaw, pitch, roll
