"""``dataset.json`` and the zips that hold it. Nothing else reads or writes its form.

The form is EG3D's: ``labels`` lists ``[image, 25 numbers]``, the cameras. All other keys are
optional:

=================== ==================================================================
masks               ``{image: mask}``, names in the same zip
frames              one table per image: what ``FrameRecord`` lists, and what others add
kind, version       "captures" or "sequence" and ``VERSION``, of zips that gghead wrote
format              what the set was converted from
splits              names of the splits that ``frames`` refer to
expression_names    names of the expression coefficients
fps                 frames per second
notes               sentences that a user should read
=================== ==================================================================

Further keys are tables of other files (``uv``, ``depth``); they are kept as they stand.
"""

import contextlib
import dataclasses
import functools
import gc
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from gghead.data.camera_labels import LABEL_REMEDY, LABEL_SIZE, check_labels
from gghead.data.files import Source, is_image
from gghead.data.json_values import number, text, texts
from gghead.data.local_files import no_labels_message
from gghead.data.zip_writer import ZipWriter, encode_png
from gghead.torch_utils.errors import UserError

DATASET_JSON = "dataset.json"
VERSION = 1
"""Of zips with ``kind``; raise it when an older gghead would misread what is written."""
KINDS = ("captures", "sequence")


@dataclass(frozen=True)
class FrameRecord:
    """What ``frames`` says of one image beside its camera; ``None`` where it says nothing."""

    file: str
    mask: str | None = None
    source: str | None = None
    """The image's name in the data that it was converted from."""
    subject: str | int | None = None
    expression_id: str | int | None = None
    """What the face does: the name of an expression, or a time step."""
    camera: str | int | None = None
    frame: int | None = None
    """The time step, by which a sequence is ordered."""
    split: str | None = None
    expression: Sequence[float] | None = None
    """Expression coefficients, one for each of ``DatasetInfo.expression_names``."""
    extras: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Other tracked parameters: jaw, eyes, eyelids, neck."""
    other: Mapping[str, Any] = field(default_factory=dict)
    """Keys that this version does not know, as they stand."""

    @classmethod
    def parse(cls, content: object, where: str) -> Self:
        """Return the record of one entry of ``frames``.

        Raises ``UserError`` naming what is wrong.
        """
        if not isinstance(content, dict):
            raise UserError(f"'frames' of {where} is not a list of frames.")
        given = {key: value for key, value in content.items() if value is not None}
        if "file" not in given:
            raise UserError(
                f"A frame of {where} has no 'file'; it is damaged, or of another format."
            )
        at = f"{given['file']} in {where}"
        for key in _NAMES & given.keys():
            text(given[key], f"'{key}' of {at}")
        if "frame" in given:
            given["frame"] = int(number(given, "frame", at))
        if not isinstance(given.get("extras", {}), dict):
            raise UserError(f"'extras' of {at} is not a table.")
        known = {key: given.pop(key) for key in _FIELDS & given.keys()}
        known["file"] = str(known["file"])
        return cls(**known, other=given)

    def content(self) -> dict[str, Any]:
        """Return the entry of ``frames``; ``parse`` gives the same record back."""
        known = {key: getattr(self, key) for key in _ORDER}
        return {k: v for k, v in known.items() if v is not None and v != {}} | dict(self.other)


_ORDER = [item.name for item in dataclasses.fields(FrameRecord) if item.name != "other"]
_FIELDS = frozenset(_ORDER)
_NAMES = frozenset(("file", "mask", "source", "subject", "expression_id", "camera", "split"))


@dataclass(frozen=True)
class DatasetInfo:
    """The content of a dataset.json."""

    labels: Mapping[str, Sequence[float]]
    """Image -> its camera, as the file has it; ``camera_labels.label_array`` checks the numbers."""
    masks: Mapping[str, str] = field(default_factory=dict)
    """Image -> mask in the same zip, from ``masks`` or else from ``frames``."""
    kind: str | None = None
    """One of ``KINDS``, or ``None`` in sets that say nothing of it."""
    format: str = ""
    splits: tuple[str, ...] = ()
    expression_names: tuple[str, ...] = ()
    fps: float | None = None
    notes: tuple[str, ...] = ()
    tables: Mapping[str, Any] = field(default_factory=dict)
    """Further keys, as they stand."""
    entries: Sequence[object] = ()
    """``frames`` as the file has it; ``frames`` checks it."""
    where: str = "a new set"
    """What messages call the set."""

    @functools.cached_property
    def frames(self) -> tuple[FrameRecord, ...]:
        """The records of ``frames``; raises ``UserError`` naming the first that is none."""
        if not isinstance(self.entries, list | tuple):
            raise UserError(f"'frames' of {self.where} is not a list of frames.")
        return tuple(FrameRecord.parse(entry, self.where) for entry in self.entries)

    @functools.cached_property
    def records(self) -> dict[str, FrameRecord]:
        """Image -> its record in ``frames``."""
        return {record.file: record for record in self.frames}

    def record(self, name: str) -> FrameRecord:
        """Return what is known of an image; an empty record where nothing is."""
        return self.records.get(name) or FrameRecord(name)

    def files(self) -> set[str]:
        """Return the names of the files, other than images, that this one refers to."""
        tables = [self.masks, *(table for table in self.tables.values() if isinstance(table, dict))]
        return {name for table in tables for name in table.values() if isinstance(name, str)}

    @classmethod
    def parse(cls, data: bytes, where: str | os.PathLike) -> Self:
        """Return the content of a dataset.json of the set ``where``.

        Raises ``UserError`` if it is not JSON, has no labels, is of a newer version, or has a key
        of another form. Numbers of labels and ``entries`` are checked when they are used.
        """
        place = f"dataset.json in {where}"
        try:
            with _no_garbage_collection():
                content = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{place} is not valid JSON ({error}).") from error
        labels = content.pop("labels", None) if isinstance(content, dict) else None
        if not labels:
            raise UserError(
                f"{where} is unlabeled: {LABEL_REMEDY}; scripts/dataset_tool.py photos writes them."
            )
        pairs = labels.items() if isinstance(labels, dict) else labels
        try:
            labels = {str(name): label for name, label in pairs}
        except (TypeError, ValueError) as error:
            raise UserError(
                f"'labels' in the dataset.json of {where} is no list of [name, numbers] pairs."
            ) from error
        content = {key: value for key, value in content.items() if value is not None}
        version = content.pop("version", VERSION)
        if version != VERSION:
            raise UserError(
                f"{where} is of version {version}, but version {VERSION} is read here; update"
                " gghead."
            )
        kind = content.pop("kind", None)
        if kind is not None and kind not in KINDS:
            raise UserError(f"'kind' of {place} must be captures or sequence, but it is {kind!r}.")
        fps = number(content, "fps", place) if "fps" in content else None
        content.pop("fps", None)
        masks = content.pop("masks", None) or {}
        if not isinstance(masks, dict):
            raise UserError(
                f"'masks' in the dataset.json of {where} is no table from image names to mask"
                " names."
            )
        info = cls(
            labels,
            {name: text(mask, f"The mask of {name} in {place}") for name, mask in masks.items()},
            kind,
            text(content.pop("format", ""), f"'format' of {place}"),
            texts(content.pop("splits", None), f"'splits' of {place}"),
            texts(content.pop("expression_names", None), f"'expression_names' of {place}"),
            fps,
            texts(content.pop("notes", None), f"'notes' of {place}"),
            entries=content.pop("frames", ()),
            tables=content,
            where=place,
        )
        if info.masks:
            return info
        masks = {record.file: record.mask for record in info.frames if record.mask}
        return dataclasses.replace(info, masks=masks) if masks else info

    def serialize(self) -> bytes:
        """Return the file; labels are rounded to seven digits behind the point."""
        head = {
            "kind": self.kind,
            "version": VERSION if self.kind else None,
            "format": self.format,
            "splits": self.splits,
            "expression_names": self.expression_names,
            "fps": self.fps,
            "notes": self.notes,
            **self.tables,
            "frames": self.entries,
        }
        content = {"labels": [[name, round_label(label)] for name, label in self.labels.items()]}
        content |= {"masks": self.masks} if self.masks else {}
        content |= {key: value for key, value in head.items() if value not in (None, "", (), [])}
        return json.dumps(content, separators=(",", ":")).encode()


def has_info(source: Source) -> bool:
    """Whether a zip or folder has a dataset.json."""
    return DATASET_JSON in source.names()


def read_info(source: Source) -> DatasetInfo:
    """Return the dataset.json of a zip or folder.

    Raises ``UserError`` as ``DatasetInfo.parse``, or saying what the source holds where it has
    none.
    """
    try:
        data = source.read(DATASET_JSON)
    except (KeyError, FileNotFoundError) as error:
        raise UserError(
            no_labels_message(source.path, sum(map(is_image, source.names())))
        ) from error
    return DatasetInfo.parse(data, source.path)


def read_info_in(folder: Path) -> DatasetInfo | None:
    """Return the dataset.json of a folder, which lies beside shards or a single image.

    ``None`` where there is none.
    """
    file = folder / DATASET_JSON
    return DatasetInfo.parse(file.read_bytes(), folder) if file.is_file() else None


def round_label(label: Sequence[float]) -> list[float]:
    """Return a label as dataset.json holds it."""
    return [round(float(value), 7) for value in label]


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Keep Python's garbage collector out while 140,000 lists are made.

    It would look at all of them again and again, for half of the time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def image_name(index: int) -> str:
    """Return StyleGAN's name of the image, a thousand to a folder: ``00001/img00001234.png``."""
    return f"{index // 1000:05d}/img{index:08d}.png"


def mask_name(name: str) -> str:
    """Return the name of an image's mask in the same zip, ``masks/<name>.mask``.

    The mask is a PNG by its content.

    Loaders of StyleGAN's kind (EG3D's, GGHead's) take every member with an image's ending for an
    image, and stop where it has no label; so a mask has none of these endings.
    """
    return f"masks/{name}.mask"


class DatasetWriter(ZipWriter):
    """Write images, masks, labels and records to a zip for ``ImageDataset`` and EG3D's readers.

    A ``ZipWriter`` that adds ``dataset.json`` on a clean exit; it raises the same errors.
    """

    def __init__(self, dest: str | os.PathLike):
        super().__init__(dest)
        self._labels: dict[str, list[float]] = {}
        self._masks: dict[str, str] = {}
        self._records: list[FrameRecord] = []
        self._head: dict[str, Any] = {}
        self._tables: dict[str, Mapping[str, str]] = {}

    def add(
        self,
        name: str,
        image: np.ndarray | bytes,  # [H, W, 3] uint8 or an encoded file
        label: np.ndarray | list[float],  # [25]
        mask: np.ndarray | bytes | None = None,  # [H, W] uint8 or an encoded file
        record: FrameRecord | None = None,
    ) -> None:
        """Add an image with its camera label and, if given, its mask and record.

        The mask is called ``mask_name(name)``. The record's names of file and mask become those in
        this zip.
        """
        row = np.asarray(label, np.float64).reshape(1, -1)
        if row.shape[1] != LABEL_SIZE:
            raise UserError(
                f"The label of {name} has {row.shape[1]} numbers, but a camera label has 25."
            )
        check_labels(row, [name], self.dest)
        self.add_file(name, image if isinstance(image, bytes) else encode_png(image))
        self._labels[name] = row[0].tolist()
        if mask is not None:
            self._masks[name] = mask_name(name)
            self.add_file(self._masks[name], mask if isinstance(mask, bytes) else encode_png(mask))
        if record is not None:
            self._records.append(dataclasses.replace(record, file=name, mask=self._masks.get(name)))

    def add_table(self, key: str, names: Mapping[str, str]) -> None:
        """Add a further table, image -> file; readers ignore those that they do not know."""
        self._tables[key] = names

    def describe(self, **head: Any) -> None:
        """Set fields of ``DatasetInfo``.

        They are ``kind``, ``format``, ``splits``, ``expression_names``, ``fps`` and ``notes``.
        """
        self._head |= head

    def _complete(self) -> None:
        entries = [record.content() for record in self._records]
        info = DatasetInfo(
            self._labels, self._masks, tables=self._tables, entries=entries, **self._head
        )
        self.add_file(DATASET_JSON, info.serialize())
