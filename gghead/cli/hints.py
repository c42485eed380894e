"""What to do next, as command lines that run where the present command was started."""

import os
import shlex
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent  # of a checkout; in an installation no scripts stand there


def command_line(name: str, *options: str) -> str:
    """``command_line("gen_samples", "--latents=my heads")``: a line for the shell.

    A script started as ``python scripts/invert.py`` leads to scripts, an installed ``gghead-invert`` to its likes;
    both with their path where that is needed to find them.
    """
    started = Path(sys.argv[0])
    script = next((path for path in (ROOT / f"{name}.py", ROOT / "scripts" / f"{name}.py") if path.is_file()), None)
    if script is not None and not started.name.startswith("gghead-"):
        words = [_found("python", Path(sys.executable).parent, Path(sys.executable).name), _near(script)]
    else:
        installed = f"gghead-{name.replace('_', '-')}"
        words = [_found(installed, started.parent, installed)]
    return shlex.join([*words, *options])


def _found(name: str, folder: Path, file: str) -> str:
    """``name`` if the shell finds that of ``folder`` by it, else the path of ``file`` there."""
    found = shutil.which(name)
    if found is not None and os.path.dirname(os.path.abspath(found)) == os.path.abspath(folder):
        return name
    return _near(folder / file)


def _near(path: Path) -> str:
    """``path`` from the present folder if it lies below, else the whole path."""
    path = Path(os.path.abspath(path))
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
