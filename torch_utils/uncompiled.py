"""``torch.compiler.disable`` with types."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def uncompiled(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Keep ``torch.compile`` away from a function; to a type checker the function stays itself.

    The return type of ``torch.compiler.disable`` is not declared, and what type checkers conclude
    from its source is a function of one argument.
    """
    return torch.compiler.disable(function)
