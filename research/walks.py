"""Which modules of the project a command walks through, and how often it climbs back up.

``python research/walks.py --until=discriminator_loss train.py --data=heads.zip --kimg=0.1`` runs
the script as the shell would, in the checkout of the present folder, and prints the modules in the
order in which their functions were first called, on all threads. Importing a module is no call. A
module is *entered again* by every function of another module that calls into it, but the first; a
loop counts once. A *climb* is a pair of modules of which the lower calls the higher, by the layers
of tests/test_imports.py.
"""

import ast
import inspect
import os
import runpy
import sys
import threading
from collections import Counter
from pathlib import Path

import click

RULES = Path(__file__).resolve().parents[1] / "tests" / "test_imports.py"
PACKAGES = ("gghead", "torch_utils", "training")


class Walk:
    """A profile function for all threads: who called into which module, and what there."""

    def __init__(self, root: Path, until: str | None) -> None:
        self.root, self.until, self.running = root, until, True
        self.entries: dict[tuple[tuple[str, str] | None, str], str] = {}  # in order
        self._names: dict[str, str] = {}
        self._threads = threading.local()

    def module(self, file: str) -> str:
        """``gghead/data/files``; empty for what is not the project's."""
        if file not in self._names:
            real = os.path.relpath(os.path.realpath(file), self.root).removesuffix(".py")
            ours = real.split("/")[0] in PACKAGES
            self._names[file] = real.removesuffix("/__init__") if ours else ""
        return self._names[file]

    def __call__(self, frame, event: str, _: object) -> None:
        code = frame.f_code
        module = self.module(code.co_filename) if event in ("call", "return") else ""
        if not module:
            return
        stack: list[tuple[str, str] | None] = self._threads.__dict__.setdefault("stack", [])
        if event == "return":
            if stack:
                stack.pop()
            self.running = self.running and self.until not in (code.co_name, code.co_qualname)
        elif None in stack[-1:] or not code.co_flags & inspect.CO_OPTIMIZED:
            stack.append(None)  # the body of a module or a class, and what runs because of one
        else:
            above = stack[-1] if stack else None
            stack.append((module, code.co_qualname))
            if self.running and (above is None or above[0] != module):
                self.entries.setdefault((above, module), code.co_qualname)


def height(module: str, layers: tuple[tuple[str, ...], ...]) -> int:
    """The layer of a module; that of plain modules where no layer names it."""
    first, second = (module.split("/") + [""])[:2]
    rooms = [f"{first}.{second}", (second or first) if first == "gghead" else first]
    if module.endswith(("/cli", "_cli")) and first != "torch_utils":  # commands, in older checkouts
        rooms = ["cli"]
    return next((n for room in rooms for n, layer in enumerate(layers) if room in layer), 1)


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--until", metavar="NAME", help="Record until a function of this name has returned.")
@click.argument("script", type=click.Path(exists=True, dir_okay=False))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def main(until: str | None, script: str, arguments: tuple[str, ...]) -> None:
    """Run SCRIPT with ARGUMENTS, and print the modules that it walks through."""
    walk = Walk(Path.cwd().resolve(), until)
    sys.argv[:] = [script, *arguments]
    sys.path.insert(0, str(Path(script).resolve().parent))
    threading.setprofile(walk)
    sys.setprofile(walk)
    try:
        runpy.run_path(script, run_name="__main__")
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
        report(walk)


def report(walk: Walk) -> None:
    """Print the modules of a walk in order, its climbs, and the sums."""
    source = RULES.read_text(encoding="utf-8")
    (layers,) = (
        eval(ast.unparse(node.value), {"FRONT_DOOR": "gghead"})
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "LAYERS"
    )
    counts = Counter(module for _, module in walk.entries)
    first = {module: above for (above, module) in reversed(walk.entries)}
    for number, (module, count) in enumerate(counts.items(), 1):
        caller = ":".join(first[module] or ("the script",))
        print(f"{number:3}  {module:36} {count - 1:2} times again, first by {caller}")
    climbs = {}
    for (above, module), name in walk.entries.items():
        if above is not None and height(module, layers) > height(above[0], layers):
            climbs.setdefault((above[0], module), f"{above[0]}:{above[1]} -> {module}:{name}")
    for line in climbs.values():
        print("climb", line)
    again = counts.total() - len(counts)
    print(f"{len(counts)} modules, {len(climbs)} climbs, {again} times entered again")


if __name__ == "__main__":
    main()
