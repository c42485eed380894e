"""The names of the stages of inversion, which latent files carry; a module without torch."""

import typing
from typing import Literal

Stage = Literal["encoder", "w", "w+", "z", "pti"]
STAGES: tuple[Stage, ...] = typing.get_args(Stage)
"""The stages in their order; each starts from the one before it. A network with an encoder begins
with it, one without with w."""
OPTIMIZED = STAGES[1:]
"""The stages that take steps."""
