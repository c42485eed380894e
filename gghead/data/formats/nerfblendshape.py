"""NeRFBlendShape (Gao et al. 2022).

``transforms.json``, ``head_imgs/<id>.jpg``, ``parsing/<id>.png``.

Source: USTC3DV/NeRFBlendShape-code, nerf/provider.py. Poses are camera-to-world with NeRF's
(OpenGL) axes, relative to the head: y up, face along +z. Its loader's axis permutation and factor
0.33 are instant-ngp's and are not part of the data. The unit is taken to be meters: the head lies
in a box of ±0.18. 46 FaceWarehouse coefficients; the head is the pure blue of ``parsing``. Test
frames are the last 500.
"""

import numpy as np

from gghead.data.captures import TrackedSequence
from gghead.data.files import Source
from gghead.data.formats.assemble import Row, assemble, by_time
from gghead.data.formats.geometry import METERS_PER_UNIT, Placement, from_opengl, intrinsics
from gghead.data.formats.parsing import ReadOptions, read_json
from gghead.data.json_values import entry, frame_list, image_size, matrix, number
from gghead.torch_utils.errors import UserError

TEST_FRAMES = 500
_HEAD = (0, 0, 255)
# The tracker's origin against ours is not documented; its box is centered, so the head's middle
# is assumed.
_PLACEMENT = Placement(1 / METERS_PER_UNIT, np.eye(3), np.zeros(3))


def looks_like(names: set[str], content: dict | None) -> bool:
    return content is not None and "exp_ori" in content["frames"][0]


def read(source: Source, options: ReadOptions) -> TrackedSequence:
    """Read one person's folder; see ``assemble`` for what is refused."""
    name = "transforms.json"
    where = f"{name} in {source.path}"
    content = read_json(source, name)
    frames = frame_list(content, where)
    width, height = image_size(content, where)
    fx, fy, cx, cy = (number(content, key, where) for key in ("fx", "fy", "cx", "cy"))
    k = intrinsics(fx, fy, cx, cy, width, height)
    names = set(source.names())
    folder = "head_imgs" if any(name.startswith("head_imgs/") for name in names) else "ori_imgs"
    rows = []
    for index, frame in enumerate(frames):
        at = f"frame {index} of {where}"
        step = entry(frame, "img_id", at)
        if not str(step).isdecimal():
            raise UserError(f"'img_id' of {at} must be a number, but it is {step!r}.")
        pose = from_opengl(matrix(entry(frame, "transform_matrix", at), f"The pose of {at}"))
        rows.append(
            Row(
                f"{folder}/{step}.jpg",
                pose,
                k,
                (int(width), int(height)),
                f"parsing/{step}.png",
                number=int(step),
                moment=str(step),
                coefficients=entry(frame, "exp_ori", at),
            )
        )
    poses = _PLACEMENT.with_options(options).cameras(np.stack([row.cam2world for row in rows]))
    for row, pose in zip(rows, poses, strict=True):
        row.cam2world = pose
    by_time(rows, TEST_FRAMES, options)
    notes = (
        ()
        if options.offset or options.world
        else (
            (
                "Where the origin of this tracker lies in the head is not documented; check the"
                " images and shift it with `offset`."
            ),
        )
    )
    return assemble(
        TrackedSequence,
        source,
        rows,
        options,
        format="nerfblendshape",
        mask_kind="color",
        mask_color=_HEAD,
        fps=25.0,
        notes=notes,
    )
