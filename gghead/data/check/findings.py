"""What a check found: named faults with the files, the likely cause and the remedy."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

ERROR, WARNING = "error", "warning"

# code: (severity, what is wrong with "{files}", likely cause, remedy)
FAULTS: dict[str, tuple[str, str, str, str]] = {
    # ---------------------------------------------------------------------------------------- files
    "unlabeled": (
        ERROR,
        "images without a camera label",
        "dataset.json is older than the images, or names them otherwise (folder, suffix)",
        "write a label for each image or take the images out",
    ),
    "resource-fork": (
        ERROR,
        "'images' that macOS put beside the real ones (__MACOSX/, ._name)",
        "the zip was packed by the Finder",
        "pack it again with: zip -X -r -0 X.zip . -x '.*' '__MACOSX/*'",
    ),
    "missing-image": (
        ERROR,
        "labels whose image is not there",
        "images were left out, or renamed after labeling",
        "copy the images or remove their labels from dataset.json",
    ),
    "label-size": (
        ERROR,
        "labels that are not 25 numbers",
        "class labels as for StyleGAN, or only the 16 numbers of the pose",
        "write cam2world (16) and then the intrinsics (9), row by row",
    ),
    "extra-file": (
        WARNING,
        "files that nothing refers to",
        "left over from another tool",
        "remove them; they are not read",
    ),
    "repeated-name": (
        WARNING,
        "names that the zip holds more than once; only the last one is read",
        "files were added to an existing zip",
        "write the zip anew",
    ),
    "undecodable": (
        ERROR,
        "files that cannot be decoded",
        "an interrupted copy or download, or a defective disk",
        "copy or make them again, or take them out together with their labels",
    ),
    "mixed-size": (
        ERROR,
        "images of another size than most",
        "images of several sources were put together",
        "resize all images to one size",
    ),
    "not-square": (
        ERROR,
        "images that are not square",
        "photos that were not cropped",
        "crop them (dataset_tool.py photos) and compute their cameras for the crop",
    ),
    "duplicate": (
        WARNING,
        "images that are there more than once",
        "a download or conversion that ran twice",
        "keep one of each; repeated images are learned by heart first",
    ),
    "duplicate-camera": (
        ERROR,
        "equal images with different cameras",
        "labels that slipped by some lines, or came from two runs",
        "find out which label is right and remove the other image",
    ),
    "mask-missing": (
        ERROR,
        "images without a mask although others have one",
        "the matting skipped them, or names differ",
        "make the missing masks, or take the images out",
    ),
    "mask-extra": (
        WARNING,
        "masks without an image",
        "images were taken out, their masks were not",
        "remove them",
    ),
    "mask-empty": (
        ERROR,
        "masks that are all zero",
        "the matting found nobody",
        "make them again or take the images out",
    ),
    "mask-full": (
        WARNING,
        "masks that are all foreground",
        "stand-ins, or the matting failed",
        "make them again, or train without masks",
    ),
    "mask-inverted": (
        ERROR,
        "masks that cover the background instead of the head",
        "255 must be the person; the tool wrote the opposite",
        "invert the masks",
    ),
    "mask-size": (
        ERROR,
        "masks of another shape than their image",
        "masks of the uncropped photos",
        "crop the masks as the images were cropped",
    ),
    # -------------------------------------------------------------------------------------- cameras
    "not-finite": (
        ERROR,
        "cameras with NaN or infinite numbers",
        "the pose estimation failed",
        "leave the images out or estimate their cameras again",
    ),
    "layout": (
        ERROR,
        "labels that are not cam2world (ending in 0 0 0 1) and intrinsics (ending in 0 0 1)",
        "numbers in another order, or 3x4 matrices",
        "write the row-major 4x4 cam2world, then the row-major 3x3",
    ),
    "transposed": (
        ERROR,
        "matrices stored column by column",
        "a matrix was transposed (column-major tools, .T)",
        "transpose the 4x4 (and 3x3) matrices before writing them row by row",
    ),
    "rotation": (
        ERROR,
        "cameras whose 3x3 part is no rotation (rows not orthonormal)",
        "a scale was left in the matrix, or its numbers were rounded or averaged",
        "normalize the rotation (SVD) and put the scale into the position",
    ),
    "handedness": (
        ERROR,
        "cameras that mirror (determinant -1)",
        "one axis was negated when axes were converted",
        "negate two axes, never one; cameras are right-handed with OpenCV axes",
    ),
    "focal-sign": (
        ERROR,
        "cameras with a focal length that is not positive",
        "negative fx as in IMavatar or OpenGL projection matrices",
        "negate it together with the axis",
    ),
    "pixels": (
        ERROR,
        "intrinsics in pixels",
        "they were not divided by the image size",
        "divide the first row by the width and the second by the height",
    ),
    "opengl-axes": (
        ERROR,
        "cameras that look away from the head; with y and z negated they look at it",
        "OpenGL or Blender axes (x right, y up, z backward), as in NeRF's transforms.json",
        "multiply columns 1 and 2 of cam2world (y and z) by -1",
    ),
    "world-to-camera": (
        ERROR,
        "cameras that miss the head; their inverses look at it",
        "the extrinsic (world-to-camera) matrix was stored",
        "store its inverse, cam2world",
    ),
    "world-to-camera-opengl": (
        ERROR,
        "cameras that miss the head; their inverses look at it with y and z negated",
        "an OpenGL view (world-to-camera) matrix was stored",
        "invert the matrix, then multiply columns 1 and 2 by -1",
    ),
    "transposed-rotation": (
        ERROR,
        "cameras that miss the head; with the rotation transposed they look at it",
        "the position is right, but the rotation is that of world-to-camera",
        "transpose the 3x3 rotation and keep the position",
    ),
    "z-up": (
        ERROR,
        "cameras whose image is upright along the world's z axis",
        "a world with z up, as Blender's",
        "rotate the world: new y = old z, new z = -old y",
    ),
    "z-up-opengl": (
        ERROR,
        "cameras that miss the head; with Blender's axes they look at it",
        "matrix_world of Blender's cameras: z up in the world, and y up, z backward in the camera",
        "multiply columns 1 and 2 of cam2world by -1, then rotate the world: y = old z, z = -old y",
    ),
    "upside-down": (
        ERROR,
        "cameras that hold the image upside down",
        "a world with y down (OpenCV trackers), or images stored bottom row first",
        "rotate the world by 180 degrees about x, or turn the images",
    ),
    "aim": (
        ERROR,
        "cameras that do not look at the head",
        "another world origin, angles in degrees used as radians, or poses of other images",
        "the head must stand at the world's origin; look at the contact sheet",
    ),
    "from-behind": (
        ERROR,
        "a set that sees heads from behind only",
        "the face must look along +z; here it looks along -z (or the yaw is off by 180 degrees)",
        "rotate the world by 180 degrees about y",
    ),
    "units": (
        ERROR,
        "camera distances in another unit",
        "positions in {unit}; one unit of the world is 0.373 m",
        "divide the positions by {scale:g}",
    ),
    "framing": (
        ERROR,
        "cameras by which the head would be {share:.2g} times as high as the image",
        "radius and focal length do not belong together (units, field of view, crop)",
        "for FFHQ crops: radius 2.7, focal 4.2647 (image widths); look at the contact sheet",
    ),
    "focal-diagonal": (
        WARNING,
        "cameras with focal 3.014, which is EG3D's 18.837 degrees taken as a horizontal angle",
        "18.837 degrees is the field of view along the diagonal; the horizontal one is 13.38",
        "use focal 4.2647",
    ),
    "intrinsics": (
        WARNING,
        "cameras with skew, unequal focal lengths or a far-off center",
        "images stretched to a square, or principal points of the uncropped photo",
        "crop instead of stretching, and shift the principal point by the crop",
    ),
    "radius-outlier": (
        WARNING,
        "cameras much nearer or farther than the others",
        "single poses failed",
        "look at them in the contact sheet; estimate them again or leave them out",
    ),
    "one-camera": (
        WARNING,
        "one camera for all images",
        "the frontal pose was written instead of estimated ones",
        "estimate the cameras; depth cannot be learned from one view",
    ),
    # ------------------------------------------------------------------------- images and cameras
    "mirrored-pairs": (
        ERROR,
        "pairs of mirrored images whose cameras are not mirrored",
        "images were flipped and the pose was kept (EG3D's --mirror does that)",
        (
            "negate entries [0,1], [0,2], [1,0], [2,0] and [0,3] of the flipped image's cam2world,"
            " or remove the flipped images and train with `mirror=True`"
        ),
    ),
    "mirrored-poses": (
        ERROR,
        "poses that fit the mirrored masks better than the masks",
        "left and right were swapped: images flipped without their poses, or x negated",
        "mirror the poses (or the images) of the whole set",
    ),
    "silhouette": (
        ERROR,
        "a set whose masks do not lie where the template stands by the cameras",
        "cameras of another crop, focal length or origin, or masks of other images",
        "look at the contact sheet: the drawn head must cover the head",
    ),
    "silhouette-scale": (
        ERROR,
        "a set whose heads are {factor:.2f} times as large as the cameras say",
        "focal length, radius or crop is off by that factor",
        "multiply the focal lengths by {factor:.2f}, or divide the radius by it",
    ),
    "slipped": (
        ERROR,
        (
            "images whose masks fit the cameras of their neighbors (offset {slip}) better than"
            " their own"
        ),
        "the list of labels slipped against the list of images",
        "pair images and labels by name again",
    ),
    "silhouette-outlier": (
        WARNING,
        "images whose mask does not lie where the template stands",
        "single poses or masks failed, or labels slipped",
        "look at them in the contact sheet and leave wrong ones out",
    ),
}


@dataclass
class Finding:
    """One kind of fault."""

    code: str
    files: list[str]
    """Names of the files concerned, or of the images whose cameras are."""
    count: int = 0
    detail: str = ""
    """More about the first case, e.g. the decoder's message."""
    values: dict = field(default_factory=dict)
    """What the sentences mention."""
    severity: str = ""

    def __post_init__(self) -> None:
        self.count = self.count or len(self.files)
        self.severity = self.severity or FAULTS[self.code][0]

    def texts(self) -> tuple[str, str, str]:
        """What, likely cause, remedy."""
        _, what, cause, remedy = FAULTS[self.code]
        return (
            what.format(**self.values),
            cause.format(**self.values),
            remedy.format(**self.values),
        )

    def sentence(self) -> str:
        """All in one line."""
        what, cause, remedy = self.texts()
        first = (
            f" (first: {self.files[0]}{': ' + self.detail if self.detail else ''})"
            if self.files
            else ""
        )
        return f"{self.code}: {self.count} {what}{first}. Likely cause: {cause}. Remedy: {remedy}."

    def as_dict(self, most: int = 100) -> dict:
        """For JSON; at most ``most`` file names."""
        what, cause, remedy = self.texts()
        return {
            "code": self.code,
            "severity": self.severity,
            "count": self.count,
            "what": what,
            "likely_cause": cause,
            "remedy": remedy,
            "detail": self.detail,
            "files": self.files[:most],
            **self.values,
        }


# wrong: [N] bool
def findings_where(code: str, wrong: np.ndarray, names: list[str], **extra: Any) -> list[Finding]:
    """A finding for the names where ``wrong`` holds, or none."""
    files = [name for name, bad in zip(names, wrong, strict=True) if bad]
    return [Finding(code, files, **extra)] if files else []


def sort_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Errors first, then by number."""
    return sorted(findings, key=lambda found: (found.severity != ERROR, -found.count, found.code))
