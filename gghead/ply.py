"""Gaussians in .ply files, in the layout of the original 3D Gaussian Splatting that all viewers read.

One ``vertex`` per Gaussian with float properties: position ``x y z``, unused normals ``nx ny nz``, colour as spherical
harmonics ``f_dc_0..2`` and ``f_rest_*`` (all higher coefficients of red, then of green, then of blue), ``opacity`` as a
logit, ``scale_0..2`` as logarithms, ``rot_0..3`` as quaternion w x y z.
"""

import math
import re
from pathlib import Path

import numpy as np
import torch

from gghead.gaussians import Gaussians
from gghead.rendering import sh
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.files import make_folder, write_atomically

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "<i2", "int16": "<i2", "ushort": "<u2",
    "uint16": "<u2", "int": "<i4", "int32": "<i4", "uint": "<u4", "uint32": "<u4", "float": "<f4", "float32": "<f4",
    "double": "<f8", "float64": "<f8",
}  # fmt: skip
_MAX_HEADER = 1 << 16  # bytes; a header of 3DGS has about 1.5 kB
_MIN_OPACITY = 1e-6  # a logit cannot hold 0 and 1; the renderer's own limits are 1/255 and 0.999
_MIN_SCALE = 1e-12


def save(gaussians: Gaussians, path: str | Path) -> None:
    """Write one head atomically: a failure leaves an old file of that name as it was.

    Raises ``UserError`` for a batch of several heads, for impossible values and where the file cannot be written.
    """
    path = Path(path)
    if math.prod(gaussians.shape) != 1:
        raise UserError(f"A .ply file holds one head, but these Gaussians have batch shape {list(gaussians.shape)}.")
    one = gaussians[(0,) * len(gaussians.shape)] if gaussians.shape else gaussians
    one = one.detach().to("cpu", torch.float64).validate(f"The Gaussians for {path.name}")
    coefficients = one.with_sh(one.sh_degree or 0).colors  # [N, K, 3]
    opacities = one.opacities.clamp(_MIN_OPACITY, 1 - _MIN_OPACITY)
    columns = {name: one.means[:, i] for i, name in enumerate("xyz")}
    columns |= {name: torch.zeros(one.num) for name in ("nx", "ny", "nz")}
    columns |= {f"f_dc_{i}": coefficients[:, 0, i] for i in range(3)}
    rest = coefficients[:, 1:].mT.flatten(1)  # [N, 3 * (K - 1)], channel by channel
    columns |= {f"f_rest_{i}": rest[:, i] for i in range(rest.shape[1])}
    columns["opacity"] = torch.logit(opacities)
    columns |= {f"scale_{i}": one.scales[:, i].clamp_min(_MIN_SCALE).log() for i in range(3)}
    quats = torch.nn.functional.normalize(one.quats, dim=-1)
    columns |= {f"rot_{i}": quats[:, i] for i in range(4)}

    header = ["ply", "format binary_little_endian 1.0", f"element vertex {one.num}"]
    header += [f"property float {name}" for name in columns] + ["end_header", ""]
    table = np.stack([column.numpy() for column in columns.values()], -1).astype("<f4")
    make_folder(path.parent)
    write_atomically(path, lambda file: file.write("\n".join(header).encode("ascii") + table.tobytes()))


def load(path: str | Path) -> Gaussians:
    """Read Gaussians [N, ...] in float32; plain RGB where the file has no ``f_rest`` properties.

    The properties may stand in any order, and unknown ones are skipped. Raises ``UserError`` for anything that is not a
    binary little-endian .ply of 3D Gaussians.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check the path.") from error
    dtype, count, offset = _parse_header(path, data)
    if len(data) < offset + count * dtype.itemsize:
        raise UserError(f"{path} ends before its {count} Gaussians do; it was cut off, so copy or export it again.")
    rows = np.frombuffer(data, dtype, count, offset)

    def columns(*names: str) -> torch.Tensor:
        missing = [name for name in names if name not in dtype.fields]
        if missing:
            raise UserError(
                f"{path} has no property '{missing[0]}', so it does not hold 3D Gaussians in 3DGS's layout."
            )
        stacked = np.stack([rows[name] for name in names], -1)
        return torch.from_numpy(stacked.astype(np.float64))

    dc = columns("f_dc_0", "f_dc_1", "f_dc_2")
    num_rest = len([name for name in dtype.names if re.fullmatch(r"f_rest_\d+", name)])
    degree = math.isqrt(num_rest // 3 + 1) - 1
    if num_rest != 3 * (sh.num_bases(degree) - 1) or degree > sh.MAX_DEGREE:
        raise UserError(
            f"{path} has {num_rest} f_rest properties; 0, 9, 24 or 45 are expected (harmonics up to degree 3)."
        )
    if degree:
        rest = columns(*(f"f_rest_{i}" for i in range(num_rest))).unflatten(-1, (3, -1)).mT
        colors, sh_degree = torch.cat([dc[:, None], rest], 1), degree
    else:
        colors, sh_degree = (sh.C0 * dc + 0.5).clamp_min(0.0), None
    gaussians = Gaussians(
        means=columns("x", "y", "z"),
        quats=torch.nn.functional.normalize(columns("rot_0", "rot_1", "rot_2", "rot_3"), dim=-1),
        scales=columns("scale_0", "scale_1", "scale_2").exp(),
        opacities=columns("opacity")[:, 0].sigmoid(),
        colors=colors,
        sh_degree=sh_degree,
    )
    return gaussians.to(torch.float32).validate(str(path))


def _parse_header(path: Path, data: bytes) -> tuple[np.dtype, int, int]:
    """Row type, number of rows and offset of the first one."""
    end = re.search(rb"(?:^|\n)end_header\r?\n", data[:_MAX_HEADER])
    if not data.startswith(b"ply") or not end:
        raise UserError(f"{path} is not a .ply file (no header from 'ply' to 'end_header').")
    lines = [line.split() for line in data[: end.start()].decode("ascii", "replace").splitlines() if line.strip()]
    lines = [words for words in lines if words[0] not in ("ply", "comment", "obj_info")]
    if ["format", "binary_little_endian", "1.0"] not in lines:
        raise UserError(
            f"{path} is not a binary little-endian .ply file; convert it (for example with 'format binary')."
        )
    elements = [i for i, words in enumerate(lines) if words[0] == "element"]
    if not elements or len(lines[elements[0]]) != 3 or lines[elements[0]][1] != "vertex":
        raise UserError(
            f"{path} does not begin with 'element vertex', so it does not hold 3D Gaussians in 3DGS's layout."
        )
    count = lines[elements[0]][2]
    properties = lines[elements[0] + 1 : elements[1] if len(elements) > 1 else None]
    names = [words[-1] for words in properties]
    bad = [words for words in properties if words[0] != "property" or len(words) != 3 or words[1] not in _TYPES]
    if bad or not count.isdigit() or len(set(names)) != len(names):
        line = " ".join(bad[0]) if bad else f"element vertex {count}"
        raise UserError(
            f"{path} has a vertex table that cannot be read (at '{line}'); export it again in 3DGS's layout."
        )
    return np.dtype([(words[2], _TYPES[words[1]]) for words in properties]), int(count), end.end()
