"""``make coverage``: which share of the lines of every module the tests ran, lowest first. Reads
the data file that pytest-cov has left. The status is 1 where a module is below ``LEAST`` and
``REASONS`` does not say why."""

import sys
from pathlib import Path
from typing import NamedTuple

import coverage

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().relative_to(ROOT)
LEAST = 85  # per cent of a module's lines that the tests have to run
REASONS = {
    "gghead/rendering/native_backend.py": "needs a C++ compiler",
    "torch_utils/ops/native_build.py": "needs a C++ compiler",
    "training/benchmarks/raster.py": "needs a C++ compiler",
}
"""Why a module may be below ``LEAST``: what some machines lack."""


class Module(NamedTuple):
    """How many of a module's lines the tests ran."""

    name: str  # its path from the root of the repository
    lines: int  # statements, not counting docstrings
    missed: int
    where: str = ""  # the missed ones: "12-15, 30"

    @property
    def share(self) -> float:
        """Per cent."""
        return 100 * (self.lines - self.missed) / self.lines if self.lines else 100.0


def measured(data_file: str | None = None) -> list[Module]:
    """All modules in the data file. Raises ``coverage.CoverageException`` where there are none."""
    report = coverage.Coverage(**({} if data_file is None else {"data_file": data_file}))
    report.load()
    modules = []
    for file in report.get_data().measured_files():
        _, statements, _, missing, where = report.analysis2(file)
        name = Path(file).relative_to(ROOT).as_posix()
        modules.append(Module(name, len(statements), len(missing), where))
    if not modules:
        raise coverage.CoverageException("the data file is empty")
    return modules


def table(modules: list[Module], reasons: dict[str, str] = REASONS) -> list[str]:
    """A line for every module, lowest first, with the reason for a low share; then all together."""
    rows = [
        f"{module.share:5.1f} % of {module.lines:4}  {module.name}"
        + (f"  ({reasons[module.name]})" if _is_low(module) and module.name in reasons else "")
        for module in sorted(modules, key=lambda module: (module.share, module.name))
    ]
    lines, missed = sum(module.lines for module in modules), sum(m.missed for m in modules)
    return [*rows, f"{Module('', lines, missed).share:5.1f} % of {lines} lines in all"]


def faults(modules: list[Module], reasons: dict[str, str] = REASONS) -> list[str]:
    """A sentence for every low module without a reason, and for every reason without a module. A
    module that has a reason may be well covered: this machine may have what others lack."""
    names = {module.name for module in modules}
    return [
        *(
            f"{module.name}: {module.share:.1f} % of the lines were run, less than {LEAST} %. Test "
            f"lines {module.where}, or give a reason in {HERE}."
            for module in modules
            if _is_low(module) and module.name not in reasons
        ),
        *(
            f"{name}: there is no such module. Remove it from {HERE}."
            for name in reasons
            if name not in names
        ),
    ]


def _is_low(module: Module) -> bool:
    return module.share < LEAST


def main() -> None:
    try:
        modules = measured()
    except coverage.CoverageException as error:
        sys.exit(f"No coverage was measured ({error}); run make coverage.")
    print("\n".join(table(modules)))
    if found := faults(modules):
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
