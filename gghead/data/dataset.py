"""Training items.

Images, alpha masks and cameras of a zip, a folder or many shards, at one resolution.
"""

import bisect
import copy
import functools
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gghead.cameras import Cameras
from gghead.data.backdrop import LOOKED_AT, find_backdrop, own_colors
from gghead.data.camera_labels import LABEL_SIZE
from gghead.data.dataset_zip import DatasetInfo, FrameRecord
from gghead.data.image_files import BROKEN_SHARE
from gghead.data.images import BrokenImage, fit_mask, resize_image, resize_straight_alpha
from gghead.data.sampler import EpochSampler, ShardSampler
from gghead.data.shards import open_shards
from gghead.torch_utils.errors import UserError


class ImageDataset:
    """Images, alpha masks and 25-float camera labels of zips, folders or tar files.

    Args:
        path: EG3D zip or folder with ``dataset.json``; a folder of such zips; a folder of
            WebDataset-style tar files or their names as in ``DIR/shard-{000000..000012}.tar``.
            ``labels`` in a dataset.json name the cameras; the optional key ``masks`` maps image
            names to mask names in the same zip.
        masks: "auto" takes the key ``masks``, else GGHead's ``<stem>_masks_*.zip`` beside the data
            (paired by name where the names agree, else by sorted order), else the alpha channel of
            RGBA files, else none. A path names the masks' zip or folder. None ignores all masks:
            alpha is 255 everywhere.
        resolution: Side length to resize to on load (antialiased, alpha-weighted where there are
            masks); None keeps the files' size.
        mirror: Append a flipped copy of every image as a virtual item, its camera mirrored too.
        max_images: Use a fixed random subset of this many files.
        cache_mb: Memory for decoded, resized items; a full cache keeps what it has and decodes the
            rest anew.
        shards_at_once: How many shards the order of ``sampler`` reads from at a time
            (``ShardSampler``); None: any image at any time, except for tar files, which cannot be
            read like that (2).

    Where all heads stand before one plain color and the outlines are mixed with it, as in renders
    over white, that color is taken off (``backdrop``): what is returned can be put over another
    color without a seam.

    Of thousands of images one in a thousand may be broken: another item stands in for it, always
    the same one, and ``broken`` says which and why.

    Nothing but names, labels and the cache is held in memory. All sizes are read at the start in
    sets of up to 2048 images and a sample of them in larger ones; the rest is checked when it is
    decoded.

    Raises:
        UserError: missing or broken files, unlabeled images, wrong labels, mixed sizes, empty
            masks.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        masks: str | os.PathLike | None = "auto",
        resolution: int | None = None,
        mirror: bool = False,
        max_images: int | None = None,
        cache_mb: float = 1024,
        shards_at_once: int | None = None,
    ):
        if resolution is not None and resolution < 1:
            raise UserError(f"The resolution must be at least 1, but it is {resolution}.")
        self.path = Path(path)
        self._shards, streamed = open_shards(path, masks)
        self.shards_at_once = shards_at_once if shards_at_once is not None or not streamed else 2
        self._agree()
        self._starts = np.cumsum([0, *(len(shard) for shard in self._shards)]).tolist()
        labels = np.concatenate([shard.labels for shard in self._shards])
        self._chosen = None  # files of a subset, ascending; None: all
        if max_images is not None and max_images < len(labels):
            self._chosen = np.sort(np.random.RandomState(0).permutation(len(labels))[:max_images])
            labels = labels[self._chosen]
        self.mirror = mirror
        labels = torch.from_numpy(labels)
        # [N, 25] float32
        self.labels: Tensor = torch.cat([labels, mirror_labels(labels)]) if mirror else labels
        for shard in self._shards:
            shard.labels = np.empty((0, LABEL_SIZE), np.float32)  # held once
        self.num_files = len(labels)  # image files; twice as many items when mirrored
        self.resolution = self._shards[0].size if resolution is None else resolution
        self.broken: dict[str, str] = {}  # name -> what is wrong, of the images met so far
        self._cache: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()
        self._room = self._cache_bytes = cache_mb * 2**20

    @property
    def info(self) -> DatasetInfo:
        """The content of dataset.json (of the first shard)."""
        return self._shards[0].info

    @property
    def image_size(self) -> int:
        """Side length of the files, whatever ``resolution`` is."""
        return self._shards[0].size

    @property
    def has_masks(self) -> bool:
        return self._shards[0].has_masks

    @functools.cached_property
    def backdrop(self) -> Tensor | None:  # [3] in [0, 1]
        """The color that is taken off the outlines, or ``None``.

        A few images are decoded when it is first needed.
        """
        if not self.has_masks or self._shards[0].embedded:
            return None
        chosen = np.unique(self.preview(min(LOOKED_AT, self.num_files), seed=0) % self.num_files)
        return find_backdrop(self._read_stored(chosen))

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """Return the file name of an item; mirrored items share it with their original.

        In a set of several shards the shard's name stands before it.
        """
        shard, file = self._place(self._check_index(index) % self.num_files)
        name = self._shards[shard].names[file]
        return name if len(self._shards) == 1 else f"{self._shards[shard].path.stem}/{name}"

    def record(self, file: int) -> FrameRecord:
        """Return what is known of a file beside its camera: subject, expression and more."""
        shard, at = self._place(file)
        return self._shards[shard].record(at)

    def preview(self, wanted: int, seed: int) -> np.ndarray:
        """Return ``wanted`` random items to show, without repeats where there are enough.

        Of shards that are read in order they are from the first ones, so that looking at some
        images does not read everything.
        """
        near = len(self)
        if self.shards_at_once is not None and self._chosen is None:
            near = min(self.num_files, self._starts[min(self.shards_at_once, len(self._shards))])
        items = np.random.RandomState(seed).permutation(near)
        return np.sort(np.resize(items, wanted)) if near < len(self) else np.resize(items, wanted)

    def sampler(self, seed: int) -> EpochSampler | ShardSampler:
        """Return the order of training.

        A global one, or with ``shards_at_once`` one that stays within few shards.
        """
        if self.shards_at_once is None:
            return EpochSampler(len(self), seed)
        files = np.arange(self.num_files) if self._chosen is None else self._chosen
        shard_of = np.searchsorted(self._starts, files, side="right") - 1
        members = [np.flatnonzero(shard_of == shard) for shard in range(len(self._shards))]
        if self.mirror:
            members = [np.concatenate([items, items + self.num_files]) for items in members]
        return ShardSampler([items for items in members if len(items)], seed, self.shards_at_once)

    def get(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return (rgb uint8 [3, H, W], alpha uint8 [1, H, W], label float32 [25]).

        Colors are the head's own: neither multiplied by alpha nor mixed with a plain backdrop.
        Safe to call from several threads. Raises ``UserError`` for a broken image where too many
        are.
        """
        index = self._check_index(index)
        while True:
            try:
                item = self._load(index % self.num_files)
                break
            except BrokenImage as error:
                self._tolerate(self.name(index), error)
                index = (index + 1) % len(self)
        if index >= self.num_files:
            item = item[:, :, ::-1]
        item = torch.from_numpy(item.copy())  # a copy: callers may write into what they get
        return item[:3], item[3:], self.labels[index].clone()

    def resize(self, resolution: int) -> "ImageDataset":
        """The same items at another resolution.

        The files stay open for both, and ``close`` of one closes them for both. Raises
        ``UserError`` for a resolution below 1.
        """
        if resolution < 1:
            raise UserError(f"The resolution must be at least 1, but it is {resolution}.")
        same = copy.copy(self)  # without the images kept
        same.resolution, same._room = resolution, self._cache_bytes
        return same

    def close(self) -> None:
        """Close the files; the data set cannot be read afterwards."""
        for shard in self._shards:
            shard.close()

    def __getstate__(self) -> dict:
        return {
            key: value for key, value in self.__dict__.items() if key not in ("_lock", "_cache")
        }

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state, _lock=threading.Lock(), _cache={})

    def _tolerate(self, name: str, error: BrokenImage) -> None:
        """Note a broken image; raise ``error`` where more than one in a thousand is."""
        with self._lock:
            self.broken[name] = str(error)
            if len(self.broken) > self.num_files // BROKEN_SHARE:
                raise error

    def _check_index(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        return int(index)

    def _agree(self) -> None:
        first = self._shards[0]
        for shard in self._shards[1:]:
            if shard.size != first.size:
                raise UserError(
                    f"All shards of {self.path} must have images of one size, but {shard.path.name}"
                    f" has {shard.size} pixels and {first.path.name} {first.size}; resize them"
                    " first."
                )
            if shard.has_masks != first.has_masks:
                with_masks, without = (first, shard) if first.has_masks else (shard, first)
                raise UserError(
                    f"{with_masks.path.name} in {self.path} has masks and {without.path.name} has"
                    " none; give all shards masks, or ignore them with `masks=None`."
                )

    def _place(self, file: int) -> tuple[int, int]:
        """Return (shard, file in it) of a file of this set."""
        if self._chosen is not None:
            file = int(self._chosen[file])
        shard = bisect.bisect_right(self._starts, file) - 1
        return shard, file - self._starts[shard]

    def _decode(self, file: int) -> tuple[np.ndarray, np.ndarray | None]:
        number, at = self._place(file)
        shard = self._shards[number]
        return shard.rgb(at), shard.mask(at)

    def _read_stored(self, files: Iterable[int]) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and masks at the files' size; broken ones speak up when they are asked for."""
        for file in files:
            try:
                rgb, mask = self._decode(int(file))
            except UserError:
                continue
            assert mask is not None
            yield _tensors(rgb, mask)

    def _load(self, file: int) -> np.ndarray:  # -> [4, R, R] uint8
        item = self._cache.get(file)
        if item is not None:
            return item
        rgb, mask = self._decode(file)
        if mask is not None:
            if self.backdrop is not None:
                rgb = own_colors(*_tensors(rgb, mask), self.backdrop).movedim(0, -1).numpy()
            rgb, alpha = resize_straight_alpha(rgb, mask, self.resolution)
        else:
            rgb = resize_image(rgb, self.resolution)
            alpha = np.full(rgb.shape[:2], 255, np.uint8)
        item = np.ascontiguousarray(
            np.concatenate([rgb, alpha[..., None]], axis=-1).transpose(2, 0, 1)
        )
        with self._lock:
            if file not in self._cache and item.nbytes <= self._room:
                self._cache[file] = item
                self._room -= item.nbytes
        return item


# uint8 [3, H, W], [1, H, W]
def _tensors(rgb: np.ndarray, mask: np.ndarray) -> tuple[Tensor, Tensor]:
    return (
        torch.from_numpy(rgb.copy()).movedim(-1, 0),
        torch.from_numpy(fit_mask(mask, rgb).copy())[None],
    )


def mirror_labels(labels: Tensor) -> Tensor:  # [N, 25] -> [N, 25]
    """Return the labels of the horizontally flipped images."""
    return Cameras.from_label(labels).mirror().label().to(labels.dtype)
