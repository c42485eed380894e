"""``torch.compiler.disable`` with types."""

from collections.abc import Callable
from typing import TypeVar, cast

import torch

Function = TypeVar("Function", bound=Callable)


def skip_compile(function: Function) -> Function:
    """Keep ``torch.compile`` away from a function; to a type checker the function stays itself.

    The return type of ``torch.compiler.disable`` is not declared, and what type checkers conclude
    from its source is a function of one argument.
    """
    return cast(Function, torch.compiler.disable(function))
