"""L = 0.8 L1 + 0.2 D-SSIM + 0.1 perceptual (HeadGaS, equation 6)."""

import torch
from torch import Tensor

from gghead.image_metrics import ssim
from gghead.perceptual import load_distance
from gghead.training.avatar.config import AvatarLossConfig


class AvatarLoss:
    """The loss of one image; the perceptual part is off unless the config names a network."""

    def __init__(
        self, config: AvatarLossConfig, device: torch.device, size: tuple[int, int] | None = None
    ) -> None:
        """``size``: width and height of the images.

        Raises ``UserError`` if the network cannot be read or needs larger ones.
        """
        self.config, self.network = config, None
        if config.perceptual_net is not None:
            self.network = load_distance(config.perceptual_net, "`perceptual_net`", device)
            if size is not None:
                self.network.check_size(*size)

    @property
    def description(self) -> str:
        """The line that says which perceptual term there is and why."""
        config = self.config
        if self.network is None:
            return "no perceptual term, because `perceptual_net` names no network"
        if config.perceptual <= 0:
            return f"no perceptual term, because its weight is {config.perceptual:g}"
        where = ", in the head's box" if self.network.any_size else ""
        return (
            f"perceptual term: {config.perceptual:g} times {self.network.name}{where}, from"
            f" iteration {config.perceptual_from} on"
        )

    def __call__(
        self, image: Tensor, truth: Tensor, mask: Tensor, iteration: int
    ) -> dict[str, Tensor]:
        """``image`` and ``truth`` [3, H, W] over the same background, ``mask`` [1, H, W].

        All parts and "total".
        """
        config = self.config
        parts = {"l1": (image - truth).abs().mean(), "dssim": 1 - ssim(image, truth)}
        total = config.l1 * parts["l1"] + config.dssim * parts["dssim"]
        if (
            self.network is not None
            and config.perceptual > 0
            and iteration >= config.perceptual_from
        ):
            crops = [part[None] * 2 - 1 for part in (image, truth)]
            if self.network.any_size:
                top, bottom, left, right = head_box(mask, smallest=self.network.smallest)
                crops = [part[..., top:bottom, left:right] for part in crops]
            parts["perceptual"] = self.network(*crops).mean()
            total = total + config.perceptual * parts["perceptual"]
        parts["total"] = total
        return parts


# [1, H, W]
def head_box(mask: Tensor, margin: float = 0.05, smallest: int = 1) -> tuple[int, int, int, int]:
    """Top, bottom, left, right of what the mask shows, with a margin.

    The whole image for an empty mask.

    Boxes are widened to ``smallest`` pixels a side where the image has them.
    """
    height, width = mask.shape[-2:]
    rows, columns = (mask[0] > 0.5).any(1).nonzero()[:, 0], (mask[0] > 0.5).any(0).nonzero()[:, 0]
    if not len(rows):
        return 0, height, 0, width
    return (*_range(rows, margin, smallest, height), *_range(columns, margin, smallest, width))


def _range(line: Tensor, margin: float, smallest: int, length: int) -> tuple[int, int]:
    first, last = int(line[0]), int(line[-1]) + 1
    extra = int(margin * (last - first))
    first, last = max(first - extra, 0), min(last + extra, length)
    size = max(last - first, smallest)
    first = max(min(first - (size - (last - first)) // 2, length - size), 0)
    return first, min(first + size, length)
