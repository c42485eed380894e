"""How things are called: functions by verbs or nouns, one word per thing, in American spelling.

Reads the sources only."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.places import ROOT

PRODUCT = ("gghead", "training", "torch_utils", "scripts", "datasets", "research")
OTHERS = {"between", "open", "screen", "seed", "widen"}  # words that end like participles
IRREGULAR = {"built", "done", "drawn", "found", "gone", "held", "kept", "known", "made", "meant"}
IRREGULAR |= {"said", "sent", "shown", "sold", "sought", "swept", "taught", "thought", "told"}
IRREGULAR |= {"worn"}


# "image" is the word for pictures; the rest is British.
SPELLING = re.compile(
    r"(?<![a-z])pictures?(?![a-z])|colour|(?<![a-z])(centre|grey|[a-z]*metres?(?![a-z]))|neighbour"
    r"|behaviour|licence|labelled|(normal|optim|quant|raster|initial|summar|factor|random)is[ei]"
)


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def is_bare_participle(name: str) -> bool:
    """``truncated`` and ``_taken``, but not ``is_taken``, ``read`` or ``numbered_folder``."""
    word = name.strip("_")
    if word in OTHERS or name.startswith("__"):
        return False
    return word in IRREGULAR or re.fullmatch("[a-z]+e[dn]", word) is not None


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """All but properties, which may be adjectives: ``run.done``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and "property" not in map(
            ast.unparse, node.decorator_list
        ):
            yield node


def test_no_function_or_module_is_a_bare_participle():
    paths = sources(*PRODUCT)
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in paths
        for node in functions(ast.parse(path.read_text(encoding="utf-8")))
        if is_bare_participle(node.name)
    ]
    found += [
        str(path.relative_to(ROOT))
        for path in paths
        if is_bare_participle(path.stem) and path.stem != "distributed"  # torch's own word
    ]
    assert len(paths) > 300 and not found, f"name them by a verb or a noun: {found}"


@pytest.mark.parametrize("name", ["truncated", "_taken", "prepared", "drawn"])
def test_a_participle_is_found_out(name):
    assert is_bare_participle(name)


@pytest.mark.parametrize("name", ["truncate", "is_taken", "read", "numbered_folder", "__len__"])
def test_a_verb_or_a_noun_is_none(name):
    assert not is_bare_participle(name)


def test_names_are_spelled_one_way():
    """In code; names in quotes may be those of files and of other projects."""
    found = {
        f"{path.relative_to(ROOT)}: {token.string}"
        for path in sources(*PRODUCT, "examples", "tests")
        for token in tokenize.generate_tokens(io.StringIO(path.read_text("utf-8")).readline)
        if token.type == tokenize.NAME and SPELLING.search(token.string.lower())
    }
    assert not found, "say image, color, center, neighbor, optimize …"


@pytest.mark.parametrize("name", ["save_picture", "colours", "at_centre", "METRES", "optimiser"])
def test_a_second_spelling_is_found_out(name):
    assert SPELLING.search(name.lower())


@pytest.mark.parametrize("name", ["pictured", "concentrate", "parameter", "noise", "grayscale"])
def test_other_words_are_none(name):
    assert not SPELLING.search(name)
