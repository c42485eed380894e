"""How well a head shows views whose truth is known."""

import torch
from torch import Tensor

from gghead.gaussians import Gaussians
from gghead.image_metrics import psnr, ssim
from gghead.reconstruction.inputs import InputViews
from gghead.rendering import render


@torch.no_grad()
def compare(head: Gaussians, truth: InputViews) -> tuple[dict[str, Tensor], Tensor]:
    """Return psnr_mask (inside the mask), psnr, ssim and iou (of the masks at 0.5), each [V], and the head (batch shape
    (1,)) as the views' cameras see it over white, [V, 3, H, W]."""
    out = render(head, truth.cameras, truth.size, background=1.0, depth=False)
    color, shown, mask = out.color[0], out.alpha[0] > 0.5, truth.alpha > 0.5
    union = (shown | mask).flatten(1).sum(1).clamp_min(1)
    return {"psnr_mask": psnr(color, truth.rgb, truth.alpha), "psnr": psnr(color, truth.rgb),
            "ssim": ssim(color, truth.rgb), "iou": (shown & mask).flatten(1).sum(1) / union}, color
