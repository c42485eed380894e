"""Views in, head out.

It reads and checks views, judges heads by them, refines latents and writes results.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gghead.reconstruction.inputs import InputViews, from_captures, read_inputs
    from gghead.reconstruction.report import compare

_HOMES = {
    "InputViews": "inputs",
    "compare": "report",
    "from_captures": "inputs",
    "read_inputs": "inputs",
}
__all__ = ["InputViews", "compare", "from_captures", "read_inputs"]


def __getattr__(name: str) -> object:
    """Import a public name when it is used, so that a command's help needs no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
