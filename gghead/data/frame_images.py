"""The images of a set of frames: in files or videos, freed from lens distortion."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from torch import Tensor

from gghead.data.files import Files, image_header
from gghead.data.images import (
    Box,
    decode_image,
    fit_mask,
    parse_header,
    resize_composite,
    resize_image,
    resize_straight_alpha,
)
from gghead.data.video_frames import VideoFrames, is_video_frame
from gghead.torch_utils.errors import UserError

# of the image's width: beyond it the polynomial folds over in real fits, so it is a wrong unit
_LARGEST = 0.25


@dataclass(frozen=True)
class Lens:
    """One camera's distortion: where a point of the pinhole image lies in the one taken.

    With x, y the pinhole coordinates (X/Z, Y/Z) and r² = x² + y² (OpenCV, "Camera calibration and
    3D reconstruction"): x' = x (1 + k1 r² + k2 r⁴ + k3 r⁶) + 2 p1 x y + p2 (r² + 2 x²), y' = y (1 +
    k1 r² + k2 r⁴ + k3 r⁶) + p1 (r² + 2 y²) + 2 p2 x y.
    """

    # fx, cx divided by the width, fy, cy by the height: fx, fy, cx, cy
    intrinsics: tuple[float, float, float, float]
    k1: float = 0.0
    k2: float = 0.0
    p1: float = 0.0
    p2: float = 0.0
    k3: float = 0.0

    # [..., 2] divided by the image size -> [..., 2] likewise
    def distort(self, points: np.ndarray) -> np.ndarray:
        """Where points of the pinhole image lie in the image that was taken."""
        fx, fy, cx, cy = self.intrinsics
        x, y = (points[..., 0] - cx) / fx, (points[..., 1] - cy) / fy
        r2 = x * x + y * y
        radial = 1 + r2 * (self.k1 + r2 * (self.k2 + r2 * self.k3))
        distorted_x = x * radial + 2 * self.p1 * x * y + self.p2 * (r2 + 2 * x * x)
        distorted_y = y * radial + self.p1 * (r2 + 2 * y * y) + 2 * self.p2 * x * y
        return np.stack([fx * distorted_x + cx, fy * distorted_y + cy], axis=-1)

    def largest_shift(self) -> float:
        """The largest shift of a point on the image's border, divided by the image size."""
        edge = np.linspace(0, 1, 33)
        border = [(t, side) for t in edge for side in (0.0, 1.0)] + [
            (side, t) for t in edge for side in (0.0, 1.0)
        ]
        points = np.array(border)
        return float(np.abs(self.distort(points) - points).max())

    def check(self, where: str) -> "Lens":
        """Return ``self``.

        Raises ``UserError`` where the numbers cannot be a distortion in this convention.
        """
        shift = self.largest_shift()
        if not shift < _LARGEST:
            raise UserError(
                f"The lens distortion of {where} shifts the image's border by {shift:.0%} of its"
                " size, which is no distortion in OpenCV's convention; undistort the images"
                " first."
            )
        return self

    def undistort(self, pixels: np.ndarray) -> np.ndarray:  # [H, W, C] uint8 -> [H, W, C] uint8
        """The image that a pinhole with the same intrinsics would have taken.

        Outside, the rim is repeated.
        """
        import torch
        import torch.nn.functional as F

        height, width = pixels.shape[:2]
        across, down = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
        grid = self.distort(np.stack(np.meshgrid(across, down), axis=-1)) * 2 - 1
        image = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None]
        sampled = F.grid_sample(
            image,
            torch.from_numpy(grid.astype(np.float32))[None],
            mode="bilinear",
            padding_mode="border",
            align_corners=False,
        )
        return sampled[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy()


MaskKind = Literal["none", "embedded", "file", "color"]
# what ImageDataset and EG3D's readers take as it stands
_COPIED = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp"}


def pack_names(names: Sequence[str]) -> np.ndarray:
    """Names as one array of bytes.

    It takes a tenth of the memory of Python strings, and workers need not copy it.
    """
    return (
        np.char.encode(np.asarray(list(names), dtype=np.str_), "utf-8")
        if len(names)
        else np.empty(0, "S1")
    )


@dataclass(frozen=True, eq=False)
class Images:
    """N images and their masks in a source.

    Raises ``UserError`` on request of an image that is missing, damaged or not of its stated size.
    """

    source: Files
    names: np.ndarray  # [N] bytes; "video.mp4#17" is frame 17 of a video
    sizes: np.ndarray  # [N, 2] int32, width and height of the stored image
    mask_kind: MaskKind = "none"
    """Where masks come from: the images' own alpha, gray files, or one color of label files."""
    masks: np.ndarray | None = None  # [N] bytes, for "file" and "color"
    mask_color: tuple[int, int, int] = (255, 255, 255)
    mask_source: Files | None = None
    """Where mask files lie, if not in ``source``."""
    lenses: tuple[Lens, ...] = ()
    lens: np.ndarray | None = None  # [N] int32 index into lenses, -1 = a pinhole
    resolution: tuple[int, int] | None = None  # width, height to show; None = as stored
    backdrop: Tensor | None = None  # [3] in [0, 1]
    """Of images that are resized: the color that outlines are mixtures with, as found at the
    size of the files."""
    videos: VideoFrames | None = None

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        return self.names[index].decode()

    def select(self, indices: np.ndarray) -> "Images":
        """The images at ``indices``, in that order."""

        def take(array: np.ndarray | None) -> np.ndarray | None:
            return None if array is None else array[indices]

        return replace(
            self,
            names=self.names[indices],
            sizes=self.sizes[indices],
            masks=take(self.masks),
            lens=take(self.lens),
        )

    def box(self, index: int) -> Box | None:
        """The part of the stored image that ``resolution`` shows: the largest centered one."""
        if self.resolution is None:
            return None
        width, height = (int(side) for side in self.sizes[index])
        shown_width = min(width, height * self.resolution[0] / self.resolution[1])
        shown_height = min(height, width * self.resolution[1] / self.resolution[0])
        if shown_width > width - 1e-6 and shown_height > height - 1e-6:
            return None
        left, top = (width - shown_width) / 2, (height - shown_height) / 2
        return (left, top, left + shown_width, top + shown_height)

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:  # -> [H, W, 3] uint8, [H, W] uint8
        """Return color (not multiplied by alpha) and alpha.

        Alpha is 255 everywhere where there are no masks.
        """
        where = f"{self.name(index)} in {self.source.path}"
        if self.mask_kind == "embedded":
            rgba = self._decode(self.name(index), "RGBA", where)
            rgb, alpha = rgba[..., :3], rgba[..., 3]
        else:
            rgb, alpha = self._decode(self.name(index), "RGB", where), self._read_mask(index)
        width, height = (int(side) for side in self.sizes[index])
        if rgb.shape[:2] != (height, width):
            raise UserError(
                f"{where} is {rgb.shape[1]}x{rgb.shape[0]}, but its camera belongs to images of "
                f"{width}x{height}; replace it or leave it out."
            )
        if self.lens is not None and self.lens[index] >= 0:
            lens = self.lenses[self.lens[index]]
            rgb = lens.undistort(rgb)
            alpha = (
                None if alpha is None else lens.undistort(fit_mask(alpha, rgb)[..., None])[..., 0]
            )
        size, box = self.resolution or (width, height), self.box(index)
        if alpha is None:
            rgb = resize_image(rgb, size, box)
            return rgb, np.full(rgb.shape[:2], 255, np.uint8)
        if not alpha.any():
            raise UserError(
                f"The mask of {where} is empty (all zero); mend it or leave the image out."
            )
        resize = resize_straight_alpha if self.backdrop is None else resize_composite
        return resize(np.ascontiguousarray(rgb), np.ascontiguousarray(alpha), size, box)

    def encoded_image(self, index: int) -> tuple[bytes, str] | None:
        """The image's file and its suffix where ``read`` shows the file itself, or None."""
        if not self._is_unchanged(index):
            return None
        data = self.source.read(self.name(index))
        return _copyable(
            data,
            ("RGB", "L", "P", "RGBA", "LA") if self.mask_kind == "embedded" else ("RGB", "L", "P"),
        )

    def encoded_mask(self, index: int) -> bytes | None:
        """The mask's PNG where the file itself is what ``read`` shows, or None."""
        if (
            self.mask_kind != "file"
            or not self._is_unchanged(index)
            or is_video_frame(self._mask_name(index))
        ):
            return None
        data = (self.mask_source or self.source).read(self._mask_name(index))
        kept, header = _copyable(data, ("L",)), parse_header(data)
        fits = header is not None and header.size == tuple(self.sizes[index])
        return data if kept and kept[1] == ".png" and fits else None

    def _is_unchanged(self, index: int) -> bool:
        """Whether ``read`` neither resamples the image nor takes it from a video."""
        if is_video_frame(self.name(index)) or (self.lens is not None and self.lens[index] >= 0):
            return False
        return self.resolution is None or tuple(self.sizes[index]) == self.resolution

    def _mask_name(self, index: int) -> str:
        assert self.masks is not None, f"masks of the kind {self.mask_kind} have no files"
        return self.masks[index].decode()

    def _read_mask(self, index: int) -> np.ndarray | None:  # -> [H, W] uint8
        if self.mask_kind == "none":
            return None
        name, source = self._mask_name(index), self.mask_source or self.source
        where = f"{name} in {source.path}"
        if self.mask_kind == "file":
            return self._decode(name, "L", where, source)
        labels = self._decode(name, "RGB", where, source)
        return (labels == np.array(self.mask_color, np.uint8)).all(-1).astype(np.uint8) * 255

    def _decode(self, name: str, mode: str, where: str, source: Files | None = None) -> np.ndarray:
        if is_video_frame(name):
            assert self.videos is not None
            frame = self.videos.read(name)
            return frame if mode == "RGB" else frame[..., 0]  # alpha videos are gray
        try:
            data = (source or self.source).read(name)
        except (KeyError, FileNotFoundError) as error:
            raise UserError(f"{where} is missing; copy it again or leave it out.") from error
        return np.asarray(decode_image(data, mode, where))


def probe_sizes(
    source: Files,
    names: Sequence[str],
    groups: Sequence,
    videos: VideoFrames | None = None,
    # sizes for groups in which no image can be read
    stated: Sequence[tuple[int, int] | None] | None = None,
) -> np.ndarray:  # -> [N, 2] int32
    """Sizes of images, looking into one of every group (camera) only; ``read`` checks the others.

    A broken image is passed over, since one among thousands is no reason to stop; reading it will
    say so. Raises ``UserError`` if every image is broken.
    """
    sizes: dict = {}
    fault = None
    for name, group in zip(names, groups, strict=True):
        if group in sizes:
            continue
        try:
            sizes[group] = (
                videos.read(name).shape[1::-1]
                if videos is not None and is_video_frame(name)
                else image_header(source, name)[0]
            )
        except (KeyError, FileNotFoundError):
            fault = fault or UserError(
                f"{name} in {source.path} is missing; copy it again or leave it out."
            )
        except UserError as error:
            fault = fault or error
    if fault is not None and not sizes:
        raise fault
    somewhere = next(iter(sizes.values()), (1, 1))
    stated = stated or [None] * len(names)
    found = [
        sizes.get(group) or size or somewhere for group, size in zip(groups, stated, strict=True)
    ]
    return np.array(found, np.int32).reshape(-1, 2)


def _copyable(data: bytes, modes: tuple[str, ...]) -> tuple[bytes, str] | None:
    header = parse_header(data)
    kind = "PNG" if data[:4] == b"\x89PNG" else "JPEG" if data[:2] == b"\xff\xd8" else "WEBP"
    if header is None or header.orientation != 1 or header.mode not in modes:
        return None
    if (kind == "WEBP" and data[8:12] != b"WEBP") or (kind == "PNG" and data[24] != 8):
        return None
    return data, _COPIED[kind]
