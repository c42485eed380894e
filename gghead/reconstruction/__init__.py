"""Views in, head out.

It reads and checks views, judges heads by them, refines latents and writes results.
"""

from gghead.reconstruction.inputs import InputViews, from_captures, read_inputs
from gghead.reconstruction.report import compare

__all__ = ["InputViews", "compare", "from_captures", "read_inputs"]
