"""gsplat's compiled part: built by one process at a time, asked for before gsplat is chosen.
Stand-ins, no GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.places import ROOT

from gghead.rendering import gsplat_backend, registry
from gghead.torch_utils.errors import UserError

CUDA = torch.device("cuda")
# As gsplat 1.5.3 does on import: load what is built; else delete the folder, whoever may be
# building in it, and build. Here the build lasts until every process of the test is there.
BUILDS = """
import os, pathlib, shutil, time
folder = pathlib.Path(os.environ["FAKE_FOLDER"])
build = folder / "build"
if not (build / "built").exists():
    shutil.rmtree(build, ignore_errors=True)
    build.mkdir()
    (build / str(os.getpid())).touch()
    end = time.monotonic() + 60
    while len(list(folder.glob("arrived-*"))) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.3)
    if os.listdir(build) != [str(os.getpid())]:
        raise RuntimeError("somebody else built in my folder")
    (build / "built").touch()
    print("built", flush=True)
_C = object()
"""


def stand_in(
    folder: Path, backend: str, package: str = "def rasterization(*args, **options): ...\n"
) -> Path:
    """A package named gsplat in ``folder`` whose compiled part is what ``backend`` makes of it."""
    (folder / "gsplat" / "cuda").mkdir(parents=True)
    (folder / "gsplat" / "__init__.py").write_text(package)
    (folder / "gsplat" / "cuda" / "__init__.py").write_text("")
    (folder / "gsplat" / "cuda" / "_backend.py").write_text(backend)
    return folder


@pytest.fixture
def use(tmp_path, monkeypatch):
    """Makes a stand-in importable here, and forgets what was known of gsplat before and after."""

    def choose(backend: str, package: str | None = None) -> None:
        stand_in(tmp_path, backend, *([] if package is None else [package]))
        monkeypatch.syspath_prepend(str(tmp_path))

    for name in [name for name in sys.modules if name.split(".")[0] == "gsplat"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    gsplat_backend._import_fault.cache_clear()
    yield choose
    gsplat_backend._import_fault.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "gsplat"]:
        del sys.modules[name]


def test_processes_that_start_together_build_once_and_all_can_use_it(tmp_path):
    code = (
        "import os, pathlib\n"
        "from gghead.rendering import gsplat_backend\n"
        "pathlib.Path(os.environ['FAKE_FOLDER'], f'arrived-{os.getpid()}').touch()\n"
        "print(repr(gsplat_backend._load()))"
    )
    environment = {
        **os.environ,
        "XDG_CACHE_HOME": str(tmp_path),
        "FAKE_FOLDER": str(tmp_path),
        "PYTHONPATH": f"{stand_in(tmp_path / 'site', BUILDS)}{os.pathsep}{ROOT}",
    }
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    results = [process.communicate(timeout=120) for process in both]
    assert sorted(out.split() for out, _ in results) == [["''"], ["built", "''"]], results
    assert sum("waiting for process" in err for _, err in results) == 1


def test_with_its_compiled_part_gsplat_is_chosen(use):
    use("_C = object()\n")
    assert registry.resolve("auto", CUDA).backend.name == "gsplat"


@pytest.mark.parametrize(
    ("backend", "package", "reason"),
    [
        ("_C = None\n", None, "no CUDA toolkit to build it; install nvcc"),
        (
            "raise RuntimeError('Error building:\\nptxas died')\n",
            None,
            r"not be built or loaded \(ptxas died",
        ),
        (
            "raise OSError('libcudart.so: cannot open')\n",
            None,
            r"could not be built or loaded \(libcudart",
        ),
        (
            "_C = object()\n",
            "import no_such_module\n",
            r"cannot be imported \(No module named 'no_such_module'",
        ),
        ("_C = object()\n", "", "no rasterization; pip install"),
    ],
)
def test_without_it_the_torch_rasterizer_draws_and_one_warning_says_why(
    use, backend, package, reason
):
    use(backend, package)
    with pytest.warns(UserWarning, match=f"slower torch rasterizer has to: .*{reason}"):
        choice = registry.resolve("auto", CUDA)
    assert choice.backend.name == "torch" and "not gsplat: " in choice.reason
    assert str(registry.resolve("auto", CUDA)) == str(choice)  # the warning comes once
    with pytest.raises(UserError, match=reason):
        registry.resolve("gsplat", CUDA)
