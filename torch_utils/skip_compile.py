"""``torch.compiler.disable`` with types, at no cost where nothing is compiled."""

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

Function = TypeVar("Function", bound=Callable)


def skip_compile(function: Function) -> Function:
    """Keep ``torch.compile`` away from a function; to a type checker the function stays itself.

    ``torch.compiler.disable`` imports the compiler, which takes about as long as torch itself. As
    long as nobody else has imported it, nothing is compiled, and the function is called as it is.
    """
    disabled: Callable | None = None

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal disabled
        if "torch._dynamo" not in sys.modules:
            return function(*args, **kwargs)
        if disabled is None:
            disabled = torch.compiler.disable(function)
        return disabled(*args, **kwargs)

    call._torchdynamo_disable = True  # pyright: ignore[reportAttributeAccessIssue]: what it looks for
    return cast(Function, call)
