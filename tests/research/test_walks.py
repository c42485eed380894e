"""research/walks.py on a project of five modules whose walk is known."""

import os
import subprocess
import sys

import pytest
from helpers.places import ROOT

SOURCES = {
    "gghead/__init__.py": "",
    "gghead/gaussians.py": "def count(): return 3\nVALUE = count()\n",
    "gghead/models/__init__.py": "",
    "gghead/models/head.py": """
        import threading
        from gghead.gaussians import count
        from torch_utils import tools
        class Head:
            size = count()
            def draw(self):
                for _ in range(3):
                    count()
                count()
                return tools.twice(lambda: self.grow())
            def grow(self):
                return count()
            def aside(self):
                thread = threading.Thread(target=count)
                thread.start()
                thread.join()
    """,
    "torch_utils/__init__.py": "",
    "torch_utils/tools.py": "def twice(work): return work() + work()\n",
    "training/__init__.py": "",
    "training/late.py": "def late(): pass\n",
    "go.py": """
        from gghead.models.head import Head
        from training.late import late
        Head().draw()
        if __import__("sys").argv[1:] == ["aside"]:
            Head().aside()
        late()
    """,
}


@pytest.fixture
def walk(tmp_path):
    for name, text in SOURCES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        lines = text.split("\n" + 8 * " ")
        (tmp_path / name).write_text("\n".join(lines) + "\n")

    def run(*words):
        done = subprocess.run(
            [sys.executable, str(ROOT / "research" / "walks.py"), *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        *modules, total = done.stdout.splitlines()
        return [line.split() for line in modules], total

    return run


def test_modules_are_listed_by_first_call_and_imports_are_none(walk):
    lines, total = walk("go.py")
    modules = {line[1]: line[2] for line in lines if line[0] != "climb"}
    assert list(modules) == [
        "gghead/models/head",
        "gghead/gaussians",
        "torch_utils/tools",
        "training/late",
    ]
    assert modules["gghead/gaussians"] == "1"  # from draw, and once more from grow
    assert modules["gghead/models/head"] == "1"  # from the script, and once more through the lambda
    assert total == "4 modules, 1 climbs, 2 times entered again"


def test_a_call_from_a_lower_layer_is_a_climb(walk):
    lines, _ = walk("go.py")
    assert ["climb", "torch_utils/tools:twice", "->"] in [line[:3] for line in lines]


def test_threads_count_and_recording_ends_where_it_is_told_to(walk):
    lines, _ = walk("go.py", "aside")
    assert [line[2] for line in lines if line[1] == "gghead/gaussians"] == ["2"]
    lines, total = walk("--until=draw", "go.py", "aside")
    assert "training/late" not in {line[1] for line in lines}
    assert total == "3 modules, 1 climbs, 2 times entered again"
