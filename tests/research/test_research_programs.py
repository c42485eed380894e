"""What holds for every program in research/: it runs from any folder without an installation, its
help is quick, and wrong options are found before work."""

import os
import subprocess
import sys

import pytest
from helpers.places import ROOT

QUICK = ("compare_avatars", "per_subject_fits", "scaling_curves")  # torch is imported for work only
PROGRAMS = sorted(
    path.stem for path in (ROOT / "research").glob("*.py") if "__main__" in path.read_text()
)
WRONG = {
    "compare_avatars": [
        (["--data=x", "--variants=full,full"], "names a variant twice"),
        (["--data=x", "--plot=x/plot.png"], "cannot be written"),
        (["--data=x", "--plot=plot.txt"], "must end in one of"),
    ],
    "per_subject_fits": [
        (["--scores=x", "--outdir=x/out"], "cannot be written"),
        (["--scores=x", "--steps=0"], "--steps"),
    ],
    "scaling_curves": [
        (["--data=x", "--plot=x/plot.png"], "cannot be written"),
        (["--data=x", "--plot=plot.txt"], "must end in one of"),
    ],
}


@pytest.fixture
def program(tmp_path):
    """Runs a program in a folder with a file x, without this checkout on the path, and with a torch
    that ends whatever imports it."""
    (tmp_path / "x").write_bytes(b"nothing")
    fake = tmp_path / "fake" / "torch"
    fake.mkdir(parents=True)
    (fake / "__init__.py").write_text("raise SystemExit('TORCH')\n")

    def run(name, arguments, torch=False):
        path = {} if torch else {"PYTHONPATH": str(fake.parent)}
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        return subprocess.run(
            [sys.executable, str(ROOT / "research" / f"{name}.py"), *arguments],
            cwd=tmp_path,
            env={**environment, **path, "GGHEAD_PROGRESS": "on"},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def test_every_program_is_explained():
    assert set(QUICK) < set(PROGRAMS)
    text = (ROOT / "research" / "README.md").read_text()
    assert not [name for name in PROGRAMS if f"research/{name}.py" not in text]


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_works_from_any_folder(program, name):
    done = program(name, ["--help"], torch=name not in QUICK)
    assert done.returncode == 0 and "Usage:" in done.stdout, done.stderr


@pytest.mark.parametrize(
    "name, arguments, what", [(name, *case) for name, cases in WRONG.items() for case in cases]
)
def test_wrong_options_are_said_before_torch_is_imported(program, name, arguments, what):
    done = program(name, arguments)
    assert done.returncode and what in done.stderr and "TORCH" not in done.stderr, done.stderr


def test_missing_data_of_the_calibration_are_named(program):
    options = ["--mvheads=.", "--photos=fake", "--dest=new.npz"]
    done = program("calibrate_landmarks", options, torch=True)
    assert done.returncode == 1 and "--mvheads needs mvheads.zip, which does not" in done.stderr


@pytest.mark.parametrize("name", QUICK)
def test_the_first_line_comes_before_anything_heavy(program, name):
    done = program(name, ["--scores=x"] if name == "per_subject_fits" else ["--data=x"])
    lines = done.stderr.splitlines()
    assert lines[0].endswith(" …") and lines[-1] == "TORCH", done.stderr
