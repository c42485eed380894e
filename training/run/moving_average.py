"""The moving average of a model's weights, which is what a run saves."""

import torch
from torch import nn


@torch.no_grad()
def move_average(average: nn.Module, model: nn.Module, weight: float) -> None:
    """Move the parameters of ``average`` to those of ``model``: a + ``weight`` * (m - a).

    Buffers stay as they are. Both models must have the same parameters.
    """
    torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]: it has no other name
        list(average.parameters()), list(model.parameters()), weight
    )
