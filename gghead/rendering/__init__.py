"""Rendering of Gaussians.

``render`` for heads and cameras, ``rasterization`` with gsplat's signature, backends.

The way of ``means`` from a head to C++:

1. ``render.render`` takes a head's Gaussians and cameras, and hands tensors to
2. ``rasterization.rasterization``, which checks shapes, chooses a backend (``registry``), and calls
3. the backend's ``project``: ``native_backend.project`` -> ``csrc/splat_projection.cpp``, or the
   plain torch of ``projection.project``; out come 2D means, conics, depths and radii;
4. ``sh`` turns spherical harmonics into colors where there are any;
5. the backend's ``composite``: ``native_backend.composite`` -> ``csrc/splat_composite.cpp``, which
   plans, bins (``splat_bins.h``), blends (``splat_blocks.h``) and packs for the backward pass.

``torch_backend`` is the same in plain torch and the specification that the others are tested
against; ``gsplat_backend`` does both steps in one call on GPUs.
"""

from gghead.rendering.rasterization import rasterization
from gghead.rendering.render import RenderOutput, render

__all__ = ["RenderOutput", "rasterization", "render"]
