"""Commands that are run under a line that moves."""

import os
import subprocess
import sys

from helpers.places import ROOT


def quietly(code: str) -> subprocess.CompletedProcess:
    command = [
        sys.executable,
        "-m",
        "gghead.torch_utils.run_quietly",
        "Installing much",
        sys.executable,
        "-c",
        code,
    ]
    settings = {**os.environ, "GGHEAD_PROGRESS": "0.2"}
    return subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True)


def test_a_line_moves_while_the_command_is_silent_and_its_chatter_is_not_shown():
    done = quietly("import sys, time; print('WARNING: harmless', file=sys.stderr); time.sleep(2)")
    assert done.returncode == 0 and "harmless" not in done.stdout + done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) >= 3 and all(line.startswith("Installing much") for line in lines), lines
    assert "done in" in lines[-1]


def test_what_a_command_said_is_shown_when_it_fails_and_its_status_kept():
    done = quietly("import sys; print('half done'); sys.exit('ERROR: no space left')")
    assert done.returncode == 1
    assert (
        "half done" in done.stderr
        and "ERROR: no space left" in done.stderr
        and "status 1" in done.stderr
    )


def test_it_needs_nothing_but_python():
    code = (
        "import sys, gghead.torch_utils.run_quietly\n"
        "print({name.split('.')[0] for name in sys.modules} & {'torch', 'numpy', 'click', 'PIL'})"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout == "set()\n", done.stderr
