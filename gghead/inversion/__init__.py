"""From images back to latents: what ``scripts/invert.py`` does, from Python.

Also the latent files that all commands accept.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gghead.inversion.config import InversionConfig
    from gghead.inversion.stages import Inversion, StageResult
    from gghead.inversion.targets import Target, open_targets
    from gghead.latent import Latent, load, save

_HOMES = {
    "Inversion": "gghead.inversion.stages",
    "InversionConfig": "gghead.inversion.config",
    "Latent": "gghead.latent",
    "StageResult": "gghead.inversion.stages",
    "Target": "gghead.inversion.targets",
    "load": "gghead.latent",
    "open_targets": "gghead.inversion.targets",
    "save": "gghead.latent",
}
__all__ = [
    "Inversion",
    "InversionConfig",
    "Latent",
    "StageResult",
    "Target",
    "load",
    "open_targets",
    "save",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is used, so that a command's help needs no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
