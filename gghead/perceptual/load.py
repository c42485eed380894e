"""From what an option says to a distance.

One loader for every command that takes a perceptual network.

=============================  ====================================================================
``lpips-vgg[:FILE[,FILE]]``    LPIPS with VGG16: backbone, linear weights
``lpips-alex[:FILE[,FILE]]``   LPIPS with AlexNet, likewise
``vgg[:FILE]``                 plain differences of VGG16's features
``efficientnet-lite0[:FILE]``  differences of EfficientNet-Lite0's features (also lite1, lite2)
``discriminator:RUN``          differences of the activations of a GAN run's discriminator
``gradient``                   differences of pixels and gradients at several scales; no download
``FILE``                       TorchScript: (image, truth) in [-1, 1] -> a number per image
=============================  ====================================================================

A FILE is a path or a URL, with ``#sha256=HEX`` after it where its hash is not public knowledge.
Files that are not named are the public ones, taken from the cache or downloaded. See
docs/perceptual.md.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from gghead.networks.discriminator import Discriminator
from gghead.perceptual import weights
from gghead.perceptual.backbones import ALEXNET, VGG16, Architecture, Backbone
from gghead.perceptual.distances import (
    LPIPS,
    DiscriminatorDistance,
    Distance,
    FeatureDistance,
    GradientDistance,
)
from gghead.perceptual.efficientnet_lite import (
    LITE0,
    LITE1,
    LITE2,
    EfficientNetLite,
    LiteArchitecture,
)
from gghead.perceptual.torchscript import load_script
from gghead.perceptual.weights import PublicFile, WeightFile, locate, read_tensors
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.files import write_atomically

_METRICS = ("lpips-vgg", "lpips-alex", "a TorchScript file")


def load_distance(spec: str, option: str = "spec", device: torch.device | str = "cpu") -> Distance:
    """Read the distance that ``spec`` names; the module's table lists the names.

    It takes (image, truth) [B, 3, H, W] in [-1, 1] and gives [B].

    ``option`` is what sentences call ``spec``; a command gives the option it came from. Raises
    ``UserError`` for an unknown kind, a missing, damaged or foreign file, a hash that is
    unknown or wrong, and a failed download.
    """
    kind, colon, rest = spec.partition(":")
    if kind in _KINDS:
        return _KINDS[kind](rest, option).freeze().to(device)
    if (
        not spec.startswith(("http://", "https://"))
        and not Path(spec.partition("#sha256=")[0]).is_file()
    ):
        raise UserError(
            f"{option}={spec} is neither a kind of distance ({', '.join(_KINDS)}) nor an existing "
            "TorchScript file."
        )
    return load_script(locate(spec, option, any_hash=True), option, device).freeze()


def load_for_training(
    spec: str | None, sizes: Iterable[int], device: torch.device | str
) -> Distance | None:
    """The distance that a run's ``perceptual_net`` names, or ``None`` where it names none.

    Raises ``UserError`` as ``load_distance``, and for sides of images that it cannot take.
    """
    if spec is None:
        return None
    distance = load_distance(spec, "`perceptual_net`", device)
    for size in sizes:
        distance.check_size(size, size)
    return distance


def is_program(spec: str) -> bool:
    """Whether ``spec`` names TorchScript, which runs what its author wrote.

    All other kinds are weights alone.
    """
    return spec.partition(":")[0] not in _KINDS


def load_metric(spec: str, option: str = "spec", device: torch.device | str = "cpu") -> Distance:
    """As ``load_distance``, but only for what may be reported as LPIPS."""
    kind = spec.partition(":")[0]
    if kind in _KINDS and not kind.startswith("lpips-"):
        raise UserError(
            f"{option}={spec} is no LPIPS, and no number that is not LPIPS is reported under that"
            f" name; choose from {', '.join(_METRICS)}."
        )
    return load_distance(spec, option, device)


def choose_distance(
    spec: str | None, option: str, device: torch.device | str = "cpu"
) -> tuple[Distance, str]:
    """The distance to train with, and the line to print that says which one it is and why.

    Without ``spec`` it is the multi-scale gradient loss, which needs no file.
    """
    if spec is None:
        distance = GradientDistance().to(device)
        return (
            distance,
            f"perceptual loss: {distance.name} (no download), because {option} names no network",
        )
    distance = load_distance(spec, option, device)
    return distance, f"perceptual loss: {distance.name}, because of {option}={spec}"


def load_discriminator(run: str, option: str) -> tuple[Discriminator, Path]:
    """The discriminator of a GAN run, and its file.

    The run is a folder (its newest readable state) or a ``training-state-*.pt``.

    Snapshots hold the generator only, training states both. Raises ``UserError`` if there is none.
    """
    path = Path(run)
    states = sorted(path.glob("training-state-*.pt"), reverse=True) if path.is_dir() else [path]
    if not run or not states or not states[0].is_file():
        raise UserError(
            f"{option}: {run or 'discriminator:'} holds no training-state-*.pt with a"
            " discriminator; name a run folder of train.py or one of its states."
        )
    for state_file in states:
        try:
            state = torch.load(state_file, map_location="cpu", weights_only=True)["trainer"]["D"]
            return Discriminator.from_state_dict(state), state_file
        except UserError as error:
            raise UserError(f"{option}: {state_file}: {error}.") from error
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{option}: {state_file} is no state of a GAN run; it holds no discriminator."
            ) from error
        except Exception as error:  # torch.load raises many kinds for a damaged file
            print(
                f"{state_file} cannot be read ({type(error).__name__}); trying the state before it."
            )
    raise UserError(f"{option}: {run} holds no readable training state; name another run.")


def save_lpips(distance: LPIPS, path: str | os.PathLike) -> str:
    """Write backbone and linear weights to one safetensors file, and return its SHA-256.

    The classifier that the public VGG16 file carries is left out. The hash belongs after
    ``#sha256=`` where the file is named.

    Raises ``UserError`` for a distance that is not LPIPS, or if the file cannot be written.
    """
    from safetensors.torch import save

    if not isinstance(distance, LPIPS):
        raise UserError(f"Only LPIPS is saved as one file, but this is: {distance.name}.")
    state = {
        name: value.cpu().contiguous() for name, value in distance.backbone.state_dict().items()
    }
    for layer in range(len(distance.backbone.channels)):
        state[_LINEAR.format(layer)] = (
            distance.get_buffer(f"weight{layer}").cpu()[None, :, None, None].contiguous()
        )
    data = save(state)
    write_atomically(path, lambda file: file.write(data))
    return hashlib.sha256(data).hexdigest()


# -------------------------------------------------------------------------------------------- kinds
_LINEAR = "lin{}.model.1.weight"  # of the lpips repository's files


def _lpips(
    architecture: Architecture, backbone_file: PublicFile, linear_file: PublicFile
) -> Callable:
    def load(rest: str, option: str) -> Distance:
        first, second = _files(rest, 2, option)
        file = locate(first, option, backbone_file)
        tensors = read_tensors(file, option)
        backbone = _backbone(architecture, tensors, file, option)
        titles = [file.title]
        if second or _LINEAR.format(0) not in tensors:  # else one file holds everything
            file = locate(second, option, linear_file)
            tensors = read_tensors(file, option)
            titles.append(file.title)
        linear = [
            _take(tensors, _LINEAR.format(layer), (1, width, 1, 1), file, option).flatten()
            for layer, width in enumerate(backbone.channels)
        ]
        return LPIPS(backbone, linear, f"LPIPS {architecture.name} ({', '.join(titles)})")

    return load


def _vgg(rest: str, option: str) -> Distance:
    file = locate(_files(rest, 1, option)[0], option, weights.VGG16)
    backbone = _backbone(VGG16, read_tensors(file, option), file, option)
    return FeatureDistance(backbone, f"{VGG16.name} features ({file.title})")


def _lite(architecture: LiteArchitecture, public: PublicFile) -> Callable:
    def load(rest: str, option: str) -> Distance:
        file = locate(_files(rest, 1, option)[0], option, public)
        tensors = read_tensors(file, option)
        backbone = EfficientNetLite(architecture).load(
            lambda name, shape: _take(tensors, name, shape, file, option, architecture.name)
        )
        return FeatureDistance(backbone, f"{architecture.name} features ({file.title})")

    return load


def _discriminator(rest: str, option: str) -> Distance:
    discriminator, path = load_discriminator(rest, option)
    return DiscriminatorDistance(discriminator, f"features of the discriminator in {path}")


def _gradient(rest: str, option: str) -> Distance:
    if rest:
        raise UserError(
            f"{option}=gradient:{rest}: this distance takes no file; write {option}=gradient."
        )
    return GradientDistance()


_KINDS: dict[str, Callable[[str, str], Distance]] = {
    "lpips-vgg": _lpips(VGG16, weights.VGG16, weights.LPIPS_VGG16),
    "lpips-alex": _lpips(ALEXNET, weights.ALEXNET, weights.LPIPS_ALEXNET),
    "vgg": _vgg,
    "efficientnet-lite0": _lite(LITE0, weights.LITE0),
    "efficientnet-lite1": _lite(LITE1, weights.LITE1),
    "efficientnet-lite2": _lite(LITE2, weights.LITE2),
    "discriminator": _discriminator,
    "gradient": _gradient,
}


def _files(rest: str, count: int, option: str) -> list[str]:
    parts = rest.split(",")
    if len(parts) > count:
        raise UserError(
            f"{option}: '{rest}' names {len(parts)} files, but this distance is read from "
            f"{'two at most, backbone and linear weights' if count == 2 else 'one'}."
        )
    return parts + [""] * (count - len(parts))


def _backbone(
    architecture: Architecture, tensors: dict[str, Tensor], file: WeightFile, option: str
) -> Backbone:
    with torch.device("meta"):  # no random weights that would be thrown away
        shapes = {
            name: tuple(value.shape)
            for name, value in Backbone(architecture).features.state_dict().items()
        }
    state = {
        name: _take(tensors, f"features.{name}", shape, file, option, architecture.name)
        for name, shape in shapes.items()
    }
    backbone = Backbone(architecture)
    backbone.features.load_state_dict(state)
    return backbone


def _take(
    tensors: dict[str, Tensor],
    name: str,
    shape: Sequence[int],
    file: WeightFile,
    option: str,
    what: str = "LPIPS",
) -> Tensor:
    value = tensors.get(name)
    if value is None or tuple(value.shape) != tuple(shape):
        found = "no" if value is None else f"a {list(value.shape)}"
        held = ", ".join(list(tensors)[:3]) or "nothing"
        raise UserError(
            f"{option}: {file.path} is not of {what}: it has {found} {name} (needed:"
            f" {list(shape)}); it holds {held}."
        )
    if not bool(value.isfinite().all()):
        raise UserError(f"{option}: {name} in {file.path} is not finite; download the file again.")
    return value.float()
