"""INSTA (Zielon et al. 2023).

``transforms.json``, ``images/00000.png`` with alpha, ``flame/exp/00000.txt``.

Source: Zielon/INSTA, scripts/transforms.py. Poses are camera-to-world with OpenCV axes in FLAME's
frame (meters), the inverse of metrical-tracker's ``opencv`` matrices; the head's motion is in them.
Test frames are the last 350.
"""

import numpy as np

from gghead.data.captures import TrackedSequence
from gghead.data.files import Source
from gghead.data.formats.assemble import Row, assemble, by_time, frame_number
from gghead.data.formats.flame import flame_placement
from gghead.data.formats.geometry import intrinsics
from gghead.data.formats.parsing import ReadOptions, member, read_json, read_numbers
from gghead.data.json_values import entry, frame_list, image_size, matrix, number

TEST_FRAMES = 350


def looks_like(names: set[str], content: dict | None) -> bool:
    return (
        content is not None
        and "exp_path" in content["frames"][0]
        and "flame_param_path" not in content["frames"][0]
    )


def read(source: Source, options: ReadOptions) -> TrackedSequence:
    """Read an actor's folder; see ``assemble`` for what is refused."""
    name = "transforms.json"
    where = f"{name} in {source.path}"
    content = read_json(source, name)
    frames = frame_list(content, where)
    width, height = image_size(content, where)
    fx, fy, cx, cy = (number(content, key, where) for key in ("fl_x", "fl_y", "cx", "cy"))
    poses = np.stack(
        [
            matrix(
                entry(frame, "transform_matrix", f"frame {i} of {where}"),
                f"The pose of frame {i} of {where}",
            )
            for i, frame in enumerate(frames)
        ]
    )
    poses = flame_placement(options).cameras(poses)
    rows = []
    have = set(source.names())
    for index, (frame, pose) in enumerate(zip(frames, poses, strict=True)):
        image = member(entry(frame, "file_path", f"frame {index} of {where}"))
        expression = member(entry(frame, "exp_path", f"frame {index} of {where}"))
        # A frame without its image is reported by ``assemble``, together with all others.
        vector = read_numbers(source, expression) if image in have else ()
        step = frame_number(image, index)
        rows.append(
            Row(
                image,
                pose,
                intrinsics(fx, fy, cx, cy, width, height),
                (width, height),
                number=step,
                moment=f"{step:05d}",
                coefficients=vector,
            )
        )
    by_time(rows, TEST_FRAMES, options)
    return assemble(
        TrackedSequence, source, rows, options, format="insta", mask_kind="embedded", fps=25.0
    )
