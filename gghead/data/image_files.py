"""The images, masks and labels of one zip or folder.

They have the size and the bytes that stand there.
"""

import dataclasses
import glob
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gghead.data.camera_labels import Labels, label_array
from gghead.data.dataset_zip import DatasetInfo, FrameRecord, read_info
from gghead.data.files import Source, image_header, is_image, open_source, read_image
from gghead.data.images import BrokenImage
from gghead.torch_utils.errors import UserError

BROKEN_SHARE = 1000  # one image in so many may be broken
# an empty mask is among the smallest files, so decoding these at the start finds it
_PROBED_MASKS = 32
# sizes read at the start; in larger sets an even sample, and the rest when they are decoded
_PROBED_HEADERS = 2048


class ImageFiles:
    """An EG3D zip or folder with its masks.

    ``ImageDataset`` makes training items of one or several of these.

    Args:
        path: Zip or folder with ``dataset.json``.
        masks: As for ``ImageDataset``.
        labels: name -> 25 numbers, for a shard whose labels stand elsewhere than in its own
            dataset.json.

    Raises:
        UserError: missing or broken files, unlabeled images, wrong labels, mixed sizes, empty
            masks.
    """

    def __init__(
        self,
        path: Path,
        masks: str | os.PathLike | None = "auto",
        labels: Labels | None = None,
    ):
        self.path = path
        self.source = open_source(path)
        self.info = read_info(self.source) if labels is None else DatasetInfo(labels)
        inner, by_name = self.info.masks, self.info.labels
        names = image_names(self.source, inner)
        if missing := set(by_name).difference(names):
            raise UserError(
                f"dataset.json of {path} labels {min(missing)}, but there is no such image."
            )
        self.names = names
        self.labels = label_array(by_name, names, path)  # [N, 25] float32
        self.info = dataclasses.replace(self.info, labels={})  # held once
        sampled = names[:: -(-len(names) // _PROBED_HEADERS)]
        self.size, modes = self._common_size(sampled)
        self._sampled = len(sampled) < len(names)
        self.mask_source, found = pair_masks(self.source, inner, names, masks)
        self.embedded = self.mask_source is None and masks is not None and self._have_alpha(modes)
        require_masks(self.source, self.mask_source, names, found)
        self.mask_names = found
        self._probe_masks()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def has_masks(self) -> bool:
        return self.embedded or self.mask_source is not None

    def rgb(self, index: int) -> np.ndarray:  # -> [S, S, 3] uint8
        """Return a decoded image.

        Raises ``UserError`` if it is damaged or of another size than the first.
        """
        name = self.names[index]
        rgb = np.asarray(read_image(self.source, name, "RGB"))
        if rgb.shape[:2] != (self.size, self.size):
            raise BrokenImage(self._other_size(name, rgb.shape[1::-1]))
        return rgb

    def mask(self, index: int) -> np.ndarray | None:  # -> [H, W] uint8
        """Return a decoded mask; None where the files have none.

        Raises ``UserError`` for an empty or oblong one.
        """
        if not self.has_masks:
            return None
        name = self.names[index]
        if self.embedded:
            if self._sampled and not _has_alpha(image_header(self.source, name)[1]):
                raise BrokenImage(
                    f"{name} in {self.path} has no alpha channel, but others have; make them alike."
                )
            source, mask_name = self.source, name
            mask = np.asarray(read_image(source, name, "RGBA"))[..., 3]
        else:
            source, mask_name = self.mask_source, self.mask_names[index]
            assert source is not None and mask_name is not None  # require_masks saw to it
            mask = np.asarray(read_image(source, mask_name, "L"))
        if mask.shape[0] != mask.shape[1]:
            size = f"{mask.shape[1]}x{mask.shape[0]}"
            raise BrokenImage(
                f"The mask {mask_name} in {source.path} is {size}, but must be square."
            )
        if not mask.any():
            raise BrokenImage(
                f"The mask {mask_name} in {source.path} is empty (all zero); mend it or leave"
                f" {name} out."
            )
        return mask

    def record(self, index: int) -> FrameRecord:
        """Return what is known of an image beside its camera."""
        return self.info.record(self.names[index])

    def close(self) -> None:
        """Close the files; nothing can be read afterwards."""
        self.source.close()
        if self.mask_source is not None and self.mask_source is not self.source:
            self.mask_source.close()

    def _common_size(self, names: list[str]) -> tuple[int, set[str]]:
        """Return the one side length of the images and the color modes met."""
        self.size, modes, broken = 0, set(), 0
        for name in names:
            try:
                size, mode = image_header(self.source, name)
            except BrokenImage:
                broken += 1
                if broken > len(names) // BROKEN_SHARE:
                    raise
                continue  # it is met again, and named, when it is decoded
            modes.add(mode)
            if size[0] != size[1]:
                raise UserError(
                    f"{name} in {self.path} is {size[0]}x{size[1]}; images must be square, so crop"
                    " them."
                )
            self.size = self.size or size[0]
            if size[0] != self.size:
                raise UserError(self._other_size(name, size))
        return self.size, modes

    def _other_size(self, name: str, size: tuple[int, int]) -> str:
        return (
            f"All images of {self.path} must have one size, but {name} is {size[0]}x{size[1]} and"
            f" {self.names[0]} is {self.size}x{self.size}; resize them first."
        )

    def _have_alpha(self, modes: set[str]) -> bool:
        with_alpha = {mode for mode in modes if _has_alpha(mode)}
        if with_alpha and modes - with_alpha:
            raise UserError(
                f"Some images of {self.path} have an alpha channel and some do not; make them"
                " alike."
            )
        return bool(with_alpha)

    def _probe_masks(self) -> None:
        if self.mask_source is None:
            return
        sizes = self.mask_source.sizes(list(filter(None, self.mask_names)))
        for index in np.argsort(sizes, kind="stable")[:_PROBED_MASKS]:
            self.mask(int(index))


def _has_alpha(mode: str) -> bool:
    return mode in ("RGBA", "LA")


def image_names(source: Source, inner: Mapping[str, str]) -> list[str]:
    """Return the images of a source in order, without masks ``inner`` that lie among them."""
    not_images = set(inner.values())
    return [name for name in source.names() if is_image(name) and name not in not_images]


def pair_masks(
    images: Source, inner: Mapping[str, str], names: list[str], masks: str | os.PathLike | None
) -> tuple[Source | None, list[str | None]]:
    """Return the source of separate masks, and every image's mask there or None.

    The source is None if there are no masks but perhaps the images' own alpha channels. The files
    of a masks' zip are paired by their names without suffix, or by order where their number agrees
    and the names do not.
    """
    if masks is None:
        return None, []
    if str(masks) == "auto":
        if inner:
            present = set(images.names())
            return images, [inner[name] if inner.get(name) in present else None for name in names]
        path = images.path
        base = path.parent / path.stem if path.is_file() else path
        beside = sorted(base.parent.glob(f"{glob.escape(base.name)}_masks_*"))
        beside = [file for file in beside if file.is_dir() or file.suffix == ".zip"]
        if not beside:
            return None, []
        masks = next((file for file in beside if "modnet" in file.name), beside[0])
    source = open_source(masks)
    mask_names = [name for name in source.names() if is_image(name)]
    if mask_names == names:
        return source, list(mask_names)
    by_stem = {os.path.splitext(name)[0]: name for name in mask_names}
    paired = [by_stem.get(os.path.splitext(name)[0]) for name in names]
    if len(mask_names) == len(names) and not any(paired):
        return source, list(mask_names)
    return source, paired


def require_masks(
    images: Source, masks: Source | None, names: list[str], found: list[str | None]
) -> None:
    """Raise ``UserError`` where ``pair_masks`` found masks, but none for some of the images."""
    if masks is None or None not in found:
        return
    if masks is images:
        raise UserError(
            f"{names[found.index(None)]} in {images.path} has no mask, although dataset.json lists"
            " masks."
        )
    present = sum(is_image(name) for name in masks.names())
    raise UserError(
        f"{masks.path} holds {present} masks for the {len(names)} images of {images.path}."
    )
