"""The project's own sequence folders (``transforms.json`` with masks and expressions).

``cam2world`` has our axes, world and unit already (``transform_matrix`` is the same with OpenGL
axes); every frame has its ``split``, ``expression`` and ``mask_path``. ``geometry.npz`` beside it
brings 68 landmarks per frame.
"""

import dataclasses

import numpy as np
import torch

from gghead.data.captures import TrackedSequence
from gghead.data.files import Source
from gghead.data.formats.assemble import Row, assemble
from gghead.data.formats.geometry import Placement, intrinsics
from gghead.data.formats.parsing import ReadOptions, member, read_json, read_npz
from gghead.data.json_values import (
    array,
    entry,
    frame_list,
    image_size,
    matrix,
    number,
    text,
    texts,
)

OUR_WORLD = Placement(1.0, np.eye(3), np.zeros(3))


def looks_like(names: set[str], content: dict | None) -> bool:
    return content is not None and {"cam2world", "expression"} <= set(content["frames"][0])


def read(source: Source, options: ReadOptions) -> TrackedSequence:
    """Read a sequence; see ``assemble`` for what is refused."""
    where = f"transforms.json in {source.path}"
    content = read_json(source, "transforms.json")
    frames = frame_list(content, where)
    width, height = image_size(content, where)
    fx, fy, cx, cy = (number(content, key, where) for key in ("fl_x", "fl_y", "cx", "cy"))
    k = intrinsics(fx, fy, cx, cy, width, height)
    rows = []
    for index, frame in enumerate(frames):
        at = f"frame {index} of {where}"
        mask, split = frame.get("mask_path"), frame.get("split")
        split = None if split is None else text(split, f"'split' of {at}")
        step = int(number(frame, "frame", at))
        rows.append(
            Row(
                member(entry(frame, "file_path", at)),
                matrix(entry(frame, "cam2world", at), f"The pose of {at}"),
                k,
                (int(width), int(height)),
                member(mask) if mask else None,
                number=step,
                moment=f"{step:05d}",
                coefficients=entry(frame, "expression", at),
                split=split,
            )
        )
    poses = OUR_WORLD.with_options(options).cameras(np.stack([row.cam2world for row in rows]))
    for row, pose in zip(rows, poses, strict=True):
        row.cam2world = pose
    names = texts(content.get("expression_names"), f"'expression_names' of {where}")
    fps = number(content, "fps", where) if "fps" in content else None
    sequence = assemble(
        TrackedSequence,
        source,
        rows,
        options,
        format="avatar",
        mask_kind="file",
        fps=fps,
        coefficient_names=names or None,
    )
    if "geometry.npz" not in source.names():
        return sequence
    points = array(
        read_npz(source, "geometry.npz").get("landmarks68"),
        (len(frames), 68, 3),
        f"'landmarks68' of geometry.npz in {source.path}",
    )
    by_image = {row.image: index for index, row in enumerate(rows)}
    chosen = [by_image[sequence.name(index)] for index in range(len(sequence))]
    points = OUR_WORLD.with_options(options).points(points[chosen]).astype(np.float32)
    return dataclasses.replace(sequence, landmarks=torch.from_numpy(points))
