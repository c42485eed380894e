"""Single-view images with camera labels and masks, as EG3D and GGHead store them."""

import os
import threading
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gghead.cameras import Cameras
from gghead.data.labels import label_array, parse_dataset_json
from gghead.data.resize import resize_image, resize_straight_alpha
from gghead.data.sources import Source, image_header, is_image, open_source, read_image
from torch_utils.errors import UserError

_PROBED_MASKS = 32  # an empty mask is among the smallest files, so decoding these at the start finds it


class ImageDataset:
    """Images, alpha masks and 25-float camera labels of a zip or folder with ``dataset.json``.

    Args:
        path: EG3D zip or folder. ``labels`` in its dataset.json name the cameras; the optional key ``masks`` maps image
            names to mask names in the same zip.
        masks: "auto" takes the key ``masks``, else GGHead's ``<stem>_masks_*.zip`` beside the data (paired by name
            where the names agree, else by sorted order), else the alpha channel of RGBA files, else none. A path names
            the masks' zip or folder. None ignores all masks: alpha is 255 everywhere.
        resolution: Side length to resize to on load (antialiased, alpha-weighted where there are masks);
            None keeps the files' size.
        mirror: Append a flipped copy of every image as a virtual item, its camera mirrored too.
        max_images: Use a fixed random subset of this many files.
        cache_mb: Memory for decoded, resized items; a full cache keeps what it has and decodes the rest anew.

    Raises:
        UserError: missing or broken files, unlabelled images, wrong labels, mixed sizes, empty masks.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        masks: str | os.PathLike | None = "auto",
        resolution: int | None = None,
        mirror: bool = False,
        max_images: int | None = None,
        cache_mb: float = 1024,
    ):
        self.path = Path(path)
        self._images = open_source(self.path)
        if "dataset.json" not in set(self._images.names()):
            raise UserError(f"{path} holds no dataset.json with camera labels; datasets/labelled_photos.py writes one.")
        self.info = parse_dataset_json(self._images.read("dataset.json"), path)
        inner = self.info.get("masks") or {}
        not_images = set(inner.values())
        names = [name for name in self._images.names() if is_image(name) and name not in not_images]
        if missing := sorted(set(self.info["labels"]) - set(names)):
            raise UserError(f"dataset.json of {path} labels {missing[0]}, but there is no such image.")
        labels = torch.from_numpy(label_array(self.info["labels"], names, path))

        size, modes = self._common_size(names)
        self._embedded = False  # masks are the images' own alpha channels
        self._mask_source, self._mask_names = self._find_masks(masks, inner, names, modes)
        if max_images is not None and max_images < len(names):
            chosen = np.sort(np.random.RandomState(0).permutation(len(names))[:max_images])
            names, labels = [names[i] for i in chosen], labels[torch.from_numpy(chosen)]
        self._names = names
        self.mirror = mirror
        self.labels: Tensor = torch.cat([labels, mirror_labels(labels)]) if mirror else labels  # [N, 25] float32
        self.resolution = size if resolution is None else resolution
        if self.resolution < 1:
            raise UserError(f"The resolution must be at least 1, but it is {resolution}.")
        self._probe_masks()
        self._cache: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()
        self._room = cache_mb * 2**20

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_files(self) -> int:
        """Number of image files; twice as many items when mirrored."""
        return len(self._names)

    @property
    def has_masks(self) -> bool:
        return bool(self._mask_names)

    def name(self, index: int) -> str:
        """Return the file name of an item (mirrored items share it with their original)."""
        return self._names[self._check_index(index) % len(self._names)]

    def get(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return (rgb uint8 [3, H, W], alpha uint8 [1, H, W], label float32 [25]); colours are not multiplied by
        alpha. Safe to call from several threads."""
        index = self._check_index(index)
        item = self._load(index % len(self._names))
        if index >= len(self._names):
            item = item[:, :, ::-1]
        item = torch.from_numpy(item.copy())  # a copy: callers may write into what they get
        return item[:3], item[3:], self.labels[index].clone()

    def close(self) -> None:
        """Close the files; the data set cannot be read afterwards."""
        self._images.close()
        if self._mask_source is not None and self._mask_source is not self._images:
            self._mask_source.close()

    def __getstate__(self) -> dict:
        return {key: value for key, value in self.__dict__.items() if key not in ("_lock", "_cache")}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state, _lock=threading.Lock(), _cache={})

    def _check_index(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        return int(index)

    def _common_size(self, names: list[str]) -> tuple[int, set[str]]:
        """Return the one side length of all images and the colour modes met."""
        first = None
        modes = set()
        for name in names:
            size, mode = image_header(self._images, name)
            modes.add(mode)
            first = first or size
            if size != first:
                raise UserError(
                    f"All images of {self.path} must have one size, but {name} is {size[0]}x{size[1]} and {names[0]} "
                    f"is {first[0]}x{first[1]}; resize them first."
                )
            if size[0] != size[1]:
                raise UserError(f"{name} in {self.path} is {size[0]}x{size[1]}; images must be square, so crop them.")
        return first[0], modes

    def _find_masks(
        self, masks: str | os.PathLike | None, inner: dict, names: list[str], modes: set[str]
    ) -> tuple[Source | None, dict[str, str]]:
        """Return the source of the masks and the mask name for every image name (both empty without masks)."""
        if masks is None:
            return None, {}
        if str(masks) == "auto":
            if inner:
                present = set(self._images.names())
                for name in names:
                    if inner.get(name) not in present:
                        raise UserError(f"{name} in {self.path} has no mask, although dataset.json lists masks.")
                return self._images, {name: inner[name] for name in names}
            base = self.path.parent / self.path.stem if self.path.is_file() else self.path
            beside = sorted(base.parent.glob(f"{base.name}_masks_*"))
            beside = [file for file in beside if file.is_dir() or file.suffix == ".zip"]
            if not beside:
                return self._embedded_masks(names, modes)
            masks = next((file for file in beside if "modnet" in file.name), beside[0])
        source = open_source(masks)
        mask_names = [name for name in source.names() if is_image(name)]
        if len(mask_names) != len(names):
            raise UserError(f"{masks} holds {len(mask_names)} masks for the {len(names)} images of {self.path}.")
        by_stem = {str(Path(name).with_suffix("")): name for name in mask_names}
        stems = [str(Path(name).with_suffix("")) for name in names]
        if all(stem in by_stem for stem in stems):
            return source, {name: by_stem[stem] for name, stem in zip(names, stems, strict=True)}
        return source, dict(zip(names, mask_names, strict=True))

    def _embedded_masks(self, names: list[str], modes: set[str]) -> tuple[Source | None, dict[str, str]]:
        with_alpha = modes & {"RGBA", "LA"}
        if not with_alpha:
            return None, {}
        if modes - with_alpha:
            raise UserError(f"Some images of {self.path} have an alpha channel and some do not; make them alike.")
        self._embedded = True
        return self._images, {name: name for name in names}

    def _probe_masks(self) -> None:
        source = self._mask_source
        separate = [] if source is None or self._embedded else self._names
        for name in sorted(separate, key=lambda name: source.size(self._mask_names[name]))[:_PROBED_MASKS]:
            self._read_mask(name)

    def _read_mask(self, name: str) -> np.ndarray:  # -> [H, W] uint8
        mask_name = self._mask_names[name]
        if self._embedded:
            mask = np.asarray(read_image(self._images, name, "RGBA"))[..., 3]
        else:
            mask = np.asarray(read_image(self._mask_source, mask_name, "L"))
        if mask.shape[0] != mask.shape[1]:
            size = f"{mask.shape[1]}x{mask.shape[0]}"
            raise UserError(f"The mask {mask_name} in {self._mask_source.path} is {size}, but must be square.")
        if not mask.any():
            raise UserError(
                f"The mask {mask_name} in {self._mask_source.path} is empty (all zero); mend it or leave {name} out."
            )
        return mask

    def _load(self, file: int) -> np.ndarray:  # -> [4, R, R] uint8
        item = self._cache.get(file)
        if item is not None:
            return item
        name = self._names[file]
        rgb = np.asarray(read_image(self._images, name, "RGB"))
        if self.has_masks:
            rgb, alpha = resize_straight_alpha(rgb, self._read_mask(name), self.resolution)
        else:
            rgb = resize_image(rgb, self.resolution)
            alpha = np.full(rgb.shape[:2], 255, np.uint8)
        item = np.ascontiguousarray(np.concatenate([rgb, alpha[..., None]], axis=-1).transpose(2, 0, 1))
        with self._lock:
            if file not in self._cache and item.nbytes <= self._room:
                self._cache[file] = item
                self._room -= item.nbytes
        return item


def mirror_labels(labels: Tensor) -> Tensor:  # [N, 25] -> [N, 25]
    """Return the labels of the horizontally flipped images."""
    return Cameras.from_label(labels).mirror().label().to(labels.dtype)


def frames(dataset: ImageDataset) -> list[dict]:
    """Return the extra record of every file (subject, expression, camera ids … under ``frames`` in dataset.json)."""
    by_name = {record.get("file"): record for record in dataset.info.get("frames", [])}
    return [by_name.get(dataset.name(i), {}) for i in range(dataset.num_files)]
