"""MkDocs hooks: the pages that are made of the code, ``cli.md`` and ``api/*.md``."""

from pathlib import Path

import click
from mkdocs.structure.files import File

from gghead.cli.main import main
from gghead.torch_utils.cli_groups import SCRIPTS

ROOT = Path(__file__).resolve().parent.parent
API = {
    "core": (
        "Cameras, Gaussians, latents, files",
        "Axes and units: [Concepts](../concepts.md#axes-and-units). What a latent is:"
        " [Concepts](../concepts.md#the-latent).",
        ("gghead/*.py",),
    ),
    "rendering": (
        "Rendering",
        "Three backends do the same work: gsplat on GPUs, C++ on CPUs, plain torch.",
        ("gghead/rendering/*.py",),
    ),
    "models": (
        "Models",
        "Networks and their configs. `gghead.load` makes them from files.",
        ("gghead/models/*.py",),
    ),
    "inversion": (
        "Inversion and reconstruction",
        "Photos and views to latents. The commands: [Inversion](../inversion.md),"
        " [Reconstruction](../reconstruction.md).",
        ("gghead/inversion/*.py", "gghead/reconstruction/*.py"),
    ),
    "editing": (
        "Editing and animation",
        "Latents in, latents out. The commands: [Edits and priors](../latents.md),"
        " [Expressions](../expression.md).",
        ("gghead/editing/*.py", "gghead/animation/*.py"),
    ),
    "template": (
        "Template",
        "The mesh that Gaussians live on, its texels and its blendshapes.",
        ("gghead/template/*.py",),
    ),
    "data": (
        "Data",
        "Data sets for training, and other projects' captures: [Capture formats](../formats.md).",
        ("gghead/data/*.py", "gghead/data/formats/__init__.py"),
    ),
    "perceptual": (
        "Perceptual distances",
        "Specifications and files: [Perceptual distances](../perceptual.md).",
        ("gghead/perceptual/*.py",),
    ),
    "training": (
        "Training configs",
        "Frozen dataclasses; every field has a sentence and a unit. `--set=loss.r1_gamma=2` sets"
        " any of them.",
        ("training/*/config.py",),
    ),
}
"""Page -> title, first lines, modules."""


def sections(words: str, command: click.Command, level: int = 2) -> list[str]:
    """A heading and the help of ``gghead WORDS`` and of all its sub-commands."""
    name = f"gghead {words}"
    context = click.Context(command, info_name=name, max_content_width=80, terminal_width=80)
    parts = [f"{'#' * level} {name}"]
    scripts = [script for script, same in SCRIPTS.items() if same == words]
    parts += [f"The same: `python {script}`" for script in scripts]
    parts.append(f"```text\n{command.get_help(context)}\n```")
    if isinstance(command, click.Group):
        for part in command.list_commands(context):
            parts += sections(f"{words} {part}", command.get_command(context, part), level + 1)
    return parts


def module_name(path: Path) -> str:
    """``training/gan/config.py`` -> ``gghead.training.gan.config``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "gghead" else ("gghead", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def on_files(files, config):
    """Add cli.md, which is made of the commands themselves, and a page per group of modules."""
    parts = [
        "# All options",
        "What every command says to `--help`. Options take dashes or underscores.",
    ]
    context = click.Context(main)
    for name in main.list_commands(context):
        parts += sections(name, main.get_command(context, name))
    pages = {"cli.md": parts}
    for page, (title, text, patterns) in API.items():
        modules = [
            module_name(path)
            for pattern in patterns
            for path in sorted(ROOT.glob(pattern))
            if path.name != "__init__.py" or "__init__" in pattern
        ]
        pages[f"api/{page}.md"] = [f"# {title}", text, *(f"::: {module}" for module in modules)]
    for page, parts in pages.items():
        files.append(File.generated(config, page, content="\n\n".join(parts) + "\n"))
    return files
