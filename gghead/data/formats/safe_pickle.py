"""Reading of pickles without running anything.

Arrays, tensors and plain containers are rebuilt, the rest is refused.

A pickle names functions that the reader calls, so loading one means running it. Here every name is
looked up in a closed table of functions of this module; numpy's and torch's own are never called.
Sources: Python's pickle documentation ("Restricting globals"), numpy's ndarray.__reduce__,
torch.save's zip layout (data.pkl beside data/0 …).
"""

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from typing import Any

import numpy as np

from gghead.torch_utils.errors import UserError

_MAX_BYTES = 2**30
_STORAGES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


class _Dtype:
    """What numpy.dtype(...) in a pickle becomes: a plain number type or nothing."""

    def __init__(self, code: str, *_: object) -> None:
        self.dtype = np.dtype(str(code))
        if self.dtype.kind not in "biuf":
            raise UserError(f"it holds an array of {code}, not of numbers")

    def __setstate__(self, state: tuple) -> None:
        if state[1] in "<>":
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """What a pickled ndarray becomes; filled by the pickle's BUILD step."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, data = state
        if isinstance(data, str):  # written by Python 2
            data = data.encode("latin1")
        if not isinstance(data, bytes) or not isinstance(dtype, _Dtype):
            raise UserError("it holds an array of objects")
        self.value = np.frombuffer(data, dtype.dtype).reshape(shape, order="F" if fortran else "C")


class _Record:
    """Objects of a model file whose attributes are arrays: attributes, no methods.

    Sparse and chumpy arrays are such objects.
    """

    def __init__(self, *_: object) -> None:
        self.state: dict = {}

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {}


class _Marker:
    """A class that is only passed on as an argument."""

    def __init__(self, name: str):
        self.name = name


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding != "latin1":
        raise UserError("it encodes text unusually")
    return text.encode("latin1")


def _scalar(dtype: _Dtype, data: Any) -> Any:
    data = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(data, dtype.dtype)[0]


def _check_size(shape: tuple) -> None:
    if math.prod(shape) * 8 > _MAX_BYTES:  # a stride of 0 makes terabytes of one number
        raise UserError(f"it unpacks to an array of {math.prod(shape)} numbers")


def _tensor(storage: np.ndarray, offset: int, size: tuple, stride: tuple, *_: object) -> np.ndarray:
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if offset < 0 or any(step < 0 for step in stride) or (0 not in size and last >= len(storage)):
        raise UserError("it holds a tensor that reaches beyond its data")
    _check_size(size)
    strides = tuple(step * storage.itemsize for step in stride)
    return np.lib.stride_tricks.as_strided(storage[offset:], size, strides).copy()


_TABLE: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encode,
    ("numpy", "ndarray"): _Marker("ndarray"),
    ("numpy", "dtype"): _Dtype,
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
}
for _core in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _TABLE[_core, "_reconstruct"] = lambda *_: _Array()
    _TABLE[_core, "scalar"] = _scalar
for _storage in _STORAGES:
    _TABLE["torch", _storage] = _Marker(_storage)
# Model files of the FLAME and SMPL family.
_MODEL_TABLE: dict[tuple[str, str], Any] = {
    ("copy_reg", "_reconstructor"): lambda kind, *_: kind(),
    ("copyreg", "_reconstructor"): lambda kind, *_: kind(),
    ("__builtin__", "set"): set,
    ("builtins", "set"): set,
    ("__builtin__", "object"): object,
    ("builtins", "object"): object,
    **{
        (f"scipy.sparse.{dot}{kind}", f"{kind}_matrix"): _Record
        for kind in ("csc", "csr")
        for dot in ("", "_")
    },
    **{("chumpy.ch", kind): _Record for kind in ("Ch", "ChLambda")},
    ("chumpy.reordering", "Select"): _Record,
}


class _Unpickler(pickle.Unpickler):
    def __init__(
        self, file: io.BytesIO, storages: dict[str, bytes] | None = None, model: bool = False
    ):
        super().__init__(file, encoding="latin1" if model else "ASCII")
        self._storages = storages or {}
        self._table = _TABLE | (_MODEL_TABLE if model else {})

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._table:
            raise UserError(
                f"it calls {module}.{name}, but only arrays, tensors and plain containers are read"
            )
        return self._table[module, name]

    def persistent_load(self, key: Any) -> np.ndarray:
        kind, storage, name = key[:3]
        if kind != "storage" or not isinstance(storage, _Marker) or name not in self._storages:
            raise UserError("it refers to data that it does not hold")
        return np.frombuffer(self._storages[name], "<" + _STORAGES[storage.name])


def load_torch_zip(data: bytes, where: str) -> Any:
    """Return what ``torch.save`` wrote, tensors as arrays. Nothing of the file is executed.

    Raises ``UserError`` for anything but plain containers, numbers, text, arrays and tensors, or a
    broken file.
    """
    if data[:1] == b"\x80":
        raise UserError(
            f"{where} is in torch's format from before version 1.6; load and save it once with a"
            " newer torch, if you trust it."
        )
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(info.file_size for info in archive.infolist()) > _MAX_BYTES:
                raise UserError(
                    f"{where} would unpack to more than {_MAX_BYTES >> 20} MiB, as zip bombs do."
                )
            names = {name.partition("/")[2]: name for name in archive.namelist()}
            if "data.pkl" not in names:
                raise UserError(f"{where} was not written by torch.save; copy it again.")
            storages = {
                name.removeprefix("data/"): archive.read(full)
                for name, full in names.items()
                if name.startswith("data/")
            }
            content = archive.read(names["data.pkl"])
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise UserError(f"{where} is damaged ({error}); copy it again.") from error
    return _load(_Unpickler(io.BytesIO(content), storages), where)


def load_model(data: bytes, where: str) -> dict[str, Any]:
    """Return the arrays of a FLAME or SMPL model file (pickle of Python 2 or 3).

    Sparse matrices become dense.
    """
    content = _load(_Unpickler(io.BytesIO(data), model=True), where)
    if not isinstance(content, dict):
        raise UserError(f"{where} is no model file; it holds a {type(content).__name__}.")
    return content


def _load(unpickler: _Unpickler, where: str) -> Any:
    try:
        return _plain(unpickler.load())
    except UserError as error:
        raise UserError(f"{where} is refused: {error}. Nothing of it was run.") from error
    # a malformed pickle may raise anything; nothing of it leaves this module
    except Exception as error:
        raise UserError(
            f"{where} is damaged or no plain pickle ({type(error).__name__}); copy it again."
        ) from error


def _plain(value: Any) -> Any:
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, _Record):
        return _dense(_plain(value.state))
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _dense(state: dict) -> Any:
    """A record's array: compressed columns or rows written out, chumpy's ``x``."""
    if "x" in state:
        return state["x"]
    if not {"data", "indices", "indptr"} <= set(state):
        return state
    shape = tuple(int(side) for side in state.get("_shape", state.get("shape", ())))
    data, indices, starts = state["data"], state["indices"], state["indptr"]
    by_column = len(starts) - 1 == shape[1]
    _check_size(shape)
    dense = np.zeros(shape[::-1] if by_column else shape)
    np.add.at(dense, (np.repeat(np.arange(len(starts) - 1), np.diff(starts)), indices), data)
    return dense.T if by_column else dense
