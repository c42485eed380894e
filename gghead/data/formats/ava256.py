"""Ava-256 (Martinez et al. 2024).

``<capture>/decoder`` with ``camera_calibration.json``, ``image``, ``head_pose``.

Source: facebookresearch/ava-256 (data/ava_dataset.py, data/structure.md). ``KRT`` lists per camera
K (3x3, transposed), T (4x4 world-to-camera, transposed), ``distortion`` (4); OpenCV axes, pixels of
2668x4096 images counted from pixel centers. Head poses (``head_pose.zip``: 000123.txt, 3x4) take
the head to the rig, so cameras go to the head by its inverse. The unit is taken to be millimeters
(judging by magnitudes). How the head's own axes stand is not documented, so the head is placed by
its cameras. The authors' loader ignores ``distortion``; here a distortion that matters is refused
unless ``ReadOptions.lens`` says otherwise, because its convention is not documented either.
"""

import csv
import dataclasses
import io

import numpy as np
from PIL import features

from gghead.data.captures import Captures
from gghead.data.files import FolderSource, Source, ZipFolderSource
from gghead.data.formats.assemble import Row, assemble
from gghead.data.formats.geometry import (
    invert,
    matrix_intrinsics,
    place_by_cameras,
    relative_to_head,
)
from gghead.data.formats.parsing import ReadOptions, read_bytes, read_json, read_numbers
from gghead.data.frame_images import Lens
from gghead.data.json_values import array, entry, matrix
from gghead.torch_utils.errors import UserError

FULL_SIZE = (2668, 4096)
_CALIBRATION = "camera_calibration.json"


def looks_like(names: set[str], content: dict | None) -> bool:
    return any(name.endswith(_CALIBRATION) for name in names) and any(
        "frame_list.csv" in name for name in names
    )


def read(source: Source, options: ReadOptions) -> Captures:
    """Read all captures below a folder; see ``assemble`` for what is refused."""
    if not isinstance(source, FolderSource):
        raise UserError(
            f"{source.path} is a zip; give the folder into which Ava-256 was downloaded."
        )
    if not features.check("avif"):
        raise UserError(
            "The images of Ava-256 are AVIF files, which this Pillow cannot read: pip install -U"
            " pillow (11.3 or newer)."
        )
    nested = ZipFolderSource(source.path)
    names = nested.names()
    rows: list[Row] = []
    for file in [name for name in names if name.endswith(_CALIBRATION)]:
        base = file.removesuffix(_CALIBRATION)
        parts = [part for part in base.split("/") if part not in ("", "decoder")] or [
            source.path.resolve().name
        ]
        subject = parts[-1].rpartition("--")[2]
        if options.subjects is None or subject in options.subjects:
            rows += _capture(nested, base, subject, options)
    if not rows:
        raise UserError(f"{source.path} holds no capture of Ava-256 that was asked for.")
    poses, matrices = (
        np.stack([row.cam2world for row in rows]),
        np.stack([row.matrix for row in rows]),
    )
    placement = place_by_cameras(poses, matrices, str(source.path), options, 1e-3)
    for row, pose in zip(rows, placement.cameras(poses), strict=True):
        row.cam2world = pose
    options = dataclasses.replace(options, lens=options.lens or "refuse")
    return assemble(Captures, nested, rows, options, format="ava256")


def _capture(source: ZipFolderSource, base: str, subject: str, options: ReadOptions) -> list[Row]:
    where = f"{base}{_CALIBRATION} in {source.path}"
    cameras = _calibration(read_json(source, base + _CALIBRATION), where, options)
    names = set(source.names())
    table = csv.DictReader(
        io.StringIO(read_bytes(source, f"{base}frame_list.csv").decode()), skipinitialspace=True
    )
    if not {"seg_id", "frame_id"} <= set(table.fieldnames or ()):
        raise UserError(
            f"{base}frame_list.csv in {source.path} must have the columns seg_id and frame_id."
        )
    rows = []
    for line in table:
        if options.moments is not None and not set(options.moments) & {
            line["seg_id"],
            _moment(line),
        }:
            continue
        number = int(line["frame_id"])
        path = next(
            (
                p
                for p in (
                    f"{base}head_pose/head_pose.zip/{number:06d}.txt",
                    f"{base}head_pose/{number:06d}.txt",
                )
                if p in names
            ),
            None,
        )
        if path is None:
            raise UserError(
                f"Frame {number} of {base}frame_list.csv in {source.path} has no head pose."
            )
        values = read_numbers(source, path)
        head = matrix(
            values.reshape(-1, 4) if values.size % 4 == 0 else values, f"{path} in {source.path}"
        )
        for camera, (pose, k, lens) in cameras.items():
            folder = f"{base}image/cam{camera}"
            image = next(
                (
                    p
                    for p in (
                        f"{folder}.zip/cam{camera}/{number:06d}.avif",
                        f"{folder}.zip/{number:06d}.avif",
                        f"{folder}/{number:06d}.avif",
                    )
                    if p in names
                ),
                None,
            )
            if image is not None:  # not every camera has every frame
                rows.append(
                    Row(
                        image,
                        relative_to_head(pose[None], head[None])[0],
                        k,
                        FULL_SIZE,
                        subject=subject,
                        moment=_moment(line),
                        camera=camera,
                        clip=line["seg_id"],
                        number=number,
                        lens=lens,
                    )
                )
    return rows


def _moment(line: dict) -> str:
    return f"{line['seg_id']}/{int(line['frame_id']):06d}"


def _calibration(content: dict, where: str, options: ReadOptions) -> dict[str, tuple]:
    cameras = {}
    listed = entry(content, "KRT", where)
    if not isinstance(listed, list):
        raise UserError(f"'KRT' of {where} is not a list of cameras.")
    for index, item in enumerate(listed):
        at = f"camera {index} of {where}"
        name = str(entry(item, "cameraId", at))
        if options.cameras is not None and name not in options.cameras:
            continue
        k = matrix_intrinsics(
            array(entry(item, "K", at), (3, 3), f"'K' of {at}").T,
            *FULL_SIZE,
            f"'K' of {at}",
            origin_at_center=True,
        )
        pose = invert(array(entry(item, "T", at), (4, 4), f"'T' of {at}").T)
        k1, k2, p1, p2 = array(item.get("distortion", [0] * 4), (4,), f"'distortion' of {at}")
        lens = Lens((k[0, 0], k[1, 1], k[0, 2], k[1, 2]), k1, k2, p1, p2)
        cameras[name] = (pose, k, lens if k1 or k2 or p1 or p2 else None)
    return cameras
