"""Views that a decoder never saw: what it makes of them, and how near that is."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from gghead.image_metrics import psnr
from gghead.models.generator import Generator
from gghead.training.decoder.data import HeadViews


@torch.no_grad()
def score_held_out(
    model: Generator, styles: Tensor, heads: HeadViews, chosen: Iterable[int]
) -> tuple[Tensor, Tensor]:
    """PSNR in the masks, and the images, of the held-out views of some heads.

    ``styles`` are those of all heads, [H, w_dim]. Returns [K] dB, a mean over the views of each
    head, and [K, 2, 3, S, S] in [0, 1], the truth and the rendering of its first held-out view,
    both over white. Heads without such views are left out; K may be 0.
    """
    values, pairs = [], []
    for head in chosen:
        indices = heads.held_out[head]
        if not len(indices):
            continue
        white = torch.ones(1, len(indices), 3)
        batch = heads.read(np.array([head]), indices[None], white).to(styles.device)
        ws = styles[batch.head][:, None].expand(-1, model.num_ws, -1)
        out = model.render(model.gaussians(ws, "none"), batch.cameras, heads.size, depth=False)
        values.append(psnr(out.color, batch.image, batch.alpha).mean())
        pairs.append(torch.stack([batch.image[0, 0], out.color[0, 0].clamp(0, 1)]))
    if not values:
        return torch.zeros(0), torch.zeros(0, 2, 3, heads.size, heads.size)
    return torch.stack(values), torch.stack(pairs)
