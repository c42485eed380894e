"""Views in, head out: reading and checking views, judging heads by them, refining latents, writing
results."""

from gghead.reconstruction.inputs import InputViews, from_captures, read_inputs
from gghead.reconstruction.report import compare

__all__ = ["InputViews", "compare", "from_captures", "read_inputs"]
