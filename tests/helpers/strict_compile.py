"""``make lint``: every C++ source once under -Wall -Wextra -Wshadow -Werror; nothing is linked."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT)]

from gghead.rendering.native_backend import LIBRARY  # noqa: E402
from gghead.torch_utils.ops import native_build  # noqa: E402

if __name__ == "__main__":
    compiler = native_build.find_compiler()
    if compiler is None:
        raise SystemExit("There is no C++ compiler to check the C++ with; install g++ or clang++.")
    flags = native_build.compile_flags(compiler, native_build.level())
    command = [compiler, *flags, "-Wshadow", "-Werror", "-fsyntax-only"]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = pool.map(lambda source: subprocess.run([*command, source]), LIBRARY.sources)
        raise SystemExit(any([process.returncode for process in done]))
