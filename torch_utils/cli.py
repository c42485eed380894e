"""Command lines the StyleGAN way.

Dashes or underscores, ``--flag=1``, comma lists and ranges, one-sentence errors.
"""

import contextlib
import functools
import inspect
import math
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from gghead.torch_utils import threads
from gghead.torch_utils.cli_groups import CONTEXT, as_typed
from gghead.torch_utils.cli_groups import hint as hint  # commands say cli.hint
from gghead.torch_utils.cli_words import in_flags
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.machine import cores
from gghead.torch_utils.progress import Progress

STOPPED = 130  # exit status after Ctrl-C, as shells have it
BOOL = click.BOOL  # --mirror=1, --mirror=true


def command(
    *,
    renamed: Mapping[str, str] | None = None,
    stopped: str = "Files that were finished stay, and nothing is left half written.",
    moving: bool = True,
    **settings,
) -> Callable[[Callable], click.Command]:
    """``click.command`` as all commands here need it.

    It accepts ``--trunc_cutoff`` for ``--trunc-cutoff``, says at once what it does and keeps a line
    moving to its end, prints ``UserError`` as one line, and ends with status 130 after Ctrl-C.

    ``renamed`` maps options as they were once spelled to the spelling that is taken. ``stopped`` is
    said after Ctrl-C: what is kept, and how to go on. A KeyboardInterrupt with a text of its
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
        def wrapper(*args, **kwargs):
            try:
                with Progress(text, at_once=True) if moving else contextlib.nullcontext():
                    return function(*args, **kwargs)
            except UserError as error:
                raise click.ClickException(as_typed(in_flags(str(error)))) from error
            except KeyboardInterrupt as stop:
                click.echo(f"\nStopped. {str(stop) or stopped}", err=True)
                raise SystemExit(STOPPED) from None

        return click.command(cls=Command, renamed=renamed, context_settings=CONTEXT, **settings)(
            wrapper
        )

    return decorate


class _Switch(click.Option):
    """An option that is a truth value, with or without ``=1``."""


_TRUTHS = frozenset("1 0 true false t f yes no y n on off".split())


class Command(click.Command):
    """A command with bare switches and old spellings.

    Bare switches do not swallow the argument behind them. The help names commands as they can be
    typed. Old spellings are refused with the new one.
    """

    def __init__(self, *args, renamed: Mapping[str, str] | None = None, **settings) -> None:
        """``renamed``: ``{"--old": "--new"}``."""
        super().__init__(*args, **settings)
        self.renamed = dict(renamed or {})

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_help(ctx, formatter)
        formatter.buffer[:] = [as_typed("".join(formatter.buffer))]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        switches = {
            name for param in self.params if isinstance(param, _Switch) for name in param.opts
        }
        until = args.index("--") if "--" in args else len(args)
        for arg in args[:until]:
            name = arg.partition("=")[0].replace("_", "-")
            if name in self.renamed and not ctx.resilient_parsing:
                raise click.UsageError(f"{name} is called {self.renamed[name]} here.", ctx)
        spelled = []
        for arg, following in zip(args[:until], [*args[1:until], ""][:until], strict=True):
            bare = arg.replace("_", "-") in switches and following.lower() not in _TRUTHS
            spelled += [arg, "1"] if bare else [arg]
        return super().parse_args(ctx, spelled + args[until:])


def switch(*names: str, cls: type[click.Option] = _Switch, **settings) -> Callable:
    """``click.option`` for a truth value.

    It takes ``--mirror``, ``--mirror=1``, ``--mirror=0``, ``--mirror=false``.
    """
    return click.option(
        *names,
        cls=cls,
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


def dest(help: str) -> Callable:
    """``--dest``: the data set or network to write."""
    return click.option("--dest", type=click.Path(path_type=Path), required=True, help=help)


def fps(help: str = "Frames per second", default: float | None = None) -> Callable:
    """``--fps``: frames per second, > 0."""
    return click.option(
        "--fps",
        type=click.FloatRange(min=0, min_open=True),
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
        raise click.BadParameter(in_flags(str(error))) from error


def threads_option(default: str = "auto") -> Callable:
    """``--threads``; the function itself gets no argument (``gghead.torch_utils.threads``)."""
    return click.option(
        "--threads",
        envvar=threads.ENVIRONMENT_VARIABLE,
        default=default,
        show_default=True,
        metavar="N|auto|fixed",
        expose_value=False,
        callback=_choose_threads,
        help=(
            "Threads to compute with. auto: as many as are fastest beside what else runs; fixed:"
            " torch's own number. Results are equal bit for bit for one number only, so name it"
            " where a repetition must be exact"
        ),
    )


def device(threads: str = "auto") -> Callable:
    """``--device``: what ``gghead.cli.common.pick_device`` takes; and ``--threads``."""
    option = click.option(
        "--device",
        default="auto",
        show_default=True,
        metavar="auto|cpu|cuda|…",
        help="Where to compute; auto: on a GPU where there is one",
    )
    return lambda function: option(threads_option(threads)(function))


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


def workers(help: str, smallest: int = 1) -> Callable:
    """``--workers``: processes or threads, as many as cores unless told otherwise."""
    return click.option(
        "--workers",
        type=click.IntRange(min=smallest),
        default=cores,
        show_default="one per core",
        help=help,
    )


def overwrite(what: str) -> Callable:
    """``--overwrite``: without it finished results are not replaced; ``check_new`` asks."""
    return switch("--overwrite", default=False, help=f"Replace what is there already: {what}")


def check_new(
    path: str | os.PathLike, overwrite: bool, option: str = "--dest", *, folder: bool = False
) -> None:
    """Raise ``UserError`` if ``path`` cannot be written, or is there and is to stay.

    Nothing is left behind: a folder that is missing is made when there is something to put into it.
    """
    path = Path(path)
    if os.path.lexists(path) and not overwrite:
        raise UserError(
            f"{path} exists already; give --overwrite to replace it, or another {option}."
        )
    check_writable(path, option, folder=folder)


def check_writable(path: str | os.PathLike, option: str, *, folder: bool = False) -> None:
    """Raise ``UserError`` if ``path`` cannot be written, before time is spent on it.

    It is a file, or with ``folder`` a folder.

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
    """Degrees on the command line, radians in Python: ``30`` -> 0.5236.

    With ``many`` a comma list of them.
    """

    name = "degrees"

    def __init__(self, many: bool = False, largest: float = 360.0) -> None:
        self.many, self.largest = many, largest
        self.name = "degrees,…" if many else "degrees"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
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


class Resolution(click.ParamType):
    """Pixels of images: ``320x240`` -> ``(320, 240)``, and ``64`` or ``64x64`` -> ``(64, 64)``.

    64 with ``square``.
    """

    name = "pixels"

    def __init__(self, square: bool = False, smallest: int = 1, largest: int | None = None) -> None:
        self.square, self.smallest, self.largest = square, smallest, largest
        self.name = "N" if square else "N|WxH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """What is no string is returned as it is."""
        if not isinstance(value, str):
            return value
        match = re.fullmatch(r"(\d+)(?:x(\d+))?", value)
        if not match:
            wanted = "no number such as 64" if self.square else "neither a number nor WIDTHxHEIGHT"
            self.fail(f"'{value}' is {wanted}")
        width, height = int(match[1]), int(match[2] or match[1])
        if self.square and width != height:
            self.fail(f"the images are square here, but {value} is not; give one number")
        for side in (width, height):
            if side < self.smallest or self.largest is not None and side > self.largest:
                upper = "" if self.largest is None else f" and {self.largest} at most"
                self.fail(f"{value}: sides have {self.smallest} pixels at least{upper}")
        return width if self.square else (width, height)


class IntRangeList(click.ParamType):
    """``0,1,4-6`` -> [0, 1, 4, 5, 6]."""

    name = "list"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
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

    name = "list"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, (list, tuple)):
            return list(value)
        try:
            return [float(part) for part in str(value).split(",")]
        except ValueError:
            self.fail(f"'{value}' is not a comma-separated list of numbers")


class Matrix(click.ParamType):
    """Sixteen numbers with commas, row by row, or a text file that holds them -> 4 rows of 4."""

    name = "FILE|16 NUMBERS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """What is no string is returned as it is."""
        if not isinstance(value, str):
            return value
        # os.path's isfile and not Path's, which fails on a name as long as sixteen numbers in full
        # precision are.
        try:
            words = Path(value).read_text().split() if os.path.isfile(value) else value.split(",")
            values = [float(word.strip(",[]")) for word in words if word.strip(",[]")]
        except ValueError:
            self.fail(f"'{value}' is neither a text file nor sixteen numbers with commas")
        if len(values) != 16:
            self.fail(f"'{value}' has {len(values)} numbers, but a 4x4 matrix has 16")
        return [values[row : row + 4] for row in range(0, 16, 4)]


def expand(text: str, names: tuple[str, ...] = ()) -> list[str]:
    """``anna,108-110`` -> names; a range of numbers keeps their leading zeros.

    What is in ``names`` is no range.
    """
    found = []
    for part in (part.strip() for part in text.split(",")):
        first, dash, last = part.partition("-")
        if (
            dash
            and first.isdecimal()
            and last.isdecimal()
            and int(first) <= int(last)
            and part not in names
        ):
            found += [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
        elif part:
            found.append(part)
    return found
