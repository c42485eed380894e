"""Pickles are rebuilt from plain data, and nothing in them is ever run."""

import io
import os
import pickle
import sys
import types
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch

from gghead.data.formats.safe_pickle import load_model, load_torch_zip
from gghead.torch_utils.errors import UserError


def saved(content) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def wrapped(pickled: bytes) -> bytes:
    """A torch zip around any pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
    return buffer.getvalue()


def refused(match, data, load=load_torch_zip):
    with pytest.raises(UserError, match=match) as caught:
        load(data, "00000.frame")
    assert "\n" not in str(caught.value) and str(caught.value).startswith("00000.frame")


def test_plain_data_arrays_and_tensors_come_back():
    base = torch.arange(24.0).reshape(4, 6)
    content = {
        "array": np.arange(6, dtype=np.float32).reshape(2, 3),
        "fortran": np.asfortranarray(np.eye(3)[:2]),
        "big": np.arange(3, dtype=">i4"),
        "scalar": np.float64(2.5),
        "tensor": base,
        "view": base[1:, ::2].T,
        "half": torch.ones(2, dtype=torch.float16),
        "flags": torch.tensor([True, False]),
        "text": "00012",
        "none": None,
        "nested": OrderedDict(a=[1, (2.5, "b")]),
        "parameter": torch.nn.Parameter(torch.full((2,), 7.0)),
        "empty": torch.zeros(0, 3),
    }
    result = load_torch_zip(saved(content), "x")
    for key in ("array", "fortran", "big"):
        np.testing.assert_array_equal(result[key], content[key])
    for key in ("tensor", "view", "half", "flags", "parameter", "empty"):
        np.testing.assert_array_equal(result[key], content[key].detach().numpy())
    assert result["scalar"] == 2.5 and result["text"] == "00012" and result["none"] is None
    assert result["nested"] == {"a": [1, [2.5, "b"]]}


class Evil:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "function", [os.system, eval, exec, __import__, getattr, open, np.load, torch.load]
)
def test_calls_are_refused_and_not_made(function, tmp_path):
    flag = tmp_path / "ran"
    text = {os.system: f"touch {flag}", open: str(flag), exec: f"open({str(flag)!r}, 'w')"}.get(
        function, "os"
    )
    arguments = (
        (text, "w") if function is open else (os, "system") if function is getattr else (text,)
    )
    if function is getattr:
        data = wrapped(b"cbuiltins\ngetattr\n.")
    else:
        data = wrapped(pickle.dumps({"flame": Evil(function, *arguments)}))
    refused("is refused: it calls .*Nothing of it was run", data)
    refused("is refused: it calls", pickle.dumps(Evil(os.system, f"touch {flag}")), load_model)
    assert not flag.exists()


def test_tricks_with_the_allowed_names_are_refused():
    refused("is refused: it calls", wrapped(b"cnumpy\nndarray.__reduce__\n."))
    refused("array of O|array of objects", saved({"a": np.array([object], dtype=object)}))
    refused("is refused: it calls", saved({"a": torch.nn.Linear(2, 2)}))
    huge = (
        b"ctorch._utils\n_rebuild_tensor_v2\n((S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI1\ntQI0\n"
        b"(I99999999999\nt(I0\nttR."
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/data.pkl", huge)
        archive.writestr("a/data/0", b"\0\0\0\0")
    refused("an array of 99999999999 numbers", buffer.getvalue())
    beyond = huge.replace(b"I99999999999", b"I9").replace(b"(I0\nttR", b"(I1\nttR")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/data.pkl", beyond)
        archive.writestr("a/data/0", b"\0\0\0\0")
    refused("beyond its data", buffer.getvalue())


def test_damaged_files_are_sentences():
    good = saved({"a": np.ones(3)})
    refused("damaged", good[: len(good) // 2])
    refused("damaged", b"")
    refused("before version 1.6", pickle.dumps({"a": 1}))
    refused("no plain pickle", wrapped(b"garbage"))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("other", b"")
    refused("not written by torch.save", buffer.getvalue())


def test_zip_bombs_are_refused(monkeypatch):
    monkeypatch.setattr("gghead.data.formats.safe_pickle._MAX_BYTES", 2**20)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b".")
        archive.writestr("a/data/0", bytes(2**21))
    refused("zip bombs", buffer.getvalue())


def test_model_files_keep_their_arrays():
    from scipy.sparse import csc_matrix, csr_matrix

    dense = np.array([[0, 2.0, 0], [3.0, 0, 4.0]])
    model = {"c": csc_matrix(dense), "r": csr_matrix(dense), "v": np.eye(2)}
    result = load_model(pickle.dumps(model, protocol=2), "x")
    np.testing.assert_array_equal(result["c"], dense)
    np.testing.assert_array_equal(result["r"], dense)
    refused("no model file", pickle.dumps([1]), load_model)


def test_chumpy_arrays_of_model_files_are_their_numbers(monkeypatch):
    """chumpy is not needed: its objects are pickled as attributes, the numbers under ``x``."""
    module = types.ModuleType("chumpy.ch")
    module.Ch = type("Ch", (), {"__module__": "chumpy.ch"})
    monkeypatch.setitem(sys.modules, "chumpy", types.ModuleType("chumpy"))
    monkeypatch.setitem(sys.modules, "chumpy.ch", module)
    value = module.Ch()
    value.__dict__.update(x=np.arange(6.0).reshape(2, 3), _dirty_vars={"x"}, _itr=None)
    data = pickle.dumps({"v_template": value}, protocol=2)
    monkeypatch.undo()
    np.testing.assert_array_equal(load_model(data, "x")["v_template"], np.arange(6.0).reshape(2, 3))
