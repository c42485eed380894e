"""Images in tar files, as webdataset names them: ``KEY.jpg``, ``KEY.mask.png`` and ``KEY.json``.

The json holds ``{"label": [25 floats]}``. Tar files are local, unpacked, and read from their
beginning to their end; a few whole files are held encoded in memory, and the order of training
stays within them (``sampler.ShardSampler``). How names fall into key and field is webdataset's
rule: the key ends at the first dot after the last slash, and members of one key stand one after
another. Names in a tar are never used as paths.
"""

import collections
import io
import itertools
import json
import os
import tarfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gghead.data.camera_labels import Labels, label_array
from gghead.data.dataset_zip import DatasetInfo, FrameRecord
from gghead.data.files import is_image
from gghead.data.images import BrokenImage, decode_image, parse_header
from gghead.data.local_files import open_local
from gghead.torch_utils.errors import UserError

# encoded tar files in memory: the two that the order mixes by default, and the two after them
_HELD = 4
# What tarfile raises on damaged files; the last two where headers follow each other endlessly or
# claim absurd sizes.
_BROKEN = (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError, MemoryError)


@dataclass(frozen=True)
class Sample:
    """One image of a tar file, encoded."""

    name: str
    """``KEY.jpg`` and the like."""
    image: bytes
    """The image file."""
    mask: bytes | None
    """The mask file, if there is one."""
    about: dict
    """The content of ``KEY.json``."""


def read_samples(path: str) -> Iterator[Sample]:
    """Yield the images of a tar file in their order.

    Raises ``UserError`` naming a broken file or member.
    """
    for key, members in itertools.groupby(_members(path), key=lambda member: member[0]):
        fields: dict[str, bytes] = {}
        for _, field, data in members:
            if field in fields:
                raise UserError(
                    f"{path} holds {key}.{field} twice; make it again with one file of each name."
                )
            fields[field] = data
        if (sample := _sample(path, key, fields)) is not None:
            yield sample


def _members(path: str) -> Iterator[tuple[str, str, bytes]]:
    """Yield (key, field, content) of the files in a tar.

    Links, devices and sparse files are none of ours.
    """
    try:
        with open_local(path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            length = os.fstat(file.fileno()).st_size
            while (member := archive.next()) is not None:
                if member.offset_data + (0 if member.issparse() else member.size) > length:
                    raise tarfile.ReadError("a member that claims more bytes than the file has")
                folder, slash, name = member.name.rpartition("/")
                stem, dot, field = name.partition(".")
                if stem and dot and member.isreg() and not member.issparse():
                    content = archive.extractfile(member)
                    assert content is not None  # a regular file
                    yield folder + slash + stem, field.lower(), content.read()
            # The archive ends at a damaged header as it does at its end, and would lose the rest
            # without a word.
            file.seek(archive.offset)
            if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
                raise tarfile.ReadError("a damaged header")
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror or error}); copy or make it again."
        ) from error
    except _BROKEN as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{path} cannot be read (it is cut off, damaged or no unpacked tar file); copy or make"
            " it again."
        ) from error


def _sample(path: str, key: str, fields: dict[str, bytes]) -> Sample | None:
    kinds = [kind for kind in fields if is_image("." + kind)]
    images = [kind for kind in kinds if not kind.startswith("mask.")]
    masks = [kind for kind in kinds if kind.startswith("mask.")]
    if not images:
        return None
    try:
        about = json.loads(fields.get("json", b"{}"))
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{key}.json in {path} is not valid JSON ({error}); make the tar again."
        ) from error
    if not isinstance(about, dict):
        raise UserError(f"{key}.json in {path} is no table with 'label'; make the tar again.")
    return Sample(
        f"{key}.{images[0]}", fields[images[0]], fields[masks[0]] if masks else None, about
    )


class ShardMemory:
    """The encoded images of the tar files used last."""

    def __init__(self, capacity: int):
        self.capacity = capacity
        self._lock = threading.Lock()
        self._shards: collections.OrderedDict[str, list[Sample]] = collections.OrderedDict()

    def get(self, path: str) -> list[Sample]:
        """Return the images of a tar file, reading it if it is not here.

        Safe to call from several threads.
        """
        with self._lock:
            if path not in self._shards:
                # first, so that never more than these are held
                while len(self._shards) >= self.capacity:
                    self._shards.popitem(last=False)
                self._shards[path] = list(read_samples(path))
            self._shards.move_to_end(path)
            return self._shards[path]

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._shards.clear()

    def __getstate__(self) -> dict:
        return {"capacity": self.capacity}

    def __setstate__(self, state: dict) -> None:
        self.__init__(state["capacity"])


class TarShard:
    """One tar file with the interface of ``ImageFiles``."""

    def __init__(
        self,
        path: str,
        names: list[str],
        labels: np.ndarray,
        size: int,
        masks: bool,
        memory: ShardMemory,
    ):
        self.path = Path(path)
        self.names, self.labels, self.size, self.has_masks = names, labels, size, masks
        self.info = DatasetInfo({})
        self.embedded = False  # masks are files of their own
        self._memory = memory

    def __len__(self) -> int:
        return len(self.names)

    def rgb(self, index: int) -> np.ndarray:  # -> [S, S, 3] uint8
        """Return a decoded image.

        Raises ``UserError`` if it is damaged or of another size than the first.
        """
        sample = self._sample(index)
        rgb = np.asarray(decode_image(sample.image, "RGB", f"{sample.name} in {self.path}"))
        if rgb.shape[:2] != (self.size, self.size):
            raise BrokenImage(
                f"All images must be square and of one size, but {sample.name} in {self.path} is"
                f" {rgb.shape[1]}x{rgb.shape[0]} and the first one {self.size}x{self.size}; resize"
                " them."
            )
        return rgb

    def mask(self, index: int) -> np.ndarray | None:  # -> [H, W] uint8
        """Return a decoded mask; None where masks are not used.

        Raises ``UserError`` for a missing or empty one.
        """
        if not self.has_masks:
            return None
        sample = self._sample(index)
        if sample.mask is None:
            raise UserError(
                f"{sample.name} in {self.path} has no mask, but others have; add KEY.mask.png."
            )
        mask = np.asarray(
            decode_image(sample.mask, "L", f"the mask of {sample.name} in {self.path}")
        )
        if mask.shape[0] != mask.shape[1] or not mask.any():
            raise BrokenImage(
                f"The mask of {sample.name} in {self.path} is empty or not square; mend it or leave"
                " the image out."
            )
        return mask

    def record(self, index: int) -> FrameRecord:
        """Return what stands in the json beside the label."""
        sample = self._sample(index)
        about = {key: value for key, value in sample.about.items() if key != "label"}
        return FrameRecord.parse({**about, "file": sample.name}, str(self.path))

    def close(self) -> None:
        """Drop what is held in memory."""
        self._memory.clear()

    def _sample(self, index: int) -> Sample:
        samples = self._memory.get(str(self.path))
        if index >= len(samples) or samples[index].name != self.names[index]:
            raise UserError(
                f"{self.path} does not hold {self.names[index]} at its place, so the dataset.json"
                " beside it belongs to other files; write both again with dataset_tool.py shard."
            )
        return samples[index]


def open_tars(paths: list[str], masks: bool, labels: Labels | None) -> list[TarShard]:
    """Open tar files.

    ``labels`` (``shard.tar/NAME`` -> 25 numbers) of a dataset.json beside them spare a pass over
    all. Without them every file is read once from end to end for its labels.

    Raises:
        UserError: a broken file, an image without a label, no images at all.
    """
    memory, paths = ShardMemory(_HELD), [str(Path(path)) for path in paths]
    by_shard: dict[str, dict[str, Sequence[float]]] = {}
    for name, label in (labels or {}).items():
        shard, _, inner = name.partition("/")
        by_shard.setdefault(shard, {})[inner] = label
    if labels is not None and (
        absent := [path for path in paths if Path(path).name not in by_shard]
    ):
        raise UserError(
            f"The dataset.json beside {absent[0]} has no labels of this file; write both again with"
            " dataset_tool.py shard."
        )
    shards, first = [], next((samples[0] for path in paths if (samples := memory.get(path))), None)
    if first is None:
        raise UserError(f"{paths[0]} holds no images KEY.jpg, KEY.png or KEY.webp.")
    header = parse_header(first.image)
    size = header.size if header else decode_image(first.image, "RGB", first.name).size
    if size[0] != size[1]:
        raise UserError(
            f"{first.name} in {paths[0]} is {size[0]}x{size[1]}; images must be square, so crop"
            " them."
        )
    for path in paths:
        if labels is None:
            found = {sample.name: sample.about.get("label") for sample in memory.get(path)}
            names, own = (
                list(found),
                {name: label for name, label in found.items() if label is not None},
            )
        else:
            own = by_shard[Path(path).name]
            names = list(own)
        rows = label_array(own, names, path)
        shards.append(
            TarShard(path, names, rows, size[0], masks and first.mask is not None, memory)
        )
    return shards


def tar_member(name: str, data: bytes) -> tuple[tarfile.TarInfo, io.BytesIO]:
    """Return a tar entry with fixed owner and time: the same content gives the same bytes."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    return info, io.BytesIO(data)
