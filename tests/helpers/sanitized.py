"""``make test-asan``: the C++ operators with random bits under AddressSanitizer and
UndefinedBehaviorSanitizer.

For every SIMD level that this processor has, the library is compiled with the sanitizers and driven
in a process of its own, whose first library is their runtime, as Python itself knows nothing of
them.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from gghead.torch_utils.ops import native_build  # noqa: E402

ROUNDS = 400
FLAGS = (
    "-fsanitize=address,undefined,float-cast-overflow,bounds-strict",
    "-fno-sanitize=vptr",
    "-fno-sanitize-recover=all",
)


def runtimes() -> str:
    """The compiler's sanitizer libraries, in the order in which they have to be loaded."""
    compiler = native_build.find_compiler()
    if compiler is None:
        raise SystemExit("There is no C++ compiler; install g++.")
    found = [
        subprocess.run(
            [compiler, f"-print-file-name={name}.so"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in ("libasan", "libubsan")
    ]
    if not all(os.path.isabs(path) for path in found):
        raise SystemExit(
            f"{compiler} has no shared libasan and libubsan; install g++ and set CXX=g++."
        )
    return ":".join(found)


def drive() -> None:
    """In the process with the runtimes: build for its level, and call the operators again and
    again."""
    native_build.FLAGS = (
        "-O1",
        "-g",
        *native_build.FLAGS[1:],
        "-DSPLAT_SANITIZED",
        "-D_GLIBCXX_ASSERTIONS",
        *FLAGS,
    )
    native_build.LINK_FLAGS = FLAGS
    from helpers.random_bits import run_operators

    from gghead.rendering import native_backend

    preload = os.environ.pop("LD_PRELOAD")  # not for the compiler
    native_build.load(native_backend.LIBRARY, seconds=90)
    os.environ["LD_PRELOAD"] = preload
    for seed in range(ROUNDS):
        run_operators(seed)
    print(f"{native_build.level()}: {ROUNDS} rounds of random bits, nothing found", flush=True)


def main() -> None:
    """Drive every level of this processor; the exit status is 1 if a sanitizer found anything."""
    names = list(native_build.levels())
    environment = {
        **os.environ,
        "LD_PRELOAD": runtimes(),
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "ASAN_OPTIONS": "detect_leaks=0:detect_container_overflow=0",
    }
    failed = False
    for name in names[names.index(native_build.level()) :]:
        environment["ATEN_CPU_CAPABILITY"] = {"plain": "default"}.get(name, name)
        failed |= (
            subprocess.run(
                [sys.executable, __file__, "drive"], env=environment, check=False
            ).returncode
            != 0
        )
    raise SystemExit(int(failed))


if __name__ == "__main__":
    drive() if sys.argv[1:] == ["drive"] else main()
