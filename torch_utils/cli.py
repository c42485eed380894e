"""Command lines the StyleGAN way: dashes or underscores, ``--flag=1``, comma lists and ranges, one-sentence errors."""

import functools
import re
from collections.abc import Callable

import click

from torch_utils.errors import UserError

BOOL = click.BOOL  # --mirror=1, --mirror=true; never a bare flag


def command(**settings) -> Callable:
    """``click.command`` that accepts ``--trunc_cutoff`` for ``--trunc-cutoff`` and prints ``UserError`` as one line."""

    def decorate(function: Callable) -> click.Command:
        @functools.wraps(function)
        def guarded(*args, **kwargs):
            try:
                return function(*args, **kwargs)
            except UserError as error:
                raise click.ClickException(str(error)) from error

        context = {"token_normalize_func": lambda token: token.replace("_", "-"), "max_content_width": 120}
        return click.command(context_settings=context, **settings)(guarded)

    return decorate


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
