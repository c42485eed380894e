"""L = 0.8 L1 + 0.2 D-SSIM + 0.1 perceptual (HeadGaS, equation 6)."""

import torch
from torch import Tensor

from gghead.image_metrics import ssim
from torch_utils.errors import UserError
from training.avatar.config import AvatarLossConfig


class AvatarLoss:
    """The loss of one picture; the perceptual part needs the user's own network and is otherwise off."""

    def __init__(self, config: AvatarLossConfig, device: torch.device) -> None:
        self.config, self.network = config, None
        if config.perceptual_net is not None:
            self.network = load_network(config.perceptual_net, "--perceptual-net", device)

    def __call__(self, picture: Tensor, truth: Tensor, mask: Tensor, iteration: int) -> dict[str, Tensor]:
        """``picture`` and ``truth`` [3, H, W] over the same background, ``mask`` [1, H, W]; all parts and "total"."""
        config = self.config
        parts = {"l1": (picture - truth).abs().mean(), "dssim": 1 - ssim(picture, truth)}
        total = config.l1 * parts["l1"] + config.dssim * parts["dssim"]
        if self.network is not None and config.perceptual > 0 and iteration >= config.perceptual_from:
            top, bottom, left, right = head_box(mask)
            crops = [image[None, :, top:bottom, left:right] * 2 - 1 for image in (picture, truth)]
            parts["perceptual"] = self.network(*crops).mean()
            total = total + config.perceptual * parts["perceptual"]
        parts["total"] = total
        return parts


def load_network(path: str, option: str, device: torch.device) -> torch.nn.Module:
    """The user's distance network, (picture, truth) [1, 3, H, W] in [-1, 1] -> a number."""
    try:
        network = torch.jit.load(path, map_location=device).eval()
    except (RuntimeError, ValueError, OSError) as error:
        raise UserError(f"{option}={path} is no TorchScript file; export your network with torch.jit.save.") from error
    for parameter in network.parameters():  # ScriptModules have no requires_grad_ of their own
        parameter.requires_grad_(False)
    return network


def head_box(mask: Tensor, margin: float = 0.05) -> tuple[int, int, int, int]:  # [1, H, W]
    """Top, bottom, left, right of what the mask shows, with a margin; the whole picture for an empty mask."""
    height, width = mask.shape[-2:]
    rows, columns = (mask[0] > 0.5).any(1).nonzero()[:, 0], (mask[0] > 0.5).any(0).nonzero()[:, 0]
    if not len(rows):
        return 0, height, 0, width
    dy, dx = (int(margin * (line[-1] - line[0] + 1)) for line in (rows, columns))
    return (max(int(rows[0]) - dy, 0), min(int(rows[-1]) + 1 + dy, height),
            max(int(columns[0]) - dx, 0), min(int(columns[-1]) + 1 + dx, width))  # fmt: skip
