"""Sentences of the library name arguments of Python, those of a command its options."""

import ast
import re

import click
import pytest
from click.testing import CliRunner
from helpers.places import ROOT

from gghead.torch_utils import cli
from gghead.torch_utils.cli_words import in_flags
from gghead.torch_utils.errors import UserError


@cli.command(moving=False)
@click.option("--sentence")
@click.option("--from", "format")
@cli.switch("--skip-missing", default=False)
def fail(sentence, format, skip_missing):
    """Fail with a sentence."""
    raise UserError(sentence)


@pytest.mark.parametrize(
    ("sentence", "shown"),
    [
        ("go on with `skip_missing=True`.", "go on with --skip-missing=1."),
        ("leave out `skip_missing`.", "leave out --skip-missing."),
        ("choose `format='insta'`.", "choose --from=insta."),
        ("use `format=None`.", "use --from=none."),
        ("give `world`, or run `make prep`.", "give `world`, or run `make prep`."),
    ],
)
def test_a_command_names_its_options(sentence, shown):
    result = CliRunner().invoke(fail, ["--sentence", sentence])
    assert result.exit_code == 1 and shown in result.output
    assert in_flags(sentence) == sentence, "outside a command Python's words stay"


# Modules that declare options, read them or print a command line.
COMMANDS = {"benchmarks", "cli", "cli.py", "cli_groups.py", "cli_words.py", "config_options.py"}
DECLARATIONS = {"Option", "click.option", "hint"}  # calls whose arguments are options
ALLOWED = {
    "gghead/data/check/findings.py": "EG3D's --mirror",  # another project's
    "gghead/data/synthetic/statistics.py": "--cameras",  # prints a table of the option's values
    "gghead/template/preview.py": "--dest=",  # is a command itself
    "training/run/run_folder.py": "--always --dirty",  # of git
    "torch_utils/ops/native_build.py": "--version",  # of the compiler
}


def sentences(tree):
    """All strings of a module but docstrings and what declares options."""
    skipped = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in DECLARATIONS:
            skipped |= set(ast.walk(node))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped.add(node.value)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in skipped:
            yield node


def test_no_sentence_of_the_library_names_an_option():
    """The rule: flags are named by commands. A whole command line to run may be shown."""
    paths = [
        path.relative_to(ROOT)
        for folder in ("gghead", "training", "torch_utils")
        for path in (ROOT / folder).rglob("*.py")
        if not COMMANDS & set(path.parts)
    ]
    offenders = [
        f"{path}:{node.lineno}: {node.value}"
        for path in paths
        for node in sentences(ast.parse((ROOT / path).read_text()))
        for flag in re.findall(r"(?<![\w-])--[a-z][\w-]*", node.value)
        if "scripts/" not in node.value and flag not in ALLOWED.get(path.as_posix(), "")
    ]
    assert len(paths) > 200
    assert not offenders, "write `skip_missing=True`; commands turn it into --skip-missing=1"


def test_a_flag_in_a_sentence_is_found_out():
    tree = ast.parse('"""--doc"""\nhint("x.py", "--go")\nraise UserError(f"{x}: give --data.")')
    assert [node.value for node in sentences(tree) if "--" in node.value] == [": give --data."]
