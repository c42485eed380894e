"""What gets installed: the metadata, the built wheel, the lock."""

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
import zipfile

import pytest
from helpers.places import ROOT

PACKAGES = ("gghead", "torch_utils", "training")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "requirements.txt").read_text(), flags=re.M))


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def names(requirements: list[str]) -> set[str]:
    return {canonical(re.match(r"[\w.-]+", requirement)[0]) for requirement in requirements}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """The wheel of a source archive of a copy, so that no build folder is left in, or taken from,
    the working tree."""
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("setuptools is not installed, so no wheel can be built offline")
    copy, target = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("wheel")
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    for folder in (*PACKAGES, "datasets", "scripts", "research", "tests"):
        shutil.copytree(ROOT / folder, copy / folder, symlinks=True, ignore=ignore)
    for file in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, copy / file)
    make = "from setuptools import build_meta; build_meta.build_sdist('dist')"
    done = subprocess.run([sys.executable, "-c", make], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [sources] = (copy / "dist").glob("*.tar.gz")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        sources,
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-q",
    ]
    done = subprocess.run([*command, "-w", str(target)], cwd=target, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [built] = target.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        yield archive


def test_wheel_puts_nothing_at_the_top_level_but_gghead(wheel):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert tops == {"gghead", f"gghead-{PROJECT['version']}.dist-info"}


def test_wheel_holds_every_source_file(wheel):
    wanted = [p.relative_to(ROOT) for package in PACKAGES for p in (ROOT / package).rglob("*.py")]
    for pattern in ("gghead/rendering/csrc/*", "gghead/weights/*", "gghead/py.typed"):
        wanted += [p.relative_to(ROOT) for p in ROOT.glob(pattern)]
    installed = {str(path if path.parts[0] == "gghead" else "gghead" / path) for path in wanted}
    assert installed <= set(wheel.namelist())


@pytest.mark.parametrize("place", ["the folder one stands in", "PYTHONPATH"])
def test_an_installed_gghead_and_a_stylegan_checkout_leave_each_other_alone(wheel, tmp_path, place):
    """StyleGAN and EG3D have packages called torch_utils and training, and are used from their own
    folder."""
    installed, checkout = tmp_path / "site", tmp_path / "eg3d"
    wheel.extractall(installed)
    for package in ("torch_utils", "training", "dnnlib"):
        (checkout / package).mkdir(parents=True)
        (checkout / package / "__init__.py").write_text("THEIRS = True\n")
    (checkout / "torch_utils" / "misc.py").write_text("THEIRS = True\n")
    code = (
        "import gghead, gghead.torch_utils.checks, gghead.training.gan.config,"
        " gghead.cli.gen_samples\nimport torch_utils, torch_utils.misc, training, dnnlib\nassert"
        " torch_utils.THEIRS and torch_utils.misc.THEIRS and training.THEIRS\ngghead.Gaussians,"
        " gghead.render\nprint(gghead.__file__)"
    )
    where = checkout if place == "the folder one stands in" else tmp_path
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=where,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [checkout, installed]))},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(installed / "gghead" / "__init__.py")


def test_wheel_carries_license_and_commands(wheel):
    info = f"gghead-{PROJECT['version']}.dist-info"
    metadata = wheel.read(f"{info}/METADATA").decode()
    assert "License-Expression: Apache-2.0" in metadata
    assert b"Apache License" in wheel.read(f"{info}/licenses/LICENSE")
    entries = wheel.read(f"{info}/entry_points.txt").decode()
    for command, target in PROJECT["scripts"].items():
        assert f"{command} = {target}" in entries


@pytest.mark.parametrize("target", PROJECT["scripts"].values())
def test_commands_exist(target):
    module, function = target.split(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_nothing_depends_on_torchvision():
    """torchvision and what needs it would replace the installed torch."""
    extras = [
        requirement for extra in PROJECT["optional-dependencies"].values() for requirement in extra
    ]
    bad = {"torchvision", "timm", "lpips", "clean-fid", "torch-fidelity", "piq", "facenet-pytorch"}
    assert not bad & (names(PROJECT["dependencies"]) | names(extras) | names(list(LOCK)))


@pytest.mark.parametrize("extra, module", [("prep", "mediapipe"), ("research", "matplotlib")])
def test_extras_have_code_behind_them(extra, module):
    assert set(PROJECT["optional-dependencies"]) == {"prep", "dev", "research"}
    folders = ("research",) if extra == "research" else PACKAGES
    sources = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert any(
        re.search(rf"^\s*(import|from) {module}\b", path.read_text(), flags=re.M)
        for path in sources
    ), extra


def test_every_extra_can_be_installed_with_the_locked_versions(tmp_path):
    """All at once, which is harder than each alone; pip only plans here, and torch must not be in
    the plan."""
    try:
        found = importlib.metadata.version("torch").split("+")[0]
    except importlib.metadata.PackageNotFoundError:
        found = None
    if importlib.util.find_spec("pip") is None or found != LOCK["torch"]:
        pytest.skip(f"pip would download torch {LOCK['torch']}, since {found} is installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--dry-run", "-q"]
    probe = [
        "--retries",
        "0",
        "--timeout",
        "5",
        "--no-deps",
        "--ignore-installed",
        f"iniconfig=={LOCK['iniconfig']}",
    ]
    if subprocess.run([*pip, *probe], capture_output=True).returncode:
        pytest.skip("the package index cannot be reached")
    for file in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, tmp_path / file)
    extras, plan = ",".join(PROJECT["optional-dependencies"]), tmp_path / "plan.json"
    done = subprocess.run(
        [*pip, "--report", plan, "-c", ROOT / "requirements.txt", f"{tmp_path}[{extras}]"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    planned = {
        canonical(item["metadata"]["name"]) for item in json.loads(plan.read_text())["install"]
    }
    assert "gghead" in planned and not planned & {"torch", "torchvision"}


def test_tensorboard_starts_and_shows_a_number_of_a_run(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from gghead.training.run.stats import StatsWriter

    with StatsWriter(tmp_path / "run") as writer:
        writer.write_values({"Metrics/frd2k": 3.25}, 4000)
    said = tmp_path / "said"
    with said.open("w") as stream:
        server = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tensorboard.main",
                f"--logdir={tmp_path}",
                "--port=0",
                "--host=127.0.0.1",
            ],
            stdout=stream,
            stderr=stream,
        )
    try:
        end, values = time.monotonic() + 90, []
        while time.monotonic() < end and server.poll() is None and not values:
            time.sleep(0.2)
            address = re.search(r"http://127\.0\.0\.1:\d+/", said.read_text())
            if address:
                # not found until the events have been read
                with contextlib.suppress(urllib.error.URLError):
                    scalar = f"{address[0]}data/plugin/scalars/scalars?run=run&tag=Metrics/frd2k"
                    with urllib.request.urlopen(scalar, timeout=10) as reply:
                        values = json.loads(reply.read())
        assert [value[1:] for value in values] == [[4000, 3.25]], said.read_text()
    finally:
        server.terminate()
        server.wait(timeout=30)


def test_lock_is_complete_and_pins_torch():
    assert LOCK["torch"] == "2.13.0"
    locked = {canonical(name) for name in LOCK}
    assert names(PROJECT["dependencies"]) | names(PROJECT["optional-dependencies"]["dev"]) <= locked
    lines = [
        line
        for line in (ROOT / "requirements.txt").read_text().splitlines()
        if not line.startswith("#")
    ]
    assert len(lines) == len(LOCK), "every line is name==version"
    installed = {canonical(found.name): found for found in importlib.metadata.distributions()}
    for name, version in LOCK.items():
        found = installed.get(canonical(name))
        if found is None or found.version.split("+")[0] != version:
            continue  # another torch was chosen, or the developers' tools are not installed
        for requirement in found.requires or []:
            needed, _, marker = requirement.partition(";")
            if not marker:
                assert names([needed]) <= locked, f"{name} needs {needed}, which is not pinned"


def test_commands_and_docs_name_no_data_that_a_reader_has_not():
    folders = (*PACKAGES, "scripts", "datasets", "research", "docs")
    texts = [
        ROOT / "README.md",
        *(
            path
            for folder in folders
            for kind in ("*.py", "*.md")
            for path in (ROOT / folder).rglob(kind)
        ),
    ]
    named = [str(path) for path in texts if "shared/data" in path.read_text()]
    assert not named


def test_version_is_told_once():
    import gghead

    assert gghead.__version__ == PROJECT["version"]


def test_license_is_apache():
    text = (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text and "Copyright 2026 The gghead authors" in text
    assert PROJECT["license"] == "Apache-2.0"


def test_ci_script_runs_make_test():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111 and "make test" in script.read_text()
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0


def test_portable_runs_say_which_failed_and_end_with_that_status(tmp_path):
    """With a python that fails under AVX2 and says what it was called with."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "portable", tmp_path / ".ci")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(
        '#!/bin/sh\necho "$*"\necho "7 passed in $PYTHONHASHSEED.0s"\n'
        '[ "$ATEN_CPU_CAPABILITY" != avx2 ]\n'
    )
    python.chmod(0o755)
    done = subprocess.run(
        [tmp_path / ".ci" / "portable"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTEST": "tests/test_x.py"},
    )
    assert done.returncode == 1, done.stderr
    table = done.stdout.splitlines()[-4:]
    assert table[0].endswith(" 7 passed in 1.0s") and table[1].endswith("FAILED: 7 passed in 2.0s")
    assert table[2].endswith(" 7 passed in 3.0s") and "rounded otherwise" in table[3]
    assert done.stdout.count("-m pytest -q tests/test_x.py") == 4


def test_make_mends_an_environment_whose_making_was_interrupted(tmp_path):
    """Ctrl-C while `python -m venv` unpacks pip leaves a python without pip, and every further make
    failed there."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    for name in ("Makefile", "requirements.txt", "pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / ".venv"], check=True)
    log = tmp_path / "log"
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\ncase "$*" in *"-m venv"*) echo "$*" >> {log}; exit 1;; esac\n'
        f'exec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    subprocess.run(["make", "venv", f"PYTHON={python}"], cwd=tmp_path, capture_output=True)
    assert log.exists() and log.read_text().split()[-1] == ".venv"
