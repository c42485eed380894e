"""3D Gaussian heads: generate, render, save. Attributes load on first use, so importing costs
little.

>>> model = gghead.load("training-runs/00000-tiny-heads")
>>> head = model.sample(seed=3, psi=0.7)
>>> image = gghead.render(head, gghead.Cameras.orbit(yaw=0.4), size=256).color
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gghead.animation.animate import animate
    from gghead.cameras import Cameras
    from gghead.checkpoints import load
    from gghead.gaussians import Gaussians
    from gghead.rendering import rasterization, render
    from gghead.template import load_template

__version__ = "0.1.0"
__all__ = [
    "Cameras",
    "Gaussians",
    "animate",
    "animation",
    "inversion",
    "load",
    "load_template",
    "rasterization",
    "render",
    "rendering",
]

_HOMES = {
    "Cameras": "gghead.cameras",
    "Gaussians": "gghead.gaussians",
    "animate": "gghead.animation.animate",
    "load": "gghead.checkpoints",
    "load_template": "gghead.template",
    "rasterization": "gghead.rendering",
    "render": "gghead.rendering",
}
_PACKAGES = ("animation", "inversion", "rendering")


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _PACKAGES:
        return importlib.import_module(f"gghead.{name}")
    raise AttributeError(f"module 'gghead' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES, *_PACKAGES])
