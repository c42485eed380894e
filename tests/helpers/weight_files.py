"""Random weights laid out as the public files are: torchvision's classifiers and LPIPS's linear weights."""

import hashlib
import math
from pathlib import Path

import torch
from torch import Tensor

# Index in `features`, channels in, channels out, kernel: as in torchvision's state dicts.
VGG16_LAYOUT = [(0, 3, 64), (2, 64, 64), (5, 64, 128), (7, 128, 128), (10, 128, 256), (12, 256, 256), (14, 256, 256),
                (17, 256, 512), (19, 512, 512), (21, 512, 512), (24, 512, 512), (26, 512, 512), (28, 512, 512)]
ALEXNET_LAYOUT = [(0, 3, 64, 11), (3, 64, 192, 5), (6, 192, 384, 3), (8, 384, 256, 3), (10, 256, 256, 3)]
CHANNELS = {"vgg": (64, 128, 256, 512, 512), "alex": (64, 192, 384, 256, 256)}


def backbone_state(kind: str, seed: int = 0) -> dict[str, Tensor]:
    """As much of a classifier's state dict as matters here, and one layer that does not."""
    random = torch.Generator().manual_seed(seed)
    state = {}
    for index, before, after, *kernel in VGG16_LAYOUT if kind == "vgg" else ALEXNET_LAYOUT:
        size = kernel[0] if kernel else 3
        gain = math.sqrt(2 / (before * size * size))  # keeps the activations' size (He et al. 2015)
        state[f"features.{index}.weight"] = torch.randn(after, before, size, size, generator=random) * gain
        state[f"features.{index}.bias"] = torch.randn(after, generator=random) * 0.1
    state["classifier.6.bias"] = torch.zeros(10)
    return state


def linear_state(kind: str, seed: int = 1) -> dict[str, Tensor]:
    """The lpips repository's layout: 1x1 convolutions without bias, never negative."""
    random = torch.Generator().manual_seed(seed)
    return {f"lin{layer}.model.1.weight": torch.rand(1, width, 1, 1, generator=random)
            for layer, width in enumerate(CHANNELS[kind])}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def trusted(path: Path) -> str:
    """How an option names a file whose hash is not public."""
    return f"{path}#sha256={sha256(path)}"


def write_weights(folder: Path, kind: str) -> tuple[Path, Path]:
    """Backbone (in torch's old format, as the public VGG16 file) and linear weights."""
    backbone, linear = folder / f"{kind}-backbone.pth", folder / f"{kind}-linear.pth"
    torch.save(backbone_state(kind), backbone, _use_new_zipfile_serialization=kind == "alex")
    torch.save(linear_state(kind), linear)
    return backbone, linear


def spec(kind: str, files: tuple[Path, Path]) -> str:
    return f"lpips-{kind}:{','.join(map(trusted, files))}"
