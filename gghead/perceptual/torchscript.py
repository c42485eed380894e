"""Networks that users bring as TorchScript: checks, and recognition of people."""

import torch
import torch.nn.functional as F
from torch import Tensor

from gghead.perceptual.distances import Distance
from gghead.perceptual.weights import WeightFile, locate
from gghead.torch_utils.checks import at_least_float32
from gghead.torch_utils.errors import UserError


class ScriptDistance(Distance):
    """A TorchScript network as a distance.

    It is called with (image, truth) in [-1, 1] and returns a number per image. A network with
    the argument ``return_lpips`` is NVIDIA's vgg16.pt (stylegan2-ada-pytorch, projector.py): it
    maps images in [0, 255] to vectors whose squared distance is LPIPS.
    """

    def __init__(self, network: torch.jit.ScriptModule, name: str) -> None:
        super().__init__()
        self.network, self.name = network, name
        arguments = {argument.name for argument in network.forward.schema.arguments}
        self.embeds = "return_lpips" in arguments

    def measure(self, image: Tensor, truth: Tensor) -> Tensor:
        if self.embeds:
            a, b = (
                self.network(images * 127.5 + 127.5, resize_images=False, return_lpips=True)
                for images in (image, truth)
            )
            return (a - b).square().flatten(1).sum(1)
        values = self._call(image, truth)
        if len(image) > 1 and values.numel() == 1:  # a mean over the batch
            pairs = zip(image.split(1), truth.split(1), strict=True)
            values = torch.cat([self._call(*pair).reshape(1) for pair in pairs])
        if values.numel() != len(image):
            raise UserError(
                f"{self.name} returned {list(values.shape)} for {len(image)} images; a distance"
                " network returns one number per image."
            )
        return values.reshape(-1)

    def _call(self, image: Tensor, truth: Tensor) -> Tensor:
        values = self.network(image, truth)
        if not isinstance(values, Tensor):
            raise UserError(
                f"{self.name} returned a {type(values).__name__}, but a distance network returns a"
                " tensor."
            )
        return values


def load_script(file: WeightFile, option: str, device: torch.device | str) -> ScriptDistance:
    """Read a TorchScript file. Raises ``UserError`` if it is none."""
    other = (
        f", or write lpips-vgg:{file.path.name} (lpips-alex:, vgg:, efficientnet-lite0:) for a file"
        " of weights"
    )
    return ScriptDistance(
        read_script(file, option, device, other), f"TorchScript network {file.title}"
    )


def read_script(
    file: WeightFile, option: str, device: torch.device | str, other: str = ""
) -> torch.jit.ScriptModule:
    """The network in a TorchScript file.

    Raises ``UserError`` if it is none; ``other`` is a further remedy.
    """
    try:
        return torch.jit.load(str(file.path), map_location=device)
    except (RuntimeError, ValueError, OSError) as error:
        raise UserError(
            f"{option}={file.path} is no TorchScript file; export your network with torch.jit.save"
            f"{other}."
        ) from error


_SIDE = 112  # pixels a side that ArcFace and its relatives take


class IdentitySimilarity(Distance):
    """Cosine of two embeddings, 1 for the same: more is better.

    Deng et al. 2019, "ArcFace"; the "ID" of EG3D's table.

    The network is TorchScript: faces [B, 3, 112, 112] in [-1, 1], RGB -> vectors [B, D].
    """

    def __init__(self, network: torch.jit.ScriptModule, name: str) -> None:
        super().__init__()
        self.network, self.name = network, name

    def measure(self, image: Tensor, truth: Tensor) -> Tensor:
        small = [
            F.interpolate(
                images, (_SIDE, _SIDE), mode="bilinear", antialias=True, align_corners=False
            )
            for images in (image, truth)
        ]
        first, second = (self.network(images) for images in small)
        if not isinstance(first, Tensor) or first.ndim != 2 or len(first) != len(image):
            said = list(first.shape) if isinstance(first, Tensor) else type(first).__name__
            raise UserError(
                f"{self.name} returned {said} for {len(image)} faces; a recognition network"
                " returns one vector per face."
            )
        return F.cosine_similarity(at_least_float32(first), at_least_float32(second), dim=1)


def load_identity(
    spec: str, option: str = "spec", device: torch.device | str = "cpu"
) -> IdentitySimilarity:
    """Read a TorchScript file or URL. Raises ``UserError`` for a file that is missing or none."""
    file = locate(spec, option, any_hash=True)
    network = read_script(file, option, device)
    return IdentitySimilarity(network, f"face recognition network {file.title}").freeze()
