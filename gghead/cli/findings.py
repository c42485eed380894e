"""What ``gghead doctor`` says of one thing, and the commands that mend it."""

import importlib
import shlex
import shutil
import sys
import warnings
from dataclasses import dataclass
from types import ModuleType

from gghead.torch_utils.cli_groups import python

OK, MISSING, BROKEN = "ok", "--", "!!"
"""It works; something optional is not there; something is not as it must be."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    state: str
    text: str
    meaning: str = ""
    """What it means that this is missing or broken: a sentence."""
    remedy: str = ""
    """The command that mends it."""

    def __str__(self) -> str:
        lines = [f"  {self.state}  {self.text}"]
        lines += [f"        {self.meaning}"] if self.meaning else []
        lines += [f"        $ {self.remedy}"] if self.remedy else []
        return "\n".join(lines)


def pip(*requirements: str) -> str:
    """The command that installs packages for this Python."""
    return shlex.join([python(), "-m", "pip", "install", *requirements])


def install_compiler() -> str:
    """The command that installs a C++ compiler on this system."""
    ways = {
        "apt-get": "sudo apt-get install g++",
        "dnf": "sudo dnf install gcc-c++",
        "pacman": "sudo pacman -S gcc",
        "zypper": "sudo zypper install gcc-c++",
        "apk": "sudo apk add g++",
    }
    if sys.platform == "darwin":
        return "xcode-select --install"
    return next((way for tool, way in ways.items() if shutil.which(tool)), ways["apt-get"])


def try_import(name: str) -> tuple[ModuleType | None, str]:
    """``(module, "")``, or ``(None, why it does not load)``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name), ""
    except Exception as error:  # a broken package may throw anything
        return None, f"{type(error).__name__}: {error}"
