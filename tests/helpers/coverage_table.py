"""``make coverage``: which share of the lines of every package the tests ran, and the modules below
``LEAST``. Reads the data file that pytest-cov has left."""

import sys
from collections import defaultdict
from pathlib import Path

import coverage

ROOT = Path(__file__).resolve().parents[2]
LEAST = 85  # per cent of a module's lines; what is below needs a reason or a test


def table(data_file: str | None = None) -> list[str]:
    """The lines to print. Raises ``coverage.CoverageException`` where nothing was measured."""
    measured = coverage.Coverage(**({} if data_file is None else {"data_file": data_file}))
    measured.load()
    packages: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    low = []
    for name in measured.get_data().measured_files():
        path = Path(name).relative_to(ROOT)
        _, statements, _, missing, where = measured.analysis2(name)
        package = "/".join(path.parts[:2] if len(path.parts) > 2 else path.parts[:1])
        packages[package][0] += len(statements) - len(missing)
        packages[package][1] += len(statements)
        if len(missing) * 100 > (100 - LEAST) * len(statements):
            low.append((_share(len(statements) - len(missing), len(statements)), path, where))
    ran, lines = (sum(pair[index] for pair in packages.values()) for index in (0, 1))
    rows = [(_share(*pair), name) for name, pair in sorted(packages.items())]
    return [
        *(f"{share:5.1f} %  {name}" for share, name in rows),
        f"{_share(ran, lines):5.1f} %  of {lines} lines in all",
        *(
            f"below {LEAST} %: {path} ({share:.1f} %), not run: {at}"
            for share, path, at in sorted(low)
        ),
    ]


def _share(ran: int, lines: int) -> float:
    return 100 * ran / lines if lines else 100.0


if __name__ == "__main__":
    try:
        print("\n".join(table()))
    except coverage.CoverageException as error:
        sys.exit(f"No coverage was measured ({error}); run make coverage.")
