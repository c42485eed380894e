"""Edits that all heads share, whether they come from seeds, photos or an encoder.

See ``docs/latents.md``.
"""

from gghead.editing.directions import Directions, find_directions
from gghead.editing.mixing import between, between_seeds, mix_layers
from gghead.editing.parts import part_mask
from gghead.editing.regions import PlaneBlend, blend_latents, blend_planes

__all__ = [
    "Directions",
    "PlaneBlend",
    "between",
    "between_seeds",
    "blend_latents",
    "blend_planes",
    "find_directions",
    "mix_layers",
    "part_mask",
]
