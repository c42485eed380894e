"""3D Gaussian heads: generate, render, save.

Attributes load on first use, so importing costs little.

>>> model = gghead.load("demo")
>>> head = model.sample(seed=3, psi=0.7)
>>> image = model.render(head, gghead.Cameras.orbit(yaw=0.4), 256).color
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gghead import (
        animation,
        cameras,
        checkpoints,
        data,
        editing,
        inversion,
        latent,
        models,
        perceptual,
        reconstruction,
        rendering,
        sampling,
        template,
        training,
        video,
    )
    from gghead.animation.animate import animate
    from gghead.cameras import Cameras
    from gghead.checkpoints import load, save
    from gghead.gaussians import Gaussians
    from gghead.inversion.one_image import invert
    from gghead.latent import Latent
    from gghead.models.avatar import Avatar
    from gghead.models.generator import Generator
    from gghead.models.reconstructor import Reconstructor
    from gghead.reconstruction.one_head import reconstruct
    from gghead.rendering import rasterization, render
    from gghead.template import Template, load_template

__version__ = "0.1.0"
__all__ = [
    "Avatar",
    "Cameras",
    "Gaussians",
    "Generator",
    "Latent",
    "Reconstructor",
    "Template",
    "animate",
    "animation",
    "cameras",
    "checkpoints",
    "data",
    "editing",
    "inversion",
    "invert",
    "latent",
    "load",
    "load_template",
    "models",
    "perceptual",
    "rasterization",
    "reconstruct",
    "reconstruction",
    "render",
    "rendering",
    "sampling",
    "save",
    "template",
    "training",
    "video",
]

_HOMES = {
    "Avatar": "gghead.models.avatar",
    "Cameras": "gghead.cameras",
    "Gaussians": "gghead.gaussians",
    "Generator": "gghead.models.generator",
    "Latent": "gghead.latent",
    "Reconstructor": "gghead.models.reconstructor",
    "Template": "gghead.template",
    "animate": "gghead.animation.animate",
    "invert": "gghead.inversion.one_image",
    "load": "gghead.checkpoints",
    "load_template": "gghead.template",
    "rasterization": "gghead.rendering",
    "reconstruct": "gghead.reconstruction.one_head",
    "render": "gghead.rendering",
    "save": "gghead.checkpoints",
}
_PACKAGES = sorted(set(__all__) - set(_HOMES))


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _PACKAGES:
        return importlib.import_module(f"gghead.{name}")
    raise AttributeError(f"module 'gghead' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
