"""The one command ``gghead``.

Groups that import a command when it runs, and what commands are called where the user stands:
``python scripts/x.py`` in a checkout, ``gghead x`` elsewhere.
"""

import difflib
import importlib
import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import click
from click.shell_completion import CompletionItem

CONTEXT = {
    "token_normalize_func": lambda token: token.replace("_", "-"),
    "max_content_width": 120,
}
"""Settings of every command: ``--trunc_cutoff`` is ``--trunc-cutoff``."""

SCRIPTS = {
    "train.py": "train gan",
    "gen_samples.py": "sample",
    "scripts/animate.py": "animate",
    "scripts/benchmark.py": "benchmark",
    "scripts/calc_metrics.py": "score",
    "scripts/compress_avatar.py": "compress",
    "scripts/convert_network.py": "convert-network",
    "scripts/dataset_tool.py": "data",
    "scripts/edit.py": "edit",
    "scripts/encode.py": "encode",
    "scripts/gen_video.py": "video",
    "scripts/invert.py": "invert",
    "scripts/reconstruct.py": "reconstruct",
    "scripts/score_avatar.py": "score avatar",
    "scripts/score_encoder.py": "score encoder",
    "scripts/score_expression.py": "score expression",
    "scripts/score_prior.py": "score prior",
    "scripts/train_avatar.py": "train avatar",
    "scripts/train_encoder.py": "train encoder",
    "scripts/train_decoder.py": "train decoder",
    "scripts/train_expression.py": "train expression",
    "scripts/train_prior.py": "train prior",
    "datasets/synthetic_heads.py": "data synthetic",
    "datasets/synthetic_sequence.py": "data sequence",
}
"""The scripts of a checkout, and the words of ``gghead`` that do the same."""

_WORDS = {Path(script).stem: words for script, words in SCRIPTS.items()}
_MENTION = re.compile(
    r"(?<![\w./-])(?P<torchrun>torchrun(?: --\S+)* )?(?:python )?(?:(?:scripts|datasets)/)?"
    rf"(?P<name>{'|'.join(_WORDS)})\.py\b"
)


# ----------------------------------------------------------------------------------- lazy groups
class LazyGroup(click.Group):
    """A group whose commands are imported when they run.

    Its help and the completion of their names import none of them.
    """

    def __init__(
        self,
        entries: Mapping[str, tuple[str, str] | click.Command],
        default: str | None = None,
        renamed: Mapping[str, str] | None = None,
        **settings,
    ) -> None:
        """``entries``: name -> ``("package.module:attribute", "Short help")``, or a command.

        Options without a command are those of ``default``. A name in ``renamed`` is refused with
        the new one.
        """
        super().__init__(context_settings=CONTEXT, **settings)
        self.entries, self.default, self.renamed = dict(entries), default, dict(renamed or {})

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if self.default and args and args[0].startswith("-"):
            if args[0] not in ctx.help_option_names:
                args = [self.default, *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self.renamed and not ctx.resilient_parsing:
            ctx.fail(f"'{cmd_name}' is called '{self.renamed[cmd_name]}'.")
        entry = self.entries.get(cmd_name)
        if entry is None or isinstance(entry, click.Command):
            return entry
        module, _, attribute = entry[0].partition(":")
        return getattr(importlib.import_module(module), attribute or "main")

    def resolve_command(self, ctx: click.Context, args: list[str]):
        name = args[0].replace("_", "-")
        known = [*self.entries, *self.renamed]
        if name not in known and not ctx.resilient_parsing:
            near = difflib.get_close_matches(name, self.entries)
            meant = (
                f" Did you mean '{near[0]}'?" if near else f" There are {', '.join(self.entries)}."
            )
            ctx.fail(f"There is no command '{args[0]}'.{meant}")
        return super().resolve_command(ctx, args)

    def line_of(self, name: str) -> str:
        """What the group's help says of the command ``name``."""
        entry = self.entries[name]
        if isinstance(entry, click.Command):
            return entry.get_short_help_str(limit=75).removesuffix(".")
        return entry[1]

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_help(ctx, formatter)
        formatter.buffer[:] = [as_typed("".join(formatter.buffer))]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.line_of(name)) for name in self.entries])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [name for name in self.entries if name.startswith(incomplete)]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [CompletionItem(name, help=self.line_of(name)) for name in names] + options


def find(group: click.Group, words: str) -> click.Command:
    """The command ``"train avatar"`` of a group; imports it.

    Raises ``KeyError`` where there is none.
    """
    command: click.Command = group
    for word in words.split():
        found = None
        if isinstance(command, click.Group):
            found = command.get_command(click.Context(command), word)
        if found is None:
            raise KeyError(words)
        command = found
    return command


# ---------------------------------------------------------------------- commands as they are typed
def _in_checkout() -> bool:
    return _script("train.py").is_file()


def _script(script: str) -> Path:
    return Path(__file__).parents[2] / script


def hint(script: str, *arguments: object) -> str:
    """A command to type where the user stands: ``hint("scripts/animate.py", f"--avatar={path}")``.

    In a checkout that is ``python`` with the way to the script, where gghead is installed
    ``gghead animate``; arguments are quoted where they need it. Raises ``KeyError`` for a script
    that is not among ``SCRIPTS``.
    """
    words = SCRIPTS[script].split()
    path = _script(script)
    if path.is_file():
        start = [python(), min(os.path.relpath(path), str(path), key=len)]
    else:
        start = [*_program(), *words]
    return shlex.join([*start, *map(str, arguments)])


def as_typed(text: str) -> str:
    """``text`` with every script in it called as the user can call it.

    Without a checkout ``python scripts/edit.py mix`` becomes ``gghead edit mix``.
    """
    if _in_checkout():
        return text

    def words(found: re.Match) -> str:
        start = f"{found['torchrun']}-m gghead" if found["torchrun"] else "gghead"
        return f"{start} {_WORDS[found['name']]}"

    return _MENTION.sub(words, text)


def _here(name: str) -> bool:
    """Whether the shell finds ``name`` in the environment of this interpreter."""
    found = shutil.which(name)
    folder = os.path.dirname(sys.executable)
    return found is not None and os.path.dirname(os.path.abspath(found)) == folder


def python() -> str:
    """What calls this Python: ``python``, where the shell finds one of its environment."""
    return "python" if _here("python") else sys.executable


def _program() -> list[str]:
    """``gghead``, where the shell finds that of this environment; else the way to it."""
    beside = os.path.join(os.path.dirname(sys.executable), "gghead")
    if _here("gghead"):
        return ["gghead"]
    return [beside] if os.path.isfile(beside) else [python(), "-m", "gghead"]
