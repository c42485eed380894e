"""The documentation: its command lines take their options, its Python runs, its error sentences
exist, its lines are short."""

import importlib
import re
import shlex
from pathlib import Path

import click
import pytest
from helpers.places import ROOT

from gghead.cli.main import main as gghead_command
from gghead.torch_utils import cli_groups

LINE = re.compile(
    r"^\s*(?:python|torchrun \S+) (?:scripts/|datasets/|research/)?(\w+)\.py(.*)$", re.M
)
SCRIPTS = {Path(script).stem: words for script, words in cli_groups.SCRIPTS.items()}
SCRIPTS |= {
    path.stem: ""  # no words of gghead: the module of that name is the command
    for path in ROOT.glob("research/*.py")
    if "__main__" in path.read_text(encoding="utf-8")
}
PAGES = [
    ROOT / "README.md",
    ROOT / "research" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]


def command(name: str) -> click.Command:
    words = SCRIPTS[name]
    return cli_groups.find(gghead_command, words) if words else importlib.import_module(name).main


def subcommands(name: str) -> dict[str, click.Command]:
    """``edit`` -> ``edit mix`` and so on; a command without subcommands itself."""
    main = command(name)
    if not isinstance(main, click.Group):
        return {name: main}
    context = click.Context(main)
    return {
        f"{name} {part}": main.get_command(context, part) for part in main.list_commands(context)
    }


def lines_of(text: str) -> list[tuple[str, list[str]]]:
    """Scripts and their arguments, without comments, brackets around optional parts, and what
    follows ``&&``."""
    found = []
    for name, rest in LINE.findall(text.replace("\\\n", " ")):
        if name in SCRIPTS:
            words = shlex.split(
                rest.replace("[--", "--").replace("]", "").split("&&")[0], comments=True
            )
            found.append((name, words))
    return found


EXAMPLES = [
    (str(path.relative_to(ROOT)), *line)
    for path in PAGES
    for line in lines_of(path.read_text("utf-8"))
]
HELP = [
    (f"help of {full}", *line)
    for name in sorted(SCRIPTS)
    for full, main in subcommands(name).items()
    for line in lines_of(main.help.replace("\b", ""))
]


def test_commands_about_a_network_have_an_example_in_their_help_and_pages_have_some():
    explained = {where for where, *_ in HELP}
    for name in ("gen_samples", "gen_video", "invert", "reconstruct", "encode", "animate", "edit"):
        assert {f"help of {full}" for full in subcommands(name)} <= explained
    pages = {where for where, *_ in EXAMPLES}
    assert pages >= {
        f"docs/{page}.md"
        for page in ("inversion", "latents", "expression", "reconstruction", "avatars")
    }


@pytest.mark.parametrize(("where", "name", "words"), [*EXAMPLES, *HELP])
def test_options_of_examples_are_taken(where, name, words):
    main = command(name)
    if isinstance(main, click.Group):
        words = [main.default, *words] if words[0].startswith("-") else words
        _, main, words = main.resolve_command(click.Context(main), list(words))
    main.make_context(name, list(words))


PYTHON = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
# these read a network, an avatar or a latent that a reader has to make first
OF_A_RUN = ("training-runs/", "inverted/")
SNIPPETS = [
    pytest.param(snippet, id=f"{path.relative_to(ROOT)}-{number}")
    for path in PAGES
    for number, snippet in enumerate(PYTHON.findall(path.read_text("utf-8")))
    if "import gghead\n" in snippet and not any(name in snippet for name in OF_A_RUN)
]


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_python_of_the_pages_runs(snippet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet, "<page>", "exec"), {})


def test_every_page_that_shows_python_has_some_that_runs():
    assert len(SNIPPETS) >= 7


def sentences_of_the_code() -> str:
    """All source text, with adjacent parts of a string put together, and arguments in it as the
    commands print them (``cli_words``)."""
    sources = [
        ROOT / "Makefile",
        *(
            path
            for top in ("gghead", "training", "torch_utils")
            for path in ROOT.glob(f"{top}/**/*.py")
        ),
    ]
    text = "\n".join(
        re.sub(r'"\s*\n\s*f?"', "", path.read_text(encoding="utf-8")) for path in sources
    )
    return re.sub(r"`(\w+)=([^`\n]*)`", r"--\1=\2", text)


def test_error_sentences_of_the_troubleshooting_page_are_those_of_the_code():
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^> `(.+)`$", page, re.M)
    assert len(quoted) >= 20
    code = sentences_of_the_code()
    parts = [part.strip() for sentence in quoted for part in sentence.split("…")]
    missing = [part for part in parts if part.strip("()") not in code]
    assert not missing


WORDS = [*PAGES, *(ROOT / f"{name}.md" for name in ("CONTRIBUTING", "SECURITY", "CHANGELOG"))]


def test_lines_of_the_pages_are_at_most_100_columns_but_for_tables():
    pages = [*WORDS, ROOT / "research" / "NOTEBOOK.md"]
    long = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in pages
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > 100 and not line.startswith("|")
    ]
    assert not long


def test_readme_fits_on_a_screen_or_two():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 100 and len(text.split()) <= 700
    assert not re.search(r"\bdB\b", text)
