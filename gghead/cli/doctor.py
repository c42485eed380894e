"""What works on this machine, what is missing, what that means and what mends it.

This is ``gghead doctor``.
"""

import contextlib
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from gghead.cli.doctor_rendering import choice, rasterizers
from gghead.cli.findings import (
    BROKEN,
    MISSING,
    OK,
    Finding,
    install_compiler,
    pip,
    try_import,
)
from gghead.torch_utils import cli
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.files import cache_dir
from gghead.torch_utils.machine import cores, processor_name

PACKAGES = {
    "torch": "Nothing can be computed without it.",
    "numpy": "Nothing can be computed without it.",
    "pillow": "No image can be read or written without it.",
    "click": "No command runs without it.",
    "scipy": "Distances between sets of images and some readers need it.",
    "safetensors": "No network can be loaded or saved without it.",
    "tensorboard": "Trainings write their curves with it.",
    "gsplat": "It rasterizes on NVIDIA GPUs; without it torch does, many times slower.",
    "ninja": "The C++ rasterizer is built with it; without it torch renders, several times slower.",
}
"""What gghead needs, and what it means where it is missing."""
_ROOT = Path(__file__).resolve().parents[2]
_PREP = (
    "Faces and masks in photos are not found without it; landmarks and masks of yours do as well."
)
_LITTLE = 2 * 2**30  # bytes of a disk that is nearly full


@cli.command(stopped="Nothing was changed.")
def main() -> None:
    """Look at what gghead needs on this machine, and say what to do about what is missing.

    Versions, processor, compiler, the rasterizers (each renders ten Gaussians), MediaPipe, PyAV,
    the disk cache and free disk. "ok" works, "--" is optional and not there, "!!" is at fault. The
    status is 1 only if nothing can render.
    """
    sections = {
        "Versions": versions,
        "Processor": processor,
        "Compiler": compiler,
        "Rasterizers, with ten Gaussians each": rasterizers,
        "The rasterizer that is taken": choice,
        "Photos and videos": extras,
        "Disk": disk,
    }
    renders = False
    for title, look in sections.items():
        click.echo(f"{title}")
        for finding in look():
            click.echo(finding)
            renders = renders or look is rasterizers and finding.state == OK
    if not renders:
        raise UserError("Nothing can render here; the lines with !! above say why.")
    click.echo("Heads can be rendered here.")


# ----------------------------------------------------------------------------------------- versions
def versions() -> Iterator[Finding]:
    """Python, gghead, and each package that it needs."""
    this = f"Python {platform.python_version()} ({sys.executable})"
    yield Finding(OK, this)
    yield Finding(OK, f"gghead {_own_version()} ({_ROOT if in_checkout() else _ROOT / 'gghead'})")
    for name, meaning in PACKAGES.items():
        version = version_of(name)
        if version:
            yield Finding(OK, f"{name} {version}")
        else:
            yield Finding(BROKEN, f"{name} is not installed", meaning, pip(name))
    chosen = sorted(name for name in os.environ if name.startswith(("GGHEAD_", "OMP_")))
    if chosen:
        yield Finding(OK, "set: " + ", ".join(f"{name}={os.environ[name]}" for name in chosen))


def _own_version() -> str:
    import gghead

    return gghead.__version__


def in_checkout() -> bool:
    """Whether this gghead stands in a checkout."""
    return (_ROOT / "train.py").is_file()


def version_of(package: str) -> str | None:
    """The installed version of a package; None where it is not installed."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return None


# --------------------------------------------------------------------------- processor and compiler
def processor() -> Iterator[Finding]:
    """The processor, its vector instructions and threads; the GPU."""
    yield Finding(OK, f"{processor_name()}, {cores()} of {os.cpu_count()} cores for this process")
    torch, fault = try_import("torch")
    if torch is None:
        yield Finding(BROKEN, f"torch does not load: {fault}", PACKAGES["torch"], pip("torch"))
        return
    simd = torch.backends.cpu.get_cpu_capability()
    yield Finding(
        OK, f"vector instructions: {simd}; torch computes with {torch.get_num_threads()} threads"
    )
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            size = f"{properties.total_memory / 2**30:.0f} GiB"
            yield Finding(OK, f"GPU {index}: {properties.name}, {size}, CUDA {torch.version.cuda}")
    elif shutil.which("nvidia-smi"):
        yield Finding(
            BROKEN,
            f"an NVIDIA driver is there, but torch {torch.__version__} sees no GPU",
            "Everything is computed on the processor. Take a torch built for CUDA.",
            pip("--upgrade", "torch", "--index-url", "https://download.pytorch.org/whl/cu130"),
        )
    else:
        yield Finding(MISSING, "no NVIDIA GPU; everything is computed on the processor")


def compiler() -> Iterator[Finding]:
    """The C++ compiler and ninja, which build the native rasterizer."""
    build, fault = try_import("gghead.torch_utils.ops.native_build")
    if build is None:
        yield Finding(BROKEN, f"not looked for: {fault}")
        return
    needless = native_is_built(build)
    meaning = (
        "It is not needed: the rasterizer was built with the installation."
        if needless
        else "Heads on the processor are rendered by torch, several times slower."
    )
    found = build.find_compiler()
    if found:
        yield Finding(OK, f"{found}: {first_line([found, '--version'])}")
    else:
        yield Finding(
            MISSING if needless else BROKEN, "no C++ compiler", meaning, install_compiler()
        )
    ninja = build.find_ninja()
    if ninja:
        yield Finding(OK, f"ninja {first_line([ninja, '--version'])} ({ninja})")
    else:
        yield Finding(MISSING if needless else BROKEN, "no ninja", meaning, pip("ninja"))


def native_is_built(build) -> bool:
    """Whether the native rasterizer came with the installation."""
    from gghead.rendering.native_backend import LIBRARY

    return build.prebuilt_path(LIBRARY).is_file()


def first_line(command: list[str]) -> str:
    """The first line that a program says; why not, where it does not run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"does not run ({error})"
    return next(iter((done.stdout or done.stderr).splitlines()), "says nothing")


# ---------------------------------------------------------------------------------- extras and disk
def extras() -> Iterator[Finding]:
    """MediaPipe, which is optional, and PyAV: loaded, not only installed."""
    yield _extra("MediaPipe", "mediapipe", "mediapipe.python.solutions", _PREP, prep_remedy())
    meaning = "No .mp4 can be written or read without it."
    yield _extra("PyAV", "av", "av", meaning, pip("av"), missing=BROKEN)


def _extra(
    title: str, package: str, module: str, meaning: str, remedy: str, missing: str = MISSING
) -> Finding:
    if importlib.util.find_spec(package) is None:
        return Finding(missing, f"{title} is not installed", meaning, remedy)
    found, fault = try_import(module)
    if found is None:
        return Finding(BROKEN, f"{title} does not load: {fault}", meaning, remedy)
    return Finding(OK, f"{title} {version_of(package) or ''}".rstrip())


def prep_remedy() -> str:
    """The command that installs MediaPipe."""
    if sys.version_info >= (3, 13):
        return "python3.12 -m venv .venv  # MediaPipe has no package for this Python"
    if not in_checkout():
        return pip("gghead[prep]")
    if Path(sys.prefix) == _ROOT / ".venv":
        return f"make -C {shlex.join([str(_ROOT)])} prep"
    return pip("--no-deps", "-r", str(_ROOT / "requirements-prep.txt"))


def disk() -> Iterator[Finding]:
    """The cache: where, how large; free disk there and in this folder."""
    cache = cache_dir("")
    size, count = folder_size(cache)
    state = "not there yet" if not cache.is_dir() else f"{count} files, {size / 2**20:.0f} MiB"
    try:
        cli.check_writable(cache, "XDG_CACHE_HOME", folder=True)
        yield Finding(OK, f"cache {cache}: {state}")
    except UserError as error:
        yield Finding(
            BROKEN,
            f"cache {cache}: {error}",
            "The C++ rasterizer and downloaded weights cannot be kept.",
            "export XDG_CACHE_HOME=$HOME/gghead-cache",
        )
    for title, place in (("the cache's disk", cache), ("this folder's disk", Path.cwd())):
        while not place.exists():
            place = place.parent
        free = shutil.disk_usage(place).free
        text = f"{title}: {free / 2**30:.1f} GiB free"
        if free >= _LITTLE:
            yield Finding(OK, text)
        else:
            yield Finding(
                BROKEN,
                text,
                "A training writes some hundred MiB of states; the cache can be removed.",
                shlex.join(["rm", "-r", str(cache)]),
            )


def folder_size(folder: Path) -> tuple[int, int]:
    """Bytes and number of the files below a folder; 0 where there is none."""
    size = count = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # removed meanwhile
                size += os.lstat(os.path.join(place, name)).st_size
                count += 1
    return size, count
