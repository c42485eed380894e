"""Every example runs, in small, and writes what its docstring names."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest
from helpers.places import ROOT
from PIL import Image

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
SMALL = {  # what makes each of them short; the network and the rest stay as they are
    "01": {"size": 48, "seeds": 2},
    "02": {"size": 32, "frames": 2},
    "03": {"size": 32, "steps": 2},
    "04": {"size": 32, "steps": 1},
    "05": {"size": 32, "samples": 200},
    "06": {"size": 32, "frames": 2},
    "07": {"size": 32, "steps": 1},
    "08": {"size": 32, "images": 16},
    "09": {"size": 32, "frames": 8, "iterations": 2},
    "10": {"size": 48},
}


def number(path: Path) -> str:
    return path.name[:2]


@pytest.mark.parametrize("path", EXAMPLES, ids=number)
def test_an_example_runs_and_writes_what_it_promises(path, tmp_path, monkeypatch):
    monkeypatch.setenv("GGHEAD_PROGRESS", "off")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    example.main(out=tmp_path, **SMALL[number(path)])
    promised = set(re.findall(r"\d\d_\w+\.(?:png|webp|ply|obj)", example.__doc__))
    assert promised
    for name in promised:
        assert (tmp_path / name).stat().st_size > 0
    for name in promised & {file.name for file in tmp_path.glob("*.png")}:
        image = Image.open(tmp_path / name).convert("RGB")
        assert all(low < high for low, high in image.getextrema()), "something is drawn"


def test_examples_are_ten_short_files_in_order():
    assert [number(path) for path in EXAMPLES] == [f"{index:02d}" for index in range(1, 11)]
    for path in EXAMPLES:
        text = path.read_text("utf-8")
        code = text.split('"""', 2)[2]
        assert ast.get_docstring(ast.parse(text)).splitlines()[0].endswith(".")
        assert len([line for line in code.splitlines() if line.strip()]) <= 45, path.name
