"""Masks of photos: MediaPipe's, refined along edges by a guided filter."""

from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from gghead.data.files import IMAGE_SUFFIXES
from gghead.data.images import decode_image
from gghead.data.photos.crop import Crop, cut
from gghead.torch_utils.errors import UserError


def guided_filter(
    guide: np.ndarray,  # [H, W, 3] float in [0, 1]
    values: np.ndarray,  # [H, W] float
    radius: int,  # half width of the windows, pixels
    epsilon: float = 1e-4,  # variance of the guide below which a window counts as flat
) -> np.ndarray:  # [H, W] float32
    """Return ``values`` as the best local affine function of the guide's colors.

    Equations 14 to 16 of the paper.
    """
    slope, offset = _affine(guide.astype(np.float32), values.astype(np.float32), radius, epsilon)
    return (slope * guide).sum(-1, dtype=np.float32) + offset


def fast_guided_filter(
    guide: np.ndarray, values: np.ndarray, radius: int, epsilon: float = 1e-4, shrink: int = 2
) -> np.ndarray:
    """The same with affine functions of an image ``shrink`` times smaller (He and Sun 2015).

    ``radius`` still counts pixels of the large image.
    """
    height, width = values.shape
    small = (max(width // shrink, 1), max(height // shrink, 1))

    def resize(plane: np.ndarray, size: tuple[int, int], kind: Image.Resampling) -> np.ndarray:
        return np.asarray(
            Image.fromarray(np.ascontiguousarray(plane, np.float32)).resize(size, kind)
        )

    less = np.stack([resize(guide[..., c], small, Image.Resampling.BOX) for c in range(3)], -1)
    slope, offset = _affine(
        less, resize(values, small, Image.Resampling.BOX), max(radius // shrink, 1), epsilon
    )
    result = resize(offset, (width, height), Image.Resampling.BILINEAR).copy()
    for c in range(3):
        result += resize(slope[..., c], (width, height), Image.Resampling.BILINEAR) * guide[..., c]
    return result


def _affine(
    guide: np.ndarray, values: np.ndarray, radius: int, epsilon: float
) -> tuple[np.ndarray, np.ndarray]:  # [H, W, 3], [H, W]
    """Slope and offset at every pixel, averaged over the windows that hold it."""
    from scipy.ndimage import uniform_filter

    def mean(plane: np.ndarray) -> np.ndarray:
        return uniform_filter(plane, 2 * radius + 1, mode="reflect")

    channels = [guide[..., c] for c in range(3)]
    means = [mean(c) for c in channels]
    average = mean(values)
    cross = np.stack(
        [mean(c * values) - m * average for c, m in zip(channels, means, strict=True)], -1
    )
    variance = np.empty(values.shape + (3, 3), np.float32)
    for i in range(3):
        for j in range(i, 3):
            variance[..., i, j] = variance[..., j, i] = (
                mean(channels[i] * channels[j]) - means[i] * means[j]
            )
    slope = _solve(variance + epsilon * np.eye(3, dtype=np.float32), cross)
    offset = average - sum(slope[..., c] * means[c] for c in range(3))
    return np.stack([mean(slope[..., c]) for c in range(3)], -1), mean(offset)


# [..., 3, 3] symmetric, [..., 3] -> [..., 3]
def _solve(matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Cramer's rule, several times faster on an image than a general solver."""
    a, b, c = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 0, 2]
    d, e, f = matrix[..., 1, 1], matrix[..., 1, 2], matrix[..., 2, 2]
    x, y, z = np.moveaxis(vector, -1, 0)
    first, second, third = d * f - e * e, c * e - b * f, b * e - c * d
    determinant = a * first + b * second + c * third
    solved = [
        first * x + second * y + third * z,
        second * x + (a * f - c * c) * y + (b * c - a * e) * z,
        third * x + (b * c - a * e) * y + (a * d - b * b) * z,
    ]
    return np.stack(solved, -1) / determinant[..., None]


class Matte(Protocol):
    """What cuts the person out. It is made in the process that uses it."""

    def alpha(
        self, image: np.ndarray, name: str, crop: Crop | None, size: tuple[int, int]
    ) -> np.ndarray:
        """Return alpha [R, R] uint8 of ``image`` [R, R, 3] uint8.

        It is the ``crop`` of photo ``name`` of ``size`` (width, height). A crop of None means that
        the photo was taken as it is. Raises ``UserError`` if there is none.
        """
        ...


class SelfieMatte:
    """MediaPipe's selfie segmentation (256x256, in mediapipe==0.10.14), refined by a guided filter.

    Raises ``UserError`` where mediapipe cannot be imported or has no ``solutions``.
    """

    def __init__(self):
        from gghead.data.photos.mediapipe_faces import (
            import_mediapipe,
            process,
            start_network,
            without_notes,
        )

        solutions = getattr(import_mediapipe(), "solutions", None)
        if solutions is None:
            raise UserError(
                "This mediapipe has no selfie segmentation; give `masks=DIR`,"
                " `matte=onnx:PATH` or `matte=none`."
            )
        with without_notes():
            self._network = start_network(
                solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)
            )
        self._process = process

    def alpha(
        self, image: np.ndarray, name: str, crop: Crop | None, size: tuple[int, int]
    ) -> np.ndarray:
        small = image
        # the network sees 256 pixels, and OpenCV shrinks without a filter
        if image.shape[0] > 512:
            small = np.asarray(Image.fromarray(image).resize((512, 512), Image.Resampling.BILINEAR))
        coarse = self._process(self._network, small).segmentation_mask
        return refine(image, coarse)


class FolderMatte:
    """Masks of the photos (255 = person) in a folder, each with its photo's path and stem.

    Paths are relative, images of any type.

    Raises ``UserError`` if there is no such folder.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise UserError(f"{folder} is not a folder of masks; name one that holds them.")

    def alpha(
        self, image: np.ndarray, name: str, crop: Crop | None, size: tuple[int, int]
    ) -> np.ndarray:
        path = next(filter(Path.is_file, mask_files(self.folder, name)), None)
        if path is None:
            raise UserError(
                f"{name} has no mask {Path(name).with_suffix('.png')} in {self.folder}."
            )
        mask = np.asarray(decode_image(path.read_bytes(), "L", str(path)))
        if mask.shape != (size[1], size[0]):
            raise UserError(
                f"The mask {path} is {mask.shape[1]}x{mask.shape[0]}, but {name} is"
                f" {size[0]}x{size[1]}."
            )
        whole = Crop(np.array(size) / 2, float(size[0])) if crop is None else crop
        return cut(mask, whole, image.shape[0])[0]


def mask_files(folder: str | Path, name: str) -> list[Path]:
    """Where the mask of a photo may lie, the first that is there counts."""
    return [Path(folder) / Path(name).with_suffix(suffix) for suffix in IMAGE_SUFFIXES]


class OnnxMatte:
    """A matting network by path, as MODNet's export.

    The one input is [1, 3, H, W], RGB in [-1, 1]; the first output is [1, 1, H, W], alpha in [0,
    1]. It needs the package onnxruntime.

    Raises ``UserError`` if the file or onnxruntime is missing or the network has another form.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_file():
            raise UserError(
                f"The matting network {path} does not exist; give the path of an .onnx file."
            )
        try:
            # not among what this project is checked with: users bring it
            import onnxruntime  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise UserError(
                "A matting network needs onnxruntime; run 'pip install onnxruntime'."
            ) from error
        options = onnxruntime.SessionOptions()
        # the workers are what runs in parallel
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's errors have no common base
            raise UserError(f"{path} is no network that onnxruntime can read ({error}).") from error
        first = self._session.get_inputs()[0]
        if (
            len(first.shape) != 4
            or first.shape[1] not in (3, None)
            and not isinstance(first.shape[1], str)
        ):
            raise UserError(
                f"{path} takes {first.shape}, but a matting network must take [1, 3, H, W]."
            )
        self._name = first.name
        self._side = first.shape[2] if isinstance(first.shape[2], int) else 512

    def alpha(
        self, image: np.ndarray, name: str, crop: Crop | None, size: tuple[int, int]
    ) -> np.ndarray:
        small = Image.fromarray(image).resize((self._side, self._side), Image.Resampling.BILINEAR)
        given = (np.asarray(small, np.float32) / 127.5 - 1).transpose(2, 0, 1)[None]
        result = np.asarray(self._session.run(None, {self._name: given})[0]).squeeze()
        if result.ndim != 2:
            raise UserError(
                f"{self.path} returned {list(result.shape)}, not [1, 1, H, W] as a matting network"
                " must."
            )
        side = (image.shape[1], image.shape[0])
        alpha = Image.fromarray(result.astype(np.float32)).resize(side, Image.Resampling.BILINEAR)
        return np.rint(np.clip(np.asarray(alpha), 0, 1) * 255).astype(np.uint8)


# [R, R, 3] uint8, [h, w] float -> [R, R] uint8
def refine(image: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """Let a coarse mask follow the edges of the image."""
    side = image.shape[0]
    mask = np.asarray(
        Image.fromarray(coarse.astype(np.float32)).resize((side, side), Image.Resampling.BILINEAR)
    )
    refined = fast_guided_filter(
        image / np.float32(255), mask, max(side // 64, 1), shrink=max(side // 256, 1)
    )
    # The filter's linear model leaves a haze over both sides of the edge; the ends of the range are
    # put back.
    return np.rint(np.clip((refined - 0.05) / 0.9, 0, 1) * 255).astype(np.uint8)


def make_matte(name: str, masks: str | Path | None) -> Matte | None:
    """Return the matte called ``name``, or that of the folder ``masks``.

    Names are selfie, onnx:PATH and none.

    Raises ``UserError`` for another name, or as the mattes do.
    """
    if masks is not None:
        return FolderMatte(masks)
    if name == "none":
        return None
    if name == "selfie":
        return SelfieMatte()
    if name.startswith("onnx:"):
        return OnnxMatte(name.removeprefix("onnx:"))
    raise UserError(f"`matte={name}` is unknown; use selfie, onnx:PATH or none.")
