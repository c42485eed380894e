"""Rendering of Gaussians: ``render`` for heads and cameras, ``rasterization`` with gsplat's
signature, backends."""

from gghead.rendering.rasterization import rasterization
from gghead.rendering.render import RenderOutput, render

__all__ = ["RenderOutput", "rasterization", "render"]
