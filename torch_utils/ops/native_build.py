"""Builds a C++ operator library on first use and keeps it for all later processes.

A library is named after everything that decides its machine code: sources and headers, flags, torch, compiler and the
processor's features. It is built in a folder of its own and moved into place when finished, under a lock between
processes.
"""

import contextlib
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from torch_utils.files import cache_dir

BASE_FLAGS = ("-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-w")
"""NaN and infinity keep their meaning (no -ffast-math); warnings of torch's headers are of no use to the user."""
OPTIONAL_FLAGS = ("-march=native", "-fopenmp")
"""Used where the compiler knows them; OpenMP only marks the loops of at::parallel_for, whose runtime is torch's own."""


class BuildError(RuntimeError):
    """The compiler or ninja failed; the message holds the last lines of their output."""


def _search_path() -> str:
    """PATH with the interpreter's own folder, where pip puts ninja even if the environment is not activated."""
    return os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])


def find_compiler() -> str | None:
    """The C++ compiler: ``$CXX``, or else c++, g++ or clang++ on PATH; None where there is none."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    return next((found for name in names if (found := shutil.which(name, path=_search_path()))), None)


def toolchain() -> tuple[bool, str]:
    """Whether compiler and ninja are there, and the reason in a few words; builds nothing."""
    if os.name != "posix":
        return False, "built on Linux and macOS only"
    compiler = find_compiler()
    if compiler is None:
        return False, "no C++ compiler; install g++ or clang++, or set CXX"
    if shutil.which("ninja", path=_search_path()) is None:
        return False, "no ninja; pip install ninja"
    return True, f"C++ compiler {os.path.basename(compiler)}"


@functools.cache
def compile_flags(compiler: str) -> tuple[str, ...]:
    """The flags for ``compiler``: the base flags and those of the optional ones that it accepts."""

    def accepted(flag: str) -> bool:
        command = [compiler, *flag.split(), "-x", "c++", "-E", "-", "-o", os.devnull]
        return subprocess.run(command, input=b"", capture_output=True, check=False).returncode == 0

    return (*BASE_FLAGS, *(flag for flag in OPTIONAL_FLAGS if accepted(flag)))


def _processor() -> str:
    """What -march=native depends on."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return "\n".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))
    return f"{platform.machine()} {platform.processor()}"


def library_path(name: str, sources: Sequence[Path], headers: Sequence[Path] = ()) -> Path:
    """Where the library of these sources lives for this compiler, torch and processor, built or not."""
    compiler = find_compiler()
    if compiler is None:
        raise BuildError(toolchain()[1])
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout
    digest = hashlib.sha256()
    for part in (*compile_flags(compiler), torch.__version__, sys.platform, compiler, version, _processor()):
        digest.update(part.encode() + b"\0")
    for path in (*sources, *headers):
        digest.update(path.read_bytes() + b"\0")
    return cache_dir("torch_extensions") / f"{name}_{digest.hexdigest()[:20]}.so"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds an exclusive lock between processes; the system lets go of it when a process dies."""
    import fcntl

    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _build_environment(compiler: str) -> Iterator[None]:
    """PATH and CXX as torch's extension builder reads them, restored afterwards."""
    before = {key: os.environ.get(key) for key in ("PATH", "CXX")}
    os.environ.update(PATH=_search_path(), CXX=compiler)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


def _build(name: str, sources: Sequence[Path], folder: Path, compiler: str) -> Path:
    """Run ninja in ``folder`` and return the library; importing the builder costs a second, so it stands in here."""
    from torch.utils import cpp_extension

    with _build_environment(compiler):
        files = [str(path) for path in sources]
        flags = list(compile_flags(compiler))
        cpp_extension.load(name, files, extra_cflags=flags, build_directory=str(folder), is_python_module=False)
    return folder / f"{name}.so"


def load_library(name: str, sources: Sequence[Path], headers: Sequence[Path] = (), seconds: int = 30) -> None:
    """Load the operators of ``sources`` into torch, building the library first if no process has yet.

    Raises ``BuildError`` if it cannot be built or loaded. ``seconds`` is what the message says a build takes.
    """
    works, reason = toolchain()
    compiler = find_compiler()
    if not works or compiler is None:
        raise BuildError(reason)
    try:
        target = library_path(name, sources, headers)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            with _locked(target.with_suffix(".lock")):
                if not target.exists():
                    print(f"gghead: building {name} (once, about {seconds} s) ...", file=sys.stderr, flush=True)
                    folder = target.with_suffix(".build")
                    shutil.rmtree(folder, ignore_errors=True)
                    folder.mkdir()
                    os.replace(_build(name, sources, folder, compiler), target)
                    shutil.rmtree(folder, ignore_errors=True)
                    return
        torch.ops.load_library(str(target))
    except (RuntimeError, OSError) as error:
        tail = " | ".join(str(error).strip().splitlines()[-8:])
        raise BuildError(f"{type(error).__name__}: {tail}") from error
