"""Builds C++ operator libraries, one per SIMD level.

They are built on first use or ahead of time (``python setup.py build_ext``).

Which level runs is decided when a library is loaded, by what torch says about the processor, so
that code built on one machine runs on another. A library is named after everything that decides its
machine code. It is built in a folder of its own and moved into place when finished, under a lock
between processes; later processes only load it, if it is as it was written: a library that was cut
off would end the process when it is used.
"""

import contextlib
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from gghead.torch_utils.files import cache_dir
from gghead.torch_utils.progress import Progress

FLAGS = (
    "-O3",
    "-std=c++20",
    "-fPIC",
    "-fvisibility=hidden",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-Wall",
    "-Wextra",
)
"""NaN and infinity keep their meaning (no -ffast-math). torch's headers are system headers, which
are not warned of; ``make lint`` makes errors of warnings."""
LINK_FLAGS: tuple[str, ...] = ()
"""For the linker, in addition to torch's libraries."""
OPENMP = "-fopenmp"
"""Used where the compiler knows it: it only marks the loops of at::parallel_for, whose runtime is
torch's own."""
_X86_LEVELS = {
    "avx512": (
        "-mavx512f",
        "-mavx512bw",
        "-mavx512dq",
        "-mavx512vl",
        "-mavx2",
        "-mfma",
        "-mbmi2",
        "-mprefer-vector-width=512",
    ),
    "avx2": ("-mavx2", "-mfma", "-mbmi2"),
    "plain": (),
}
PREBUILT = Path(__file__).parent / "prebuilt"
"""Where ``setup.py build_ext`` leaves its libraries."""
_WAITING_WORD = 30.0  # seconds from one sentence of a process that waits for a lock to the next


class BuildError(RuntimeError):
    """The compiler or ninja failed; the message holds the last lines of their output."""


@dataclass(frozen=True)
class Library:
    """A library of torch operators and the files it is made of."""

    name: str
    sources: tuple[Path, ...]
    headers: tuple[Path, ...] = ()


def levels() -> dict[str, tuple[str, ...]]:
    """SIMD levels of this kind of processor, best first, with their compiler flags.

    ARM's 64-bit processors always have NEON, so there is one level only.
    """
    machine = platform.machine().lower()
    if machine in ("x86_64", "amd64"):
        return _X86_LEVELS
    return {"neon" if machine in ("arm64", "aarch64") else "plain": ()}


def level() -> str:
    """The level to load.

    It is what torch found the processor to have, or was told by ATEN_CPU_CAPABILITY to use.
    """
    wanted = torch.backends.cpu.get_cpu_capability().lower()
    return wanted if wanted in levels() else list(levels())[-1]


def _search_path() -> str:
    """PATH with the interpreter's own folder.

    pip puts ninja there even if the environment is not activated.
    """
    return os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])


def find_compiler() -> str | None:
    """The C++ compiler: ``$CXX``, or else c++, g++ or clang++ on PATH; None where there is none."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    return next(
        (found for name in names if (found := shutil.which(name, path=_search_path()))), None
    )


def find_ninja() -> str | None:
    """ninja's path; None where there is none."""
    return shutil.which("ninja", path=_search_path())


def available(library: Library) -> tuple[bool, str]:
    """Whether ``library`` can be had here, and the reason in a few words; builds nothing."""
    if os.name != "posix":
        return False, "built on Linux and macOS only"
    if _intact(prebuilt_path(library)):
        return True, f"{level()}, built with the installation"
    missing = _missing_tool()
    return (
        (False, missing)
        if missing
        else (True, f"{level()}, C++ compiler {os.path.basename(find_compiler() or '')}")
    )


def _missing_tool() -> str:
    """What a build here would lack, with the remedy; empty if nothing."""
    if find_compiler() is None:
        return "no C++ compiler; install g++ or clang++, or set CXX"
    return "" if find_ninja() else "no ninja; pip install ninja"


def _digest(library: Library, level_name: str, *more: str) -> str:
    digest = hashlib.sha256()
    flags = (*FLAGS, *LINK_FLAGS, *levels()[level_name])
    for part in (*flags, torch.__version__, sys.platform, platform.machine(), *more):
        digest.update(part.encode() + b"\0")
    for path in (*library.sources, *library.headers):
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()[:20]


def prebuilt_path(library: Library, level_name: str | None = None) -> Path:
    """Where ``setup.py build_ext`` puts the library for this torch.

    The name changes with the sources.
    """
    level_name = level_name or level()
    return PREBUILT / f"{library.name}_{level_name}_{_digest(library, level_name)}.so"


def cached_path(library: Library) -> Path:
    """Where a library for this compiler, torch and SIMD level lives, built or not.

    It is built on first use.
    """
    compiler = find_compiler()
    if compiler is None:
        raise BuildError(_missing_tool())
    version = subprocess.run(
        [compiler, "--version"], capture_output=True, text=True, check=False
    ).stdout
    name = f"{library.name}_{level()}_{_digest(library, level(), compiler, version)}.so"
    return cache_dir("torch_extensions") / name


def _digest_path(target: Path) -> Path:
    """Where the SHA-256 of a finished library stands."""
    return target.with_name(target.name + ".sha256")


def _intact(target: Path) -> bool:
    """Whether a library is there and still what was written."""
    try:
        return hashlib.sha256(target.read_bytes()).hexdigest() == _digest_path(target).read_text(
            encoding="ascii"
        )
    except (OSError, UnicodeDecodeError):
        return False


@contextlib.contextmanager
def hold_lock(path: Path, work: str) -> Iterator[None]:
    """Hold an exclusive lock between processes; the system lets go of it when a process dies.

    Who has to wait says so now and then, with the number of the process that is at ``work``
    ("builds ...").
    """
    import fcntl

    with open(path, "a+", encoding="ascii") as file:
        said = -_WAITING_WORD
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() - said >= _WAITING_WORD:
                    said = time.monotonic()
                    file.seek(0)
                    print(
                        f"gghead: waiting for process {file.read() or '?'}, which {work}; end it if"
                        " it hangs ...",
                        file=sys.stderr,
                        flush=True,
                    )
                time.sleep(0.1)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _accepts(compiler: str, flag: str) -> bool:
    command = [compiler, flag, "-x", "c++", "-E", "-", "-o", os.devnull]
    return subprocess.run(command, input=b"", capture_output=True, check=False).returncode == 0


def compile_flags(compiler: str, level_name: str) -> list[str]:
    """The flags that our sources are compiled with, torch's headers included."""
    root = Path(torch.__file__).parent
    includes = [root / "include", root / "include" / "torch" / "csrc" / "api" / "include"]
    return [
        *FLAGS,
        *levels()[level_name],
        f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
        *(argument for path in includes for argument in ("-isystem", str(path))),
        *([OPENMP] if _accepts(compiler, OPENMP) else []),
    ]


def _ninja_file(library: Library, target: Path, compiler: str, level_name: str) -> str:
    """The text of the build: one object per source, one shared library.

    The library takes torch from the running process.
    """
    root = Path(torch.__file__).parent
    flags = [f'"{flag}"' for flag in compile_flags(compiler, level_name)]
    link = ["-shared", *LINK_FLAGS, f'-L"{root / "lib"}"', "-lc10", "-ltorch_cpu", "-ltorch"]
    link += ["-undefined dynamic_lookup"] * (sys.platform == "darwin")

    def escape(path: Path) -> str:
        return str(path).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")

    objects = {source.with_suffix(".o").name: source for source in library.sources}
    lines = [
        "rule compile",
        f'  command = "{compiler}" {" ".join(flags)} -c $in -o $out',
        "rule link",
        f'  command = "{compiler}" $in {" ".join(link)} -o $out',
        *(f"build {name}: compile {escape(source)}" for name, source in objects.items()),
        f"build {escape(target)}: link {' '.join(objects)}",
    ]
    return "\n".join(lines) + "\n"


def build(library: Library, target: Path, level_name: str) -> None:
    """Compile ``library`` for one level into the file ``target``.

    Nothing is left behind if that fails.
    """
    compiler, ninja = find_compiler(), find_ninja()
    if compiler is None or ninja is None:
        raise BuildError(_missing_tool())
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = target.with_suffix(".build")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    built = folder.resolve() / target.name
    (folder / "build.ninja").write_text(_ninja_file(library, built, compiler, level_name))
    done = subprocess.run([ninja], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        shutil.rmtree(folder, ignore_errors=True)
        raise BuildError(" | ".join((done.stdout + done.stderr).strip().splitlines()[-8:]))
    digest = built.with_suffix(".sha256")
    digest.write_text(hashlib.sha256(built.read_bytes()).hexdigest(), encoding="ascii")
    os.replace(digest, _digest_path(target))
    os.replace(built, target)
    shutil.rmtree(folder, ignore_errors=True)


def build_ahead(library: Library, wanted: Sequence[str] | None = None) -> list[Path]:
    """Build the wanted levels, or all of this kind of processor, into the package.

    Return their files.
    """
    shutil.rmtree(PREBUILT, ignore_errors=True)
    targets = {name: prebuilt_path(library, name) for name in wanted or levels()}
    for name, target in targets.items():
        build(library, target, name)
    return list(targets.values())


def load(library: Library, seconds: int = 30) -> None:
    """Load the operators of ``library`` into torch, building it first if no process has yet.

    Raises ``BuildError`` if it cannot be built or loaded. ``seconds`` is what the message says a
    build takes.
    """
    works, reason = available(library)
    if not works:
        raise BuildError(reason)
    prebuilt = prebuilt_path(library)
    if _intact(prebuilt):
        # Built elsewhere it may ask for another C library; then this machine builds its own.
        with contextlib.suppress(OSError):
            torch.ops.load_library(str(prebuilt))
            return
    elif prebuilt.exists():
        print(
            f"gghead: {prebuilt} is damaged, so it is not used; install gghead again to mend it.",
            file=sys.stderr,
        )
    try:
        target = cached_path(library)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not _intact(target):
            with hold_lock(target.with_suffix(".lock"), f"builds {library.name}"):
                if not _intact(target):
                    if target.exists():
                        print(
                            f"gghead: {target} is damaged, so it is built anew.",
                            file=sys.stderr,
                            flush=True,
                        )
                    with Progress(
                        f"Building {library.name} for {level()} (once, about {seconds} s)",
                        at_once=True,
                    ):
                        build(library, target, level())
        torch.ops.load_library(str(target))
    except OSError as error:
        raise BuildError(f"{type(error).__name__}: {error}") from error
