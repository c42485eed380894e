"""The template itself as Gaussians, painted with brows, eyes and lips: a head whose geometry is
known."""

import torch

from gghead.gaussians import Gaussians
from gghead.models.attributes import GaussianAttributes
from gghead.models.config import AttributeConfig
from gghead.template import load_template
from gghead.template.preview import head_colors


def painted_head(grid: int = 64) -> Gaussians:
    """Batch shape (1,)."""
    attributes = GaussianAttributes(AttributeConfig(), load_template("head"), grid)
    raw = {
        name: torch.zeros(1, attributes.num, channels)
        for name, channels in attributes.config.channels.items()
    }
    head = attributes.activate(raw)
    head.colors = torch.from_numpy(head_colors(attributes.position.numpy())).float()[None]
    head.uv = head.uv.contiguous()
    return head
