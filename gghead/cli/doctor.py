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
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import click

from gghead.torch_utils import cli
from gghead.torch_utils.cli_groups import python
from gghead.torch_utils.cores import cores, processor_name
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.files import cache_dir

if TYPE_CHECKING:
    from torch import Tensor

OK, MISSING, BROKEN = "ok", "--", "!!"
"""It works; something optional is not there; something is not as it must be."""
PACKAGES = {
    "torch": "Nothing can be computed without it.",
    "numpy": "Nothing can be computed without it.",
    "pillow": "No image can be read or written without it.",
    "click": "No command runs without it.",
    "scipy": "Distances between sets of images and some readers need it.",
    "safetensors": "No network can be loaded or saved without it.",
    "tensorboard": "Trainings write their curves with it.",
    "gsplat": "It rasterises on NVIDIA GPUs; without it torch does, many times slower.",
    "ninja": "The C++ rasteriser is built with it; without it torch renders, several times slower.",
}
"""What gghead needs, and what it means where it is missing."""
_ROOT = Path(__file__).resolve().parents[2]
_PREP = (
    "Faces and masks in photos are not found without it; landmarks and masks of yours do as well."
)
_LITTLE = 2 * 2**30  # bytes of a disk that is nearly full
_TOLERANCE = 2e-3  # of a color in [0, 1], between rasterizers


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
        "Rasterisers, with ten Gaussians each": rasterisers,
        "The rasteriser that is taken": choice,
        "Photos and videos": extras,
        "Disk": disk,
    }
    renders = False
    for title, look in sections.items():
        click.echo(f"{title}")
        for finding in look():
            click.echo(finding)
            renders = renders or look is rasterisers and finding.state == OK
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


def pip(*requirements: str) -> str:
    """The command that installs packages for this Python."""
    return shlex.join([python(), "-m", "pip", "install", *requirements])


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
        "It is not needed: the rasteriser was built with the installation."
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


# -------------------------------------------------------------------------------------- rasterizers
def rasterisers() -> Iterator[Finding]:
    """Every backend on every device: it renders ten Gaussians, and torch's image is the truth."""
    torch, fault = try_import("torch")
    rendering, other = try_import("gghead.rendering.registry") if torch else (None, fault)
    if torch is None or rendering is None:
        yield Finding(BROKEN, f"nothing was rendered: {other}")
        return
    truth, _ = draw("torch", "cpu")
    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        for name in rendering.names():
            if device == "cuda" and name == "native":
                continue  # of the processor alone
            try:
                rendering.resolve(name, device)
            except UserError as error:
                yield _unusable(name, device, str(error))
                continue
            image, failure = draw(name, device)
            if image is None:
                yield Finding(BROKEN, f"{name} on {device}: {failure}", *_mend(name))
            elif truth is None:
                yield Finding(OK, f"{name} on {device}: renders; torch does not, to compare with")
            elif (name, device) == ("torch", "cpu"):
                yield Finding(OK, "torch on cpu: renders; the others are compared with it")
            else:
                worst = float((image - truth).abs().max())
                text = f"{name} on {device}: differs from torch by {worst:.1e} at most"
                fine = worst <= _TOLERANCE
                yield Finding(OK, text) if fine else Finding(BROKEN, text, *_mend(name))


def choice() -> Iterator[Finding]:
    """The rasterizer that commands take on this machine, and why."""
    rendering, fault = try_import("gghead.rendering.registry")
    if rendering is None:
        yield Finding(BROKEN, f"none: {fault}")
        return
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        yield Finding(OK, f"on {device}: {rendering.resolve('auto', device)}")
    except UserError as error:
        meaning = "Commands that render end with this sentence."
        yield Finding(BROKEN, str(error), meaning, f"unset {rendering.ENVIRONMENT_VARIABLE}")


def _unusable(name: str, device: str, reason: str) -> Finding:
    if name == "gsplat" and device == "cpu":
        return Finding(MISSING, "gsplat on cpu: it is for NVIDIA GPUs alone")
    return Finding(BROKEN, f"{name} on {device}: {reason}", *_mend(name))


def _mend(name: str) -> tuple[str, str]:
    """What it means that a backend fails, and the command that mends it."""
    if name == "native":
        folder = shlex.join(["rm", "-r", str(cache_dir("torch_extensions"))])
        build, _ = try_import("gghead.torch_utils.ops.native_build")
        no_tool = build is not None and build.find_compiler() is None
        remedy = install_compiler() if no_tool else folder
        return "torch renders instead, several times slower; build it anew.", remedy
    if name == "gsplat":
        return "torch renders instead, many times slower.", pip(
            "--force-reinstall", "--no-deps", "gsplat"
        )
    return "This torch does not work.", pip("--force-reinstall", "torch")


def draw(name: str, device: str) -> "tuple[Tensor | None, str]":
    """Render ten Gaussians with a backend.

    Returns ``(color [3, 32, 32] on the CPU, "")``, or ``(None, why)``.
    """
    import torch

    from gghead.cameras import Cameras
    from gghead.gaussians import Gaussians
    from gghead.rendering import render

    turn = torch.linspace(0, 6, 10)
    head = Gaussians(
        means=0.25 * torch.stack([turn.cos(), turn.sin(), (2 * turn).cos()], dim=-1),
        quats=torch.stack([torch.ones(10), turn.sin(), turn.cos(), turn / 6], dim=-1),
        scales=torch.stack([0.05 + turn / 60, 0.08 - turn / 200, torch.full((10,), 0.06)], dim=-1),
        opacities=0.3 + turn / 10,
        colors=0.5 + 0.5 * torch.stack([turn.sin(), turn.cos(), (3 * turn).sin()], dim=-1),
    )
    try:
        found = render(head.to(device), Cameras.orbit(0.3).to(device), 32, backend=name)
        image = found.color[0, 0].cpu()
    except Exception as error:  # whatever a driver, a library or a compiler throws is the finding
        return None, f"{type(error).__name__}: {error}"
    if found.backend != name:
        return None, f"it failed, and {found.backend} rendered instead"
    if not bool(image.isfinite().all()) or float(image.std()) < 0.01:
        return None, "the image is empty or holds numbers that are not finite"
    return image, ""


# ---------------------------------------------------------------------------------- extras and disk
def extras() -> Iterator[Finding]:
    """MediaPipe and PyAV: loaded, not only installed."""
    yield _extra("MediaPipe", "mediapipe", "mediapipe.python.solutions", _PREP, prep_remedy())
    yield _extra("PyAV", "av", "av", "No .mp4 can be written or read without it.", pip("av"))


def _extra(title: str, package: str, module: str, meaning: str, remedy: str) -> Finding:
    if importlib.util.find_spec(package) is None:
        return Finding(MISSING, f"{title} is not installed", meaning, remedy)
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


def try_import(name: str) -> tuple[ModuleType | None, str]:
    """``(module, "")``, or ``(None, why it does not load)``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name), ""
    except Exception as error:  # a broken package may throw anything
        return None, f"{type(error).__name__}: {error}"


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
            "The C++ rasteriser and downloaded weights cannot be kept.",
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
