"""The documentation: its command lines take their options, how-tos make what they read, its Python
runs, its error sentences exist, its lines are short."""

import ast
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


HOWTOS = [ROOT / "README.md", ROOT / "docs" / "start.md", *sorted(ROOT.glob("docs/howto/*.md"))]
OWN = "With your own data"  # what stands under this heading is the reader's
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
SECTION = re.compile(r"^## (.*)\n", re.M)
FILE = re.compile(r"/|\.[A-Za-z]\w*$")  # a path, or a name with an ending
PLACEHOLDER = re.compile(r"[A-Z][A-Z_-]*$")
READS = (
    "network avatar data source latents drive target init resume prior directions motion".split()
)
WRITES = ("dest", "outdir", "output", "video")
DEFAULTS = {  # where a command writes that names no folder
    "invert": "inverted",
    "encode": "latents",
    **{name: f"out/{name.split()[-1]}" for name in subcommands("edit")},
}


def made_by(name: str, words: list[str], folder: str) -> re.Pattern:
    """What a run folder in ``folder`` is called that a command of training makes."""
    data = [word.partition("=")[2] for word in words if word.startswith("--data=")]
    stem = re.escape(Path(data[0]).stem) if data else "samples"
    return re.compile(rf"{re.escape(folder)}/(\d{{5}})-\S*{stem}\S*")


def unmade(text: str) -> list[str]:
    """Files that a page's commands read and no earlier command of it makes."""
    parts = SECTION.split("## \n" + text)[1:]
    kept = [body for heading, body in zip(parts[::2], parts[1::2], strict=True) if heading != OWN]
    made: set[str] = set()
    runs: dict[str, list[re.Pattern]] = {}  # per folder, in the order of the numbers they get
    faults = []

    def exists(path: str) -> bool:
        if any(path == known or path.startswith(f"{known}/") for known in made):
            return True
        folder = str(Path(path).parent)
        return any(
            (match := run.fullmatch(path)) and int(match[1]) == number
            for number, run in enumerate(runs.get(folder, []))
        )

    blocks = [body for language, body in BLOCK.findall("".join(kept)) if not language]
    for name, words in lines_of("\n".join(blocks)):
        outputs = []
        for word in words:
            option, _, value = word[2:].partition("=") if word.startswith("--") else ("", "", word)
            if option in WRITES:
                outputs.append(value)
                continue
            for part in value.split(","):
                file = FILE.search(part) or PLACEHOLDER.match(part) or option in READS
                shipped = part == "demo" or part.startswith("seeds:")
                newest = part == "latest" and runs.get("training-runs")
                if file and not (shipped or newest or exists(part)):
                    faults.append(f"{name}: {part}")
        trains = name.startswith("train") and "--dry-run" not in words
        if trains and not any(word.startswith("--resume") for word in words):
            folder = outputs[0] if outputs else "training-runs"
            runs.setdefault(folder, []).append(made_by(name, words, folder))
        else:
            full = f"{name} {words[0]}" if name == "edit" else name
            made.update(outputs)
            if not any(word.startswith(("--dest", "--out")) for word in words):
                made.add(DEFAULTS.get(full, f"out/{name}"))
    return faults


@pytest.mark.parametrize("page", HOWTOS, ids=lambda page: page.stem)
def test_commands_of_a_how_to_read_what_earlier_ones_made(page):
    assert unmade(page.read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("block", "fault"),
    [
        ("python scripts/invert.py --network=RUN --target=seeds:0", "invert: RUN"),
        ("python scripts/invert.py --target=photo.jpg", "invert: photo.jpg"),
        ("python scripts/dataset_tool.py check photos.zip", "dataset_tool: photos.zip"),
        ("python gen_samples.py --latents=inverted", "gen_samples: inverted"),
        ("python gen_samples.py --network=latest", "gen_samples: latest"),
        (
            "python train.py --data=out/a.zip --dry-run\n"
            "python datasets/synthetic_heads.py --dest=out/a.zip",
            "train: out/a.zip",
        ),
        (
            "python datasets/synthetic_heads.py --dest=out/a.zip\n"
            "python train.py --data=out/a.zip --outdir=out\n"
            "python gen_samples.py --network=out/00001-tiny-a-gpus1",
            "gen_samples: out/00001-tiny-a-gpus1",
        ),
    ],
)
def test_a_file_that_no_command_makes_is_found(block, fault):
    page = f"# Page\n\n```python\nx = 1\n```\n\n## Here\n\n```\n{block}\n```\n"
    assert unmade(page) == [fault]
    assert unmade(page.replace("## Here", f"## {OWN}")) == []


def hints() -> list[tuple[str, str, str]]:
    """The options of commands that other commands print: (where, script, --option)."""
    found = []
    for top in ("gghead", "training"):
        for path in sorted((ROOT / top).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                called = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "hint"
                if not called or not isinstance(node.args[0], ast.Constant):
                    continue
                script, *words = [
                    arg.values[0] if isinstance(arg, ast.JoinedStr) else arg for arg in node.args
                ]
                found += [
                    (f"{path.relative_to(ROOT)}:{word.lineno}", script.value, option)
                    for word in words
                    if isinstance(word, ast.Constant)
                    and (option := str(word.value).partition("=")[0]).startswith("--")
                ]
    return found


def test_commands_that_are_printed_take_their_options():
    found = hints()
    assert len(found) >= 10
    wrong = []
    for where, script, option in found:
        commands = subcommands(Path(script).stem).values()
        if not any(option in param.opts for main in commands for param in main.params):
            wrong.append(f"{where}: {script} {option}")
    assert not wrong


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
