"""Images to invert.

One file, a folder or a data set zip, with masks and cameras from wherever they are.
"""

import hashlib
import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from gghead.cameras import Cameras
from gghead.data.camera_labels import LABEL_SIZE, check_labels, label_array
from gghead.data.dataset_zip import DatasetInfo, has_info, read_info, read_info_in
from gghead.data.files import FolderSource, Source, image_header, is_image, open_source, read_image
from gghead.data.images import decode_image, resize_image, resize_straight_alpha
from gghead.latent import Latent
from gghead.torch_utils.errors import MissingFile, UserError

if TYPE_CHECKING:
    from gghead.data.photos.photo import PhotoWorker


@dataclass(frozen=True, eq=False)
class Target:
    """One image at the network's size."""

    name: str
    """Name of its folder in the output: the file's path without its ending, "/" replaced by "_"."""
    rgb: Tensor
    """uint8 [3, S, S]"""
    mask: Tensor | None
    """uint8 [1, S, S], 255 = the head"""
    label: Tensor
    """float32 [25], where its camera starts"""


@dataclass(frozen=True)
class TargetReader:
    """Reads images one by one; nothing is decoded before it is asked for.

    Raises ``UserError`` for a missing file, an image that is not square or has no label, a mask of
    another size, an empty mask, and as the photo preparation does for ``camera="auto"``.
    """

    source: Source
    names: list[str]
    size: int
    """Pixels a side to resize to."""
    camera: str = "label"
    """label (from dataset.json), frontal, auto (the photo preparation finds face, camera and mask),
    or a JSON file."""
    labels: dict[str, Tensor] | None = None
    masks: dict[str, str] | None = None
    """Image -> mask in ``mask_source``; None: the images' own alpha, if any."""
    mask_source: Source | None = None
    use_masks: bool = True
    """False: images are matched whole."""
    landmarker: str = "mediapipe"
    """Of camera="auto"."""

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Target]:
        return (self.read(index) for index in range(len(self)))

    def name(self, index: int) -> str:
        """Return ``Target.name`` without reading the image."""
        return str(Path(self.names[index]).with_suffix("")).replace("/", "_")

    def identity(self, index: int) -> str:
        """Return a hash of the image, its mask, its label and how they are read."""
        name = self.names[index]
        mask = (self.masks or {}).get(name)
        label = None if self.labels is None else self.labels[name].tolist()
        how = [self.size, self.camera if label is None else label, self.use_masks, self.landmarker]
        found = hashlib.sha256(repr(how).encode() + self.source.read(name))
        if mask is not None:
            found.update(self._mask_file(mask))
        return found.hexdigest()

    def _mask_file(self, name: str) -> bytes:
        assert self.mask_source is not None
        try:
            return self.mask_source.read(name)
        except (KeyError, OSError) as error:
            raise UserError(
                f"The mask {name} in {self.mask_source.path} is missing; copy it again, or use the"
                " whole image with `masks='none'`."
            ) from error

    def judge(self, target: Target, latent: Latent) -> dict[str, float]:
        """Further metrics where the truth is known (``OwnHeads.judge``).

        Of an image nothing more is known.
        """
        return {}

    def read(self, index: int) -> Target:
        """Return one image."""
        name = self.names[index]
        if self.camera == "auto":
            return self._prepare(index)
        (width, height), mode = image_header(self.source, name)
        if width != height:
            raise UserError(
                f"{name} in {self.source.path} is {width}x{height}, but images to invert must be"
                " square; crop it, or let `camera='auto'` find the face."
            )
        mask_name = (self.masks or {}).get(name)
        if not self.use_masks or (mask_name is None and mode not in ("RGBA", "LA")):
            rgb = resize_image(np.asarray(read_image(self.source, name, "RGB")), self.size)
            return self._target(index, rgb, None)
        if mask_name is None:
            rgba = np.asarray(read_image(self.source, name, "RGBA"))
            rgb, mask = rgba[..., :3], rgba[..., 3]
        else:
            rgb = np.asarray(read_image(self.source, name, "RGB"))
            data = self._mask_file(mask_name)
            assert self.mask_source is not None
            where = f"{mask_name} in {self.mask_source.path}"
            mask = np.asarray(decode_image(data, "L", where))
        if mask.shape != rgb.shape[:2]:
            raise UserError(
                f"The mask {mask_name} is {mask.shape[1]}x{mask.shape[0]}, but {name} is"
                f" {width}x{height}; they must have one size."
            )
        rgb, mask = resize_straight_alpha(rgb, mask, self.size)
        if not mask.any():
            raise UserError(
                f"The mask of {name} in {self.source.path} is empty (all zero); mend it, or use the"
                " whole image with `masks='none'`."
            )
        return self._target(index, rgb, mask)

    def _target(self, index: int, rgb: np.ndarray, mask: np.ndarray | None) -> Target:
        label = (
            self.labels[self.names[index]]
            if self.labels is not None
            else Cameras.orbit(0.0).label()[0]
        )
        return Target(
            self.name(index),
            torch.from_numpy(rgb.copy()).movedim(-1, 0),
            None if mask is None else torch.from_numpy(mask.copy())[None],
            label,
        )

    def _prepare(self, index: int) -> Target:
        """Face, crop, mask and camera, prepared as the photos of the training data were."""
        from gghead.data.photos.photo import Skip

        name = self.names[index]
        (found,) = self._preparation.run(self.source.read(name), name)
        if isinstance(found, Skip):
            raise UserError(
                f"{name} cannot be used with `camera='auto'`: {found.reason} ({found.detail}); crop"
                " it yourself and give `camera='frontal'` or a file."
            )
        rgb = np.asarray(decode_image(found.image, "RGB", name))
        mask = None if found.mask is None else np.asarray(decode_image(found.mask, "L", name))
        return replace(self._target(index, rgb, mask), label=torch.tensor(found.label))

    @cached_property
    def _preparation(self) -> "PhotoWorker":
        from gghead.data.photos.config import PhotoOptions
        from gghead.data.photos.photo import PhotoWorker

        matte = "selfie" if self.use_masks else "none"
        return PhotoWorker(
            PhotoOptions(resolution=self.size, landmarker=self.landmarker, matte=matte)
        )


def open_targets(
    path: str | os.PathLike,
    size: int,
    camera: str | None = "label",
    masks: str | None = None,
    landmarker: str = "mediapipe",
    max_images: int | None = None,
) -> TargetReader:
    """Open an image, a folder or a zip.

    Args:
        path: What to invert.
        size: Pixels a side that the network works at.
        camera: See ``TargetReader``; "label" looks into the dataset.json of the zip or folder, or
            beside the image. None: "label" where there are labels, else "auto".
        masks: A file (for one image), a folder or zip with the same names, "none", or None = what
            dataset.json lists, else alpha channels.
        landmarker: Of ``camera="auto"``, see ``dataset_tool.py photos``.
        max_images: A fixed random subset of this many, the one that ``ImageDataset`` takes.

    Raises ``UserError`` as ``TargetReader``, and where faces must be found but nothing that finds
    them is installed.
    """
    path = Path(path)
    if not path.exists():
        raise MissingFile(
            f"{path} does not exist; name an image, a folder of images or a data set zip."
        )
    single = path.is_file() and is_image(path.name)
    source = _OneFile(path) if single else open_source(path)
    if single:
        info = read_info_in(path.parent)
    else:
        info = read_info(source) if has_info(source) else None
    listed = {} if info is None else info.masks
    names = [
        name
        for name in source.names()
        if is_image(name)
        and name not in set(listed.values())
        and not any(part.startswith(".") for part in name.split("/"))
    ]
    if not names:
        raise UserError(f"{path} holds no images (png, jpg, jpeg, webp or bmp).")
    if max_images is not None and max_images < len(names):
        names = [
            names[i] for i in np.sort(np.random.RandomState(0).permutation(len(names))[:max_images])
        ]
    mask_source, mask_names = (
        source,
        {name: listed[name] for name in names if name in listed and masks != "none"},
    )
    if masks not in (None, "none"):
        mask_source, mask_names = _given_masks(Path(masks), names)
    if camera is None:
        labeled = info is not None and (not single or path.name in info.labels)
        camera = "label" if labeled else "auto"
    if camera == "auto":
        _check_finder(path, landmarker, masks != "none")
    labels = None if camera in ("auto", "frontal") else _labels(camera, path, info, names)
    return TargetReader(
        source, names, size, camera, labels, mask_names, mask_source, masks != "none", landmarker
    )


def _check_finder(path: Path, landmarker: str, use_masks: bool) -> None:
    """``camera="auto"`` without MediaPipe would fail image by image."""
    if importlib.util.find_spec("mediapipe") is not None:
        return
    wanted = "the face" if not landmarker.endswith(".json") else "the mask" if use_masks else None
    if wanted is not None:
        instead = (
            "`camera='frontal'` if the face looks into the camera, or `camera=FILE` with 25 numbers"
            if wanted == "the face"
            else "`masks=FILE` or `masks='none'`"
        )
        raise UserError(
            f"{path} has no camera labels, and finding {wanted} needs mediapipe, which is not"
            " installed: run `make prep`, or install gghead[prep] (Python up to 3.12), or give"
            f" {instead}."
        )


class _OneFile(FolderSource):
    """A folder of which only one file is seen."""

    def __init__(self, path: Path) -> None:
        self.path, self._names = path.parent, [path.name]


def _given_masks(path: Path, names: list[str]) -> tuple[Source, dict[str, str]]:
    if not path.exists():
        raise MissingFile(
            f"`masks='{path}'` does not exist; name a mask file, a folder or zip of masks, or none."
        )
    if path.is_file() and is_image(path.name):
        if len(names) > 1:
            raise UserError(
                f"`masks='{path}'` is one file, but there are {len(names)} images; name a folder"
                " of masks."
            )
        return _OneFile(path), {names[0]: path.name}
    source = open_source(path)
    by_stem = {str(Path(name).with_suffix("")): name for name in source.names() if is_image(name)}
    found = {}
    for name in names:
        mask = by_stem.get(str(Path(name).with_suffix("")))
        if mask is None:
            raise UserError(
                f"`masks='{path}'` has no mask for {name}; masks must have the images' names."
            )
        found[name] = mask
    return source, found


def _labels(
    camera: str, path: Path, info: DatasetInfo | None, names: list[str]
) -> dict[str, Tensor]:
    """Labels of all images, from dataset.json or from the file named by ``camera``."""
    where: str | os.PathLike = path
    if camera != "label":
        info, where = _camera_file(Path(camera), names), camera
    if info is None:
        raise UserError(
            f"{path} has no camera labels (no dataset.json there); give `camera='frontal'` if the"
            " face looks into the camera, `camera='auto'` to estimate it, or `camera=FILE` with 25"
            " numbers."
        )
    rows = label_array(
        {name: info.labels[name] for name in names if name in info.labels}, names, where
    )
    return dict(zip(names, torch.from_numpy(rows), strict=True))


def _camera_file(path: Path, names: list[str]) -> DatasetInfo:
    """Read a JSON of labels as EG3D's dataset.json, or 25 numbers for every image.

    The numbers are a JSON list or plain text.
    """
    if not path.is_file():
        raise UserError(
            f"`camera='{path}'` is neither label, auto, frontal nor a file; use one of these."
        )
    data = path.read_bytes()
    try:
        numbers = np.array(
            [float(word) for word in data.decode().replace(",", " ").strip("[] \n").split()]
        )
    except ValueError:
        return DatasetInfo.parse(data, path)
    if numbers.shape != (LABEL_SIZE,):
        raise UserError(
            f"{path} holds {len(numbers)} numbers, but a camera label has {LABEL_SIZE}"
            " (camera-to-world 4x4, then intrinsics 3x3 divided by the image size)."
        )
    check_labels(numbers[None], [names[0]], path)
    return DatasetInfo({name: numbers.tolist() for name in names})
