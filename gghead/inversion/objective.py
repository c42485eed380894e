"""What a reconstruction is judged by while it is optimized.

Pixels and their gradients at several scales, and alpha.

Needs no download; a perceptual distance is added where the user names one. Every loss is one number
per image, so that images in one batch do not influence each other.
"""

import torch
from torch import Tensor

from gghead.cameras import Cameras
from gghead.gaussians import Gaussians
from gghead.image_metrics import image_loss
from gghead.inversion.config import ObjectiveConfig
from gghead.models.generator import Generator
from gghead.perceptual import Distance
from gghead.rendering import RenderOutput


class Objective:
    """The loss of a batch of images.

    With a mask the image is put over white by it, as the networks without a background of their
    own were trained, and the rendered alpha shall equal the mask. Without one, or where the network
    draws its own background, the whole image is matched.
    """

    def __init__(
        self,
        model: Generator,
        rgb: Tensor,
        mask: Tensor | None,
        config: ObjectiveConfig,
        perceptual: Distance | None = None,
    ) -> None:
        """``rgb`` [B, 3, S, S] in [0, 1], ``mask`` [B, 1, S, S] in [0, 1]."""
        self.config, self.perceptual = config, perceptual
        self.mask = mask if model.config.background.kind == "none" else None
        self.target = rgb if self.mask is None else rgb * self.mask + (1 - self.mask)

    def __call__(self, color: Tensor, alpha: Tensor) -> Tensor:  # [B, 3, S, S], [B, 1, S, S] -> [B]
        loss = image_loss(color, self.target, self.config)
        if self.mask is not None:
            loss = loss + self.config.alpha * _mean((alpha - self.mask).abs())
        if self.perceptual is not None and self.config.perceptual > 0:
            loss = loss + self.config.perceptual * self.perceptual(
                color * 2 - 1, self.target * 2 - 1
            )
        return loss


def draw(
    model: Generator,
    gaussians: Gaussians,
    ws: Tensor,
    cameras: Cameras,
    size: int | None = None,
) -> RenderOutput:
    """Render heads over the network's own background if it draws one, else over white.

    As ``model.images`` does.
    """
    size = size or model.config.image_size
    return model.render(
        gaussians, cameras, size, background=model.background_image(ws, size), depth=False
    )


def _mean(values: Tensor) -> Tensor:  # [B, ...] -> [B]
    return values.flatten(1).mean(1)


def nonfinite(loss: Tensor, gradients: list[Tensor]) -> Tensor:  # [B] -> bool [B]
    """Which images' loss or gradients are not finite."""
    bad = ~torch.isfinite(loss)
    for gradient in gradients:
        bad = bad | ~torch.isfinite(gradient).reshape(len(gradient), -1).all(1)
    return bad
