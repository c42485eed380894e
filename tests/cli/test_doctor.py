"""gghead doctor: what works here, what is missing, what mends it."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from helpers.places import ROOT

from gghead.cli import doctor
from gghead.cli.main import main
from gghead.rendering import registry
from gghead.torch_utils.ops import native_build


def lines(findings):
    return [str(finding) for finding in findings]


def test_what_works_here_is_said_with_status_0(monkeypatch, tmp_path):
    monkeypatch.setenv("GGHEAD_RASTERIZER", "torch")
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 0, result.output
    for part in ("torch 2", "vector instructions", "torch on cpu", "PyAV", "GiB free", "cache "):
        assert part in result.output
    assert "GGHEAD_RASTERIZER=torch" in result.output
    assert "torch (GGHEAD_RASTERIZER is set)" in result.output
    assert result.output.rstrip().endswith("Heads can be rendered here.")


def test_every_backend_that_works_renders_what_torch_renders():
    found = lines(doctor.rasterizers())
    assert "  ok  torch on cpu: renders; the others are compared with it" in found
    for name in set(registry.available_names("cpu")) - {"torch"}:
        said = rf"  ok  {name} on cpu: differs from torch by \d"
        assert any(re.match(said, line) for line in found), found


def test_a_backend_that_renders_something_else_is_named(monkeypatch):
    def darker(*args, **kwargs):
        colors, alphas = registry._backends["torch"].composite(*args, **kwargs)
        return 0.5 * colors, alphas

    monkeypatch.setitem(
        registry._backends,
        "dark",
        registry.Backend("dark", lambda device, dtype: (True, "always"), composite=darker),
    )
    line = next(line for line in lines(doctor.rasterizers()) if "dark on cpu" in line)
    assert line.lstrip().startswith("!!") and "differs from torch by" in line


def test_a_backend_that_fails_is_named_with_the_reason(monkeypatch):
    def fails(*args, **kwargs):
        raise RuntimeError("the driver is gone")

    monkeypatch.setitem(
        registry._backends,
        "broken",
        registry.Backend("broken", lambda device, dtype: (True, "always"), rasterize=fails),
    )
    line = next(line for line in lines(doctor.rasterizers()) if "broken on cpu" in line)
    assert line.lstrip().startswith("!!") and "RuntimeError: the driver is gone" in line


def test_nothing_that_renders_is_status_1(tmp_path):
    fake = tmp_path / "torch"
    fake.mkdir()
    (fake / "__init__.py").write_text("raise ImportError('libcudart.so.12 is not there')\n")
    done = subprocess.run(
        [sys.executable, "-m", "gghead", "doctor"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
    )
    assert done.returncode == 1 and "Nothing can render here" in done.stderr, done.stderr
    assert "torch does not load: ImportError: libcudart.so.12 is not there" in done.stdout
    assert "-m pip install torch" in done.stdout and "GiB free" in done.stdout


def test_a_machine_without_a_compiler_is_told_how_to_get_one(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(native_build, "PREBUILT", tmp_path)
    missing = lines(doctor.compiler())
    assert "no C++ compiler" in missing[0] and "several times slower" in missing[0]
    assert "$ " in missing[0] and "no ninja" in missing[1] and "pip install ninja" in missing[1]
    (tmp_path / "dnf").touch(mode=0o755)
    if sys.platform != "darwin":
        assert "sudo dnf install gcc-c++" in lines(doctor.compiler())[0]


def test_a_driver_without_a_torch_for_it_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "nvidia-smi").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    said = "\n".join(lines(doctor.processor()))
    assert "sees no GPU" in said and "--index-url https://download.pytorch.org" in said


def test_packages_that_are_missing_are_told_with_the_command(monkeypatch):
    monkeypatch.setattr(doctor, "version_of", lambda name: None if name == "safetensors" else "1")
    said = [line for line in lines(doctor.versions()) if "!!" in line]
    assert len(said) == 1 and "No network can be loaded" in said[0]
    assert "pip install safetensors" in said[0]


def test_every_requirement_is_looked_at():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.match(r"[\w-]+", requirement)[0] for requirement in project["dependencies"]}
    assert needed - {"av"} <= set(doctor.PACKAGES)  # PyAV stands with photos and videos


def test_a_missing_pyav_is_at_fault_and_a_missing_mediapipe_is_not(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    mediapipe, pyav = lines(doctor.extras())
    assert mediapipe.startswith("  --  MediaPipe is not installed")
    assert pyav.startswith("  !!  PyAV is not installed") and "pip install av" in pyav


@pytest.mark.parametrize(
    ("text", "state", "says"),
    [
        (None, "--", "is not installed"),
        ("raise OSError('libGL.so.1')", "!!", "OSError: libGL.so.1"),
    ],
)
def test_an_extra_that_is_missing_or_broken_is_told_apart(monkeypatch, tmp_path, text, state, says):
    if text is not None:
        (tmp_path / "probed_extra.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    line = str(doctor._extra("Probe", "probed_extra", "probed_extra", "It means this.", "mend it"))
    assert line.split()[0] == state and says in line
    assert "It means this." in line and "$ mend it" in line


def test_the_remedy_for_photos_is_make_in_the_checkouts_own_environment(monkeypatch):
    if sys.version_info >= (3, 13):
        assert "3.12" in doctor.prep_remedy()
        return
    monkeypatch.setattr(sys, "prefix", str(ROOT / ".venv"))
    assert doctor.prep_remedy().startswith("make -C ")
    monkeypatch.setattr(sys, "prefix", "/usr")
    assert "requirements-prep.txt" in doctor.prep_remedy()
    monkeypatch.setattr(doctor, "_ROOT", Path("/nowhere"))
    assert "gghead[prep]" in doctor.prep_remedy()


def test_the_cache_is_measured_and_little_disk_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "gghead" / "texels"
    folder.mkdir(parents=True)
    (folder / "a.npz").write_bytes(bytes(3 * 2**20))
    said = "\n".join(lines(doctor.disk()))
    assert f"cache {tmp_path / 'gghead'}: 1 files, 3 MiB" in said and "!!" not in said
    monkeypatch.setattr(doctor, "_LITTLE", 2**80)
    assert f"rm -r {tmp_path / 'gghead'}" in "\n".join(lines(doctor.disk()))


def test_a_cache_that_cannot_be_written_is_told(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    said = "\n".join(lines(doctor.disk()))
    assert "!!" in said and "cannot be written" in said and "export XDG_CACHE_HOME" in said
