"""MkDocs hooks: the page cli.md with every command's ``--help``."""

import importlib
import re
from pathlib import Path

import click
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
MAIN = re.compile(r"^\s*from (gghead\.[\w.]+) import main$", re.M)


def commands() -> dict[str, click.Command]:
    """``python train.py`` -> its command, for every script that people type."""
    found = {}
    for pattern in ("*.py", "scripts/*.py", "datasets/*.py"):
        for path in sorted(ROOT.glob(pattern)):
            home = MAIN.search(path.read_text(encoding="utf-8"))
            if home:
                name = f"python {path.relative_to(ROOT)}"
                found[name] = importlib.import_module(home[1]).main
    return found


def sections(name: str, command: click.Command, level: int = 2) -> list[str]:
    """A heading and the help of ``command`` and of all its sub-commands."""
    context = click.Context(command, info_name=name, max_content_width=98, terminal_width=98)
    parts = [f"{'#' * level} {name}", f"```text\n{command.get_help(context)}\n```"]
    if isinstance(command, click.Group):
        for part in command.list_commands(context):
            parts += sections(f"{name} {part}", command.get_command(context, part), level + 1)
    return parts


def on_files(files, config):
    """Add cli.md, which is made of the commands themselves."""
    parts = [
        "# All options",
        "What every command says to `--help`. Options take dashes or underscores.",
    ]
    for name, command in commands().items():
        parts += sections(name, command)
    files.append(File.generated(config, "cli.md", content="\n\n".join(parts) + "\n"))
    return files
