"""Docstrings have one form: a sentence on the first line, an empty line, then the details."""

import ast
import re

import pytest
from helpers.places import ROOT

ROLE = re.compile(r":\w+(?::\w+)?:`")
Documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def faults(text: str) -> list[str]:
    """What is wrong with the docstrings of a source file."""
    found = []
    for node in ast.walk(ast.parse(text)):
        doc = ast.get_docstring(node) if isinstance(node, Documented) else None
        if doc is None:
            continue
        name = getattr(node, "name", "the module")
        first, *others = doc.splitlines()
        if not first.endswith("."):
            found.append(f"{name}: the first line is no sentence with a period: {first}")
        if others and others[0]:
            found.append(f"{name}: the second line is not empty: {others[0]}")
        if role := ROLE.search(doc):
            found.append(f"{name}: a role of Sphinx, {role[0]}, where backticks say it")
    return found


@pytest.mark.parametrize("folder", ["gghead", "training", "torch_utils"])
def test_docstrings_begin_with_one_sentence_on_one_line(folder):
    files = sorted((ROOT / folder).rglob("*.py"))
    assert len(files) > 20
    assert {str(path): bad for path in files if (bad := faults(path.read_text()))} == {}


@pytest.mark.parametrize(
    "doc, fault",
    [
        ("Two lines that\n    belong together.", "no sentence"),
        ("A sentence.\n    And another one.", "the second line"),
        ("No period", "no sentence"),
        ("As :meth:`there`.", "role"),
    ],
)
def test_other_forms_are_found(doc, fault):
    found = faults(f'def f():\n    """{doc}"""\n')
    assert len(found) >= 1 and fault in found[0]
