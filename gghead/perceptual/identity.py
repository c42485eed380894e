"""How much two pictures show the same person, by a face recognition network that the user brings."""

import torch
import torch.nn.functional as F
from torch import Tensor

from gghead.perceptual.distances import Distance
from gghead.perceptual.script import read_script
from gghead.perceptual.weights import locate
from gghead.torch_utils.dtypes import at_least_float32
from gghead.torch_utils.errors import UserError

_SIDE = 112  # pixels a side that ArcFace and its relatives take


class IdentitySimilarity(Distance):
    """Cosine of two embeddings, 1 for the same (Deng et al. 2019, "ArcFace"; EG3D's table "ID"): more is better.

    The network is TorchScript: faces [B, 3, 112, 112] in [-1, 1], RGB -> vectors [B, D].
    """

    def __init__(self, network: torch.jit.ScriptModule, name: str) -> None:
        super().__init__()
        self.network, self.name = network, name

    def measure(self, picture: Tensor, truth: Tensor) -> Tensor:
        small = [F.interpolate(images, (_SIDE, _SIDE), mode="bilinear", antialias=True, align_corners=False)
                 for images in (picture, truth)]
        first, second = (self.network(images) for images in small)
        if not isinstance(first, Tensor) or first.ndim != 2 or len(first) != len(picture):
            said = list(first.shape) if isinstance(first, Tensor) else type(first).__name__
            raise UserError(f"{self.name} returned {said} for {len(picture)} faces; a recognition network returns one "
                            "vector per face.")
        return F.cosine_similarity(at_least_float32(first), at_least_float32(second), dim=1)


def load_identity(spec: str, option: str, device: torch.device | str = "cpu") -> IdentitySimilarity:
    """Read a TorchScript file or URL. Raises ``UserError`` for a file that is missing or none."""
    file = locate(spec, option, any_hash=True)
    network = read_script(file, option, device)
    return IdentitySimilarity(network, f"face recognition network {file.title}").freeze()
