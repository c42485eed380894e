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


def test_no_sentence_of_the_readers_names_an_option():
    """The rule: flags are named by commands. A whole command line to run may be shown."""
    offenders = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.value}"
        for path in (ROOT / "gghead" / "data").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.search(r"(?<![\w-])--[a-z]", node.value.replace("EG3D's --mirror", ""))
        and "scripts/" not in node.value
        and " " in node.value  # the spelling of a field's option is no sentence
    ]
    assert not offenders, "write `skip_missing=True`; commands turn it into --skip-missing=1"
