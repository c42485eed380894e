"""Which package may import which, and what `import gghead` may cost. Reads the sources; of our code
it runs only the table of commands."""

import ast
import functools
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.places import ROOT

from gghead.cli.main import main
from gghead.torch_utils.cli_groups import LazyGroup

PACKAGES = ("torch_utils", "gghead", "training")
RECIPES = ("datasets", "scripts", "research", "tests")
FORBIDDEN = {  # a package -> the packages of ours that it may not import
    "torch_utils": {"gghead", "training"},
    "gghead": {"training"},
    "training": set(),
}
FRONT_DOOR = "gghead"  # `import gghead` itself names everything, so only commands go through it
LAYERS = (  # the lowest first
    ("torch_utils",),
    (
        "cameras",
        "figures",
        "finite",
        "gaussians",
        "image_loss_config",
        "image_metrics",
        "latent_stages",
        "ply",
        "rotations",
        "sh",
        "video",
    ),
    ("data", "networks", "perceptual", "rendering", "snapshot_files", "template"),
    ("checkpoints", "latent", "models"),
    ("animation", "editing", "inversion", "reconstruction", "sampling"),
    ("training",),
    (FRONT_DOOR,),
    ("__main__", "cli", "training.benchmarks", "training.cli"),
)
STRANGERS = {"torch_utils", "training"}  # bare names: another project's packages may stand there
LAZY = ("gsplat", "viser", "tensorboard", "scipy", "av", "mediapipe", "huggingface_hub")
BUDGET = 0.2  # seconds of processor time that gghead may add to torch's own import


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@functools.cache
def imports_in(path: Path) -> tuple[ast.Import | ast.ImportFrom, ...]:
    """All of them, also inside functions."""
    return tuple(
        node for node in ast.walk(tree(path)) if isinstance(node, ast.Import | ast.ImportFrom)
    )


def imported(path: Path) -> list[tuple[int, str]]:
    """Every imported module with its line, also inside functions; relative imports stay in their
    package."""
    found = []
    for node in imports_in(path):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.append((node.lineno, node.module))
    return found


def owner(name: str) -> str:
    """The folder at the top level that holds a module: ``gghead.training.gan.run`` -> training."""
    first, *rest = name.split(".")
    return rest[0] if first == "gghead" and rest and rest[0] in PACKAGES else first


def offences(paths: list[Path], forbidden: set[str]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in paths
        for line, name in imported(path)
        if owner(name) in forbidden
    ]


def test_nothing_imports_the_bare_names_that_other_projects_use_too():
    everything = [*sources(*PACKAGES, *RECIPES), *ROOT.glob("*.py")]
    bare = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in everything
        for line, name in imported(path)
        if name.split(".")[0] in STRANGERS
    ]
    assert not bare, "write gghead.torch_utils and gghead.training"


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package):
    assert sources(package)
    assert not offences(sources(package), FORBIDDEN[package])


def test_no_module_imports_itself_through_others():
    """Circles, also those through imports inside functions and for type checkers."""
    reached = {name: set(found) for name, found in module_graph().items()}
    changed = True
    while changed:  # the transitive closure
        changed = False
        for found in reached.values():
            more = set().union(*(reached[other] for other in found)) - found
            found |= more
            changed = changed or bool(more)
    assert not [name for name, found in reached.items() if name in found]


def module_graph() -> dict[str, set[str]]:
    """Module -> the modules of ours that it imports."""
    paths = {}
    for path in sources(*PACKAGES):
        if path.is_relative_to(ROOT / "gghead" / "training"):  # the links
            continue
        if path.is_relative_to(ROOT / "gghead" / "torch_utils"):
            continue
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        paths[name if name.startswith("gghead") else f"gghead.{name}"] = path
    return {name: named(path, paths) - {name} for name, path in paths.items()}


def room(module: str) -> str:
    """``gghead.models.avatar`` -> models, ``gghead.training.cli.train_gan`` -> training.cli."""
    parts = module.split(".")
    if parts[1:2] == ["training"] and parts[2:3] in (["cli"], ["benchmarks"]):
        return ".".join(parts[1:3])
    return parts[1] if len(parts) > 1 else FRONT_DOOR


def test_rooms_import_only_rooms_of_their_own_layer_or_below():
    height = {name: level for level, layer in enumerate(LAYERS) for name in layer}
    graph = module_graph()
    assert {room(module) for module in graph} == height.keys(), "say in LAYERS who may import whom"
    upward = [
        f"{module} imports {other}"
        for module, others in graph.items()
        for other in sorted(others)
        if height[room(other)] > height[room(module)]
    ]
    assert not upward


def named(path: Path, known: dict[str, Path]) -> set[str]:
    """The known modules that a file imports; ``from package import module`` is the module."""
    found = set()
    for node in imports_in(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in known else node.module)
    return found & known.keys()


def test_recipes_are_never_imported():
    everything = [*sources(*PACKAGES, *RECIPES), *ROOT.glob("*.py")]
    assert not offences(everything, {"datasets", "scripts"})


def test_only_tests_import_what_research_has():
    studies = {path.stem for path in (ROOT / "research").glob("*.py")}
    product = [*sources(*PACKAGES, "datasets", "scripts"), *ROOT.glob("*.py")]
    assert studies and not offences(product, studies)


@pytest.mark.parametrize("folder", RECIPES)
def test_recipes_are_no_packages(folder):
    assert not list((ROOT / folder).rglob("__init__.py")), (
        f"{folder} would shadow other people's packages"
    )


def test_packages_are_packages():
    bare = {
        path.parent for path in sources(*PACKAGES) if not (path.parent / "__init__.py").exists()
    }
    assert not bare, "without an __init__.py these are left out of the wheel"


def command_modules(group: LazyGroup = main) -> set[str]:
    """The modules that the one command and its groups name."""
    found = set()
    for entry in group.entries.values():
        name = entry[0].partition(":")[0] if isinstance(entry, tuple) else ""
        command = importlib.import_module(name).main if name and ":" not in entry[0] else entry
        found |= command_modules(command) if isinstance(command, LazyGroup) else {name}
    return found


def test_nobody_imports_a_command_but_the_group_that_names_it():
    """What commands share lies in gghead/cli/common.py or below. Scripts run the group's words."""
    commands = command_modules()
    assert {"gghead.cli.gen_samples", "gghead.training.cli.train_gan"} <= commands
    assert {"gghead.cli.edit.exchange", "gghead.cli.dataset_tool.check"} <= commands
    product = [*sources(*PACKAGES, "datasets", "scripts", "examples"), *ROOT.glob("*.py")]
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in product
        for line, name in imported(path)
        if any(name == command or name.startswith(f"{command}.") for command in commands)
    ]
    wrong += [
        f"{path.relative_to(ROOT)} imports {node.module}.{alias.name}"
        for path in product
        for node in imports_in(path)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
        if f"{node.module}.{alias.name}" in commands
    ]
    assert not wrong


def test_importing_gghead_is_light():
    # Processor time, because the wall clock also counts whatever else the machine does.
    code = (
        "import sys, time, torch, numpy\nstart = time.process_time()\nimport gghead\n"
        "gghead.Cameras\n"
        f"print(time.process_time() - start, *(name for name in {LAZY} if name in sys.modules))"
    )
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=True,
            capture_output=True,
            text=True,
        )
        seconds, *loaded = done.stdout.split()
        assert not loaded, f"import gghead also imports {loaded}"
        if (cost := float(seconds)) <= BUDGET:
            break
    assert cost <= BUDGET


@pytest.mark.parametrize("package", PACKAGES)
def test_heavy_imports_stand_inside_functions(package):
    def at_module_level(path: Path) -> list[str]:
        body = tree(path).body
        names = [
            alias.name for node in body if isinstance(node, ast.Import) for alias in node.names
        ]
        names += [
            node.module for node in body if isinstance(node, ast.ImportFrom) and not node.level
        ]
        return [f"{path.relative_to(ROOT)}: {name}" for name in names if name.split(".")[0] in LAZY]

    assert not [offence for path in sources(package) for offence in at_module_level(path)]
