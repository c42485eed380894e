"""From pictures back to latents.

``scripts/invert.py`` from Python, and the latent files that all commands accept.
"""

from gghead.inversion.stages import Inversion, InversionConfig, StageResult
from gghead.inversion.targets import Target, open_targets
from gghead.latent import Latent, load, save

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
