"""FaceScape multi-view (Yang et al. 2020): ``<id>/<expression>/<view>.jpg`` and ``params.json``.

Source: zhuhao-nju/facescape, doc/doc_mview_model.md and toolkit/src/camera.py. Per view i: ``i_K``
(its upper 3x3), ``i_Rt`` (3x4 world-to-camera, OpenCV axes), ``i_distortion`` (k1 k2 p1 p2 k3,
OpenCV), ``i_width``, ``i_height``, ``i_valid``. Views whose ``i_valid`` is false are left out, as
the authors ask. Pixels are counted from pixel centers (the toolkit's own camera of 200 pixels has
its principal point at 99.5). Every tuple was reconstructed on its own, in an arbitrary frame and
unit, so each is placed by its cameras.
"""

import re

import numpy as np

from gghead.data.captures import Captures
from gghead.data.files import Source
from gghead.data.formats.assemble import Row, assemble
from gghead.data.formats.geometry import invert, matrix_intrinsics, place_by_cameras
from gghead.data.formats.parsing import ReadOptions, read_json
from gghead.data.frame_images import Lens
from gghead.data.json_values import array, entry, image_size, matrix
from gghead.torch_utils.errors import UserError

_FILE = "params.json"


def looks_like(names: set[str], content: dict | None) -> bool:
    return any(name.rpartition("/")[2] == _FILE for name in names)


def read(source: Source, options: ReadOptions) -> Captures:
    """Read all tuples below a folder; see ``assemble`` for what is refused."""
    rows: list[Row] = []
    notes: list[str] = []
    for file in [name for name in source.names() if name.rpartition("/")[2] == _FILE]:
        parts = [*source.path.resolve().parts[-2:], *file.split("/")[:-1]]
        subject, expression = parts[-2:]
        if (options.subjects is None or subject in options.subjects) and (
            options.moments is None or expression in options.moments
        ):
            rows += _tuple(source, file, subject, expression, options, notes)
    if not rows:
        raise UserError(f"{source.path} holds no {_FILE} of FaceScape that was asked for.")
    return assemble(Captures, source, rows, options, format="facescape", notes=notes)


def _tuple(
    source: Source, file: str, subject: str, expression: str, options: ReadOptions, notes: list[str]
) -> list[Row]:
    where = f"{file} in {source.path}"
    content = read_json(source, file)
    if not isinstance(content, dict):
        raise UserError(f"{where} is no table of views.")
    views = sorted({int(match[1]) for key in content if (match := re.fullmatch(r"(\d+)_K", key))})
    folder = file.removesuffix(_FILE)
    rows = []
    for view in views:
        if not content.get(f"{view}_valid", True):
            notes.append(
                f"View {view} of {folder.rstrip('/') or file} is marked as not valid and left out."
            )
            continue
        k = np.asarray(entry(content, f"{view}_K", where), object)
        k = array(k[:3, :3] if k.ndim == 2 else k, (3, 3), f"'{view}_K' of {where}")
        width, height = image_size(content, where, (f"{view}_width", f"{view}_height"))
        unit = matrix_intrinsics(k, width, height, f"'{view}_K' of {where}", origin_at_center=True)
        k1, k2, p1, p2, k3 = array(
            content.get(f"{view}_distortion", [0] * 5), (5,), f"'{view}_distortion' of {where}"
        )
        lens = Lens((unit[0, 0], unit[1, 1], unit[0, 2], unit[1, 2]), k1, k2, p1, p2, k3)
        pose = invert(matrix(entry(content, f"{view}_Rt", where), f"'{view}_Rt' of {where}"))
        rows.append(
            Row(
                f"{folder}{view}.jpg",
                pose,
                unit,
                (int(width), int(height)),
                subject=subject,
                moment=expression,
                camera=str(view),
                lens=lens if any((k1, k2, p1, p2, k3)) else None,
            )
        )
    if rows:
        poses, matrices = (
            np.stack([row.cam2world for row in rows]),
            np.stack([row.matrix for row in rows]),
        )
        placement = place_by_cameras(poses, matrices, where, options)
        for row, pose in zip(rows, placement.cameras(poses), strict=True):
            row.cam2world = pose
    return rows
