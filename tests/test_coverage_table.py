"""What ``make coverage`` says about modules that the tests run little of."""

import os
import subprocess
import sys

import coverage
import pytest
from helpers.coverage_table import REASONS, ROOT, Module, faults, measured, table

HALF = Module("gghead/half.py", 10, 5, "6-10")
WHOLE = Module("gghead/whole.py", 30, 0)


def test_modules_stand_in_the_order_of_their_shares_and_the_sum_last():
    assert table([WHOLE, HALF], {}) == [
        " 50.0 % of   10  gghead/half.py",
        "100.0 % of   30  gghead/whole.py",
        " 87.5 % of 40 lines in all",
    ]


def test_a_low_module_is_a_fault_until_a_reason_is_given():
    (fault,) = faults([WHOLE, HALF], {})
    assert fault.startswith("gghead/half.py: 50.0 % of the lines were run") and "6-10" in fault
    reasons = {HALF.name: "needs a GPU", WHOLE.name: "needs a camera"}
    assert faults([WHOLE, HALF], reasons) == []
    assert table([WHOLE, HALF], reasons)[:2] == [
        " 50.0 % of   10  gghead/half.py  (needs a GPU)",
        "100.0 % of   30  gghead/whole.py",
    ]


def test_a_reason_for_a_module_that_is_gone_is_a_fault():
    (fault,) = faults([WHOLE], {"gghead/gone.py": "needs a GPU"})
    assert fault.startswith("gghead/gone.py: there is no such module")


def test_every_reason_is_for_a_module_that_exists():
    assert [name for name in REASONS if not (ROOT / name).is_file()] == []


def test_lines_that_only_a_child_process_runs_are_counted(tmp_path):
    """Many tests start commands, some in other folders. A patch in pyproject.toml counts them."""
    program = tmp_path / "start.py"
    program.write_text(
        "import subprocess, sys\n"
        "child = 'import gghead.torch_utils.errors'\n"
        "subprocess.run([sys.executable, '-c', child], cwd='/', check=True)\n"
    )
    environment = {name: at for name, at in os.environ.items() if not name.startswith("COV")}
    subprocess.run(
        [sys.executable, "-m", "coverage", "run", f"--data-file={tmp_path / 'data'}", program],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
    )
    combined = coverage.Coverage(data_file=tmp_path / "data")
    combined.combine([str(tmp_path)])
    assert combined.get_data().lines(str(ROOT / "torch_utils" / "errors.py"))
    assert combined.get_data().lines(str(ROOT / "torch_utils" / "files.py")) == []


def test_an_unmeasured_suite_is_told(tmp_path):
    with pytest.raises(coverage.CoverageException):
        measured(str(tmp_path / "none"))
