"""How photos become training data, and which are skipped.

A module without torch, for what commands declare.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from gghead.torch_utils.config import Option, Range

AUTO_ALIGN_DEGREES = 10.0  # photos that were aligned before rarely lean more


@dataclass(frozen=True)
class Limits:
    """What is skipped; a limit that a photo just meets is met."""

    min_scale: Annotated[float, Range(0), Option()] = 0.5
    """Skip crops whose side in the photo is less than this share of the resolution: they would be
    enlarged more than by the inverse."""
    min_sharpness: Annotated[float, Range(0), Option()] = 0.02
    """Skip faces less sharp than this: sharp photos have 0.06 to 0.3, blurred with four pixels (of
    512) 0.02.

    See ``report.sharpness``."""
    max_filled: Annotated[float, Range(0, 1), Option()] = 0.25
    """Skip crops of which more than this share lies outside the photo and is made up."""
    max_cut: Annotated[float, Range(0, 1)] = 0.02
    """Share of the face's points outside the photo."""
    max_yaw: Annotated[float, Range(0), Option()] = 50.0
    """Skip faces turned further to a side, degrees: beyond, the estimate falls short (7 degrees at
    60)."""
    max_pitch: Annotated[float, Range(0), Option()] = 40.0
    """Skip faces turned further up or down, degrees."""
    max_residual: Annotated[float, Range(0)] = 0.012
    """RMS distance of the landmarks to the fitted model, share of the crop's side."""


@dataclass(frozen=True)
class PhotoOptions:
    """What decides the result for one photo (and therefore names it in the cache)."""

    resolution: Annotated[int, Range(8), Option(form="resolution")] = 512
    """Side of the images, pixels."""
    faces: Annotated[Literal["largest", "all"], Option()] = "largest"
    """Which faces of a photo are taken."""
    align: Annotated[Literal["auto", "always", "never"], Option()] = "auto"
    """Turn crops upright; auto does so where the face leans by more than 10 degrees."""
    landmarker: Annotated[str, Option(metavar="mediapipe|FILE")] = "mediapipe"
    """Finds the faces: mediapipe, FILE.json of landmarks, or a face_landmarker.task file."""
    matte: Annotated[str, Option(metavar="selfie|onnx:PATH|none")] = "selfie"
    """Makes the masks: selfie, onnx:PATH (a matting network) or none."""
    masks: Annotated[str | None, Option(metavar="DIR")] = None
    """Folder with masks of the photos, instead of a matte."""
    foreground: Annotated[bool, Option()] = True
    """Where masks are partial, store the foreground's own color without the background's; 0: leave
    photos as they are."""
    limits: Limits = field(default_factory=Limits)
    """What is skipped."""
