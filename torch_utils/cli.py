"""Command lines the StyleGAN way: dashes or underscores, ``--flag=1``, comma lists and ranges, one-sentence errors."""

import functools
import importlib
import math
import re
from collections.abc import Callable

import click

from gghead.torch_utils.errors import UserError

BOOL = click.BOOL  # --mirror=1, --mirror=true
_CONTEXT = {"token_normalize_func": lambda token: token.replace("_", "-"), "max_content_width": 120}


def command(**settings) -> Callable:
    """``click.command`` that accepts ``--trunc_cutoff`` for ``--trunc-cutoff`` and prints ``UserError`` as one line."""

    def decorate(function: Callable) -> click.Command:
        @functools.wraps(function)
        def guarded(*args, **kwargs):
            try:
                return function(*args, **kwargs)
            except UserError as error:
                raise click.ClickException(str(error)) from error

        return click.command(context_settings=_CONTEXT, **settings)(guarded)

    return decorate


def switch(*names: str, **settings) -> Callable:
    """``click.option`` for a truth value: ``--mirror``, ``--mirror=1``, ``--mirror=0``, ``--mirror=false``."""
    return click.option(*names, type=BOOL, is_flag=False, flag_value=True, **settings)


class Degrees(click.ParamType):
    """Degrees on the command line, radians in Python: ``30`` -> 0.5236; with ``many`` a comma list of them."""

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
                self.fail(f"{part} is no angle between -{self.largest:g} and {self.largest:g} degrees")
            found.append(math.radians(degrees))
        return found if self.many else found[0]


class _LazyGroup(click.Group):
    """A group whose subcommands are imported when they are named or listed."""

    def __init__(self, modules: dict[str, str], default: str | None = None, **settings):
        super().__init__(context_settings=_CONTEXT, **settings)
        self._modules, self._default = modules, default

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if self._default and args and args[0].startswith("-") and args[0] not in ctx.help_option_names:
            args = [self._default, *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._modules)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return importlib.import_module(self._modules[name]).main if name in self._modules else None


def lazy_group(text: str, modules: dict[str, str], default: str | None = None) -> click.Group:
    """Return a command with the subcommands ``modules`` (name -> module whose ``main`` is the command).

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
