"""Command lines the StyleGAN way: dashes or underscores, ``--flag=1``, comma lists and ranges,
one-sentence errors."""

import contextlib
import functools
import importlib
import inspect
import math
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import click

from gghead.torch_utils import threads
from gghead.torch_utils.cli_words import in_flags
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.progress import Progress

STOPPED = 130  # exit status after Ctrl-C, as shells have it
BOOL = click.BOOL  # --mirror=1, --mirror=true
_CONTEXT = {"token_normalize_func": lambda token: token.replace("_", "-"), "max_content_width": 120}


def command(
    *,
    stopped: str = "Files that were finished stay, and nothing is left half written.",
    moving: bool = True,
    **settings,
) -> Callable:
    """``click.command`` that accepts ``--trunc_cutoff`` for ``--trunc-cutoff``, says at once what
    it does and keeps a line moving to its end, prints ``UserError`` as one line, and ends with
    status 130 after Ctrl-C.

    ``stopped`` is said then: what is kept, and how to go on. A KeyboardInterrupt with a text of its
    own goes first. With ``moving=False`` the line is left to the programs that the command starts.
    """

    def decorate(function: Callable) -> click.Command:
        text = (
            (inspect.getdoc(function) or "")
            .partition("\n\n")[0]
            .replace("\n", " ")
            .removesuffix(".")
            .partition(". ")[0]
        )

        @functools.wraps(function)
        def guarded(*args, **kwargs):
            try:
                with Progress(text, at_once=True) if moving else contextlib.nullcontext():
                    return function(*args, **kwargs)
            except UserError as error:
                raise click.ClickException(in_flags(str(error))) from error
            except KeyboardInterrupt as stop:
                click.echo(f"\nStopped. {str(stop) or stopped}", err=True)
                raise SystemExit(STOPPED) from None

        return click.command(cls=Command, context_settings=_CONTEXT, **settings)(guarded)

    return decorate


def hint(script: str, *arguments: object) -> str:
    """A command to type where the user stands: ``hint("scripts/animate.py", f"--avatar={path}")``.

    In a checkout that is ``python`` with the way to the script, where gghead is installed its entry
    point; arguments are quoted where they need it.
    """
    path = Path(__file__).parents[2] / script
    if path.is_file():
        start = [_python(), min(os.path.relpath(path), str(path), key=len)]
    else:
        name = f"gghead-{path.stem.replace('_', '-')}"
        start = [
            name if shutil.which(name) else os.path.join(os.path.dirname(sys.executable), name)
        ]
    return shlex.join([*start, *map(str, arguments)])


def _python() -> str:
    """``python``, where that is this interpreter or another of its environment."""
    found = shutil.which("python")
    same = found is not None and os.path.dirname(os.path.abspath(found)) == os.path.dirname(
        sys.executable
    )
    return "python" if same else sys.executable


class _Switch(click.Option):
    """An option that is a truth value, with or without ``=1``."""


_TRUTHS = frozenset("1 0 true false t f yes no y n on off".split())


class Command(click.Command):
    """A command whose bare switches do not swallow the argument behind them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        switches = {
            name for param in self.params if isinstance(param, _Switch) for name in param.opts
        }
        until = args.index("--") if "--" in args else len(args)
        spelled = []
        for arg, following in zip(args[:until], [*args[1:until], ""][:until], strict=True):
            bare = arg.replace("_", "-") in switches and following.lower() not in _TRUTHS
            spelled += [arg, "1"] if bare else [arg]
        return super().parse_args(ctx, spelled + args[until:])


def switch(*names: str, **settings) -> Callable:
    """``click.option`` for a truth value: ``--mirror``, ``--mirror=1``, ``--mirror=0``,
    ``--mirror=false``."""
    return click.option(
        *names,
        cls=_Switch,
        type=click.BOOL,
        is_flag=False,
        flag_value=True,
        metavar="[0|1]",
        **settings,
    )


# Options that mean the same in every command, and so are declared once.
def outdir(help: str, default: str | None = None) -> Callable:
    """``--outdir``: the folder that results go to."""
    return click.option(
        "--outdir",
        type=click.Path(path_type=Path),
        default=default,
        show_default=default is not None,
        help=help,
    )


def _choose_threads(ctx: click.Context, param: click.Parameter, value: str) -> None:
    if ctx.resilient_parsing:
        return
    try:
        threads.configure(value)
    except UserError as error:
        raise click.BadParameter(str(error)) from error


threads_option = click.option(
    "--threads",
    envvar=threads.ENVIRONMENT_VARIABLE,
    default="auto",
    metavar="N|auto|fixed",
    expose_value=False,
    callback=_choose_threads,
    help=(
        "Threads to compute with. auto: as many as are fastest beside what else runs; results are"
        " equal bit for bit for one number only, so fix it where a repetition must be exact "
        " [default: auto]"
    ),
)
"""Decorates a command with ``--threads``; the function itself gets no argument."""


def device(default: str = "auto", with_threads: bool = True) -> Callable:
    """``--device``: what ``gghead.cli.common.pick_device`` takes; and ``--threads``, which is no
    argument of the function (``gghead.torch_utils.threads``)."""
    option = click.option(
        "--device",
        default=default,
        show_default=True,
        metavar="auto|cpu|cuda|…",
        help="Where to compute",
    )
    return (lambda function: option(threads_option(function))) if with_threads else option


def seed(help: str, default: int | None = 0) -> Callable:
    """``--seed``: a whole number from 0."""
    return click.option(
        "--seed",
        type=click.IntRange(min=0),
        default=default,
        show_default=default is not None,
        help=help,
    )


def dry_run() -> Callable:
    """``--dry-run``, ``-n``."""
    return switch("-n", "--dry-run", default=False, help="Print the resolved options and stop")


def overwrite(what: str) -> Callable:
    """``--overwrite``: without it finished results are not replaced; ``check_new`` asks."""
    return switch("--overwrite", default=False, help=f"Replace {what} that is there already")


def check_new(
    path: str | os.PathLike, overwrite: bool, option: str = "--dest", *, folder: bool = False
) -> None:
    """Raise ``UserError`` if the result ``path`` is there already and shall not be replaced, or
    cannot be written.

    Nothing is left behind: a folder that is missing is made when there is something to put into it.
    """
    path = Path(path)
    if os.path.lexists(path) and not overwrite:
        raise UserError(
            f"{path} exists already; give --overwrite to replace it, or another {option}."
        )
    check_writable(path, option, folder=folder)


def check_writable(path: str | os.PathLike, option: str, *, folder: bool = False) -> None:
    """Raise ``UserError`` if the file (or ``folder``) ``path`` cannot be written, before time is
    spent on it.

    The nearest folder above it that exists decides.
    """
    place = Path(path).absolute()
    if place.is_dir() and not folder:
        raise UserError(f"{option}={path} is a folder; name a file.")
    if place.exists() and not place.is_dir() and folder:
        raise UserError(f"{option}={path} is a file; name a folder.")
    while not os.path.lexists(place):
        place = place.parent
    reason = None
    if place.is_dir():
        try:
            with tempfile.TemporaryFile(dir=place):
                pass
        except OSError as error:
            reason = error.strerror
    elif place != Path(path).absolute():
        reason = "Not a directory"
    elif not os.access(place, os.W_OK):
        reason = "Permission denied"
    if reason is not None:
        raise UserError(
            f"{option}={path} cannot be written ({place}: {reason}); choose another place."
        )


class Degrees(click.ParamType):
    """Degrees on the command line, radians in Python: ``30`` -> 0.5236; with ``many`` a comma list
    of them."""

    name = "degrees"

    def __init__(self, many: bool = False, largest: float = 360.0) -> None:
        self.many, self.largest = many, largest
        self.name = "degrees,…" if many else "degrees"

    def convert(self, value, param, ctx):
        """Return radians (a list with ``many``); values that are no strings are radians already."""
        if not isinstance(value, str):
            return value
        found = []
        for part in value.split(",") if self.many else [value]:
            try:
                degrees = float(part)
            except ValueError:
                self.fail(f"'{part}' is not an angle in degrees, such as 30")
            if not abs(degrees) <= self.largest:
                self.fail(
                    f"{part} is no angle between -{self.largest:g} and {self.largest:g} degrees"
                )
            found.append(math.radians(degrees))
        return found if self.many else found[0]


class _LazyGroup(click.Group):
    """A group whose subcommands are imported when they are named or listed."""

    def __init__(self, modules: dict[str, str], default: str | None = None, **settings):
        super().__init__(context_settings=_CONTEXT, **settings)
        self._modules, self._default = modules, default

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if (
            self._default
            and args
            and args[0].startswith("-")
            and args[0] not in ctx.help_option_names
        ):
            args = [self._default, *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._modules)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return importlib.import_module(self._modules[name]).main if name in self._modules else None


def lazy_group(text: str, modules: dict[str, str], default: str | None = None) -> click.Group:
    """Return a command with the subcommands ``modules`` (name -> module whose ``main`` is the
    command).

    Options without a subcommand are those of ``default``.
    """
    return _LazyGroup(modules, default, help=text)


class IntRangeList(click.ParamType):
    """``0,1,4-6`` -> [0, 1, 4, 5, 6]."""

    name = "list of integers"

    def convert(self, value, param, ctx):
        if isinstance(value, (list, tuple)):
            return list(value)
        numbers: list[int] = []
        for part in str(value).split(","):
            match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
            if not match:
                self.fail(f"'{part}' is neither a number nor a range such as 0-7")
            first, last = int(match[1]), int(match[2] or match[1])
            if last < first:
                self.fail(f"the range '{part}' runs backwards")
            numbers.extend(range(first, last + 1))
        return numbers


class FloatList(click.ParamType):
    """``-0.4,0,0.4`` -> [-0.4, 0.0, 0.4]."""

    name = "list of numbers"

    def convert(self, value, param, ctx):
        if isinstance(value, (list, tuple)):
            return list(value)
        try:
            return [float(part) for part in str(value).split(",")]
        except ValueError:
            self.fail(f"'{value}' is not a comma-separated list of numbers")
