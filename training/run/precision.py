"""The precision of a training's convolutions.

Chosen by timing the network's own layers, and kept by the run.

``bf16``: discriminators and encoders in bfloat16, and the generator where its Gaussians bear it
(``gghead.models.generator.bearable``), else in float32, on NVIDIA GPUs in TF32. ``tf32``: float32
convolutions round their inputs to 10 bits of mantissa there. ``fp32``: float32 throughout. Geometry
and rendering are float32 in all.
"""

import hashlib
import json
import os
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor, nn

from gghead.models.config import DiscriminatorConfig, GeneratorConfig
from gghead.models.expression_config import ExpressionConfig
from gghead.models.generator import bearable
from gghead.models.reconstructor_config import ReconstructorConfig
from gghead.networks.discriminator import DiscriminatorBlock
from gghead.networks.synthesis import SynthesisBlock, channels_at
from gghead.networks.uv_transformer import Attention
from gghead.networks.view_encoder import ResidualBlock
from gghead.torch_utils import config as config_json
from gghead.torch_utils import threads
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.files import cache_dir, write_atomically
from gghead.torch_utils.machine import processor_features

PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}
_TIED = 0.95  # bf16 must take less than this share of fp32's time
_HOPELESS = 4.0  # so many times as long on a small image: the processor lacks the instructions
_BUDGET, _ROUND = 1.8, 0.15  # seconds: of a whole measurement, of one pass
_LARGEST = 300.0  # milliseconds: estimate of a pass of one image in both
_ROUNDS = 7
_SIDES = 16, 32, 64  # of maps, pixels
# What else decides how fast torch's convolutions are.
_ENVIRONMENT = (
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_DEFAULT_FPMATH_MODE",
    "ATEN_CPU_CAPABILITY",
)

Run = Callable[[], object]


class PreciseConfig(Protocol):
    """The config of a run whose convolutions have a precision."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def precision(self) -> str:
        """bf16, tf32 or fp32."""
        ...


Config = TypeVar("Config", bound=PreciseConfig)


@dataclass(frozen=True)
class Layers:
    """Layers that stand for a network."""

    name: str
    """Everything that makes them what they are; part of the name that their figures are kept
    under."""
    batch: int
    """Images per pass in training."""
    make: Callable[[int, int, torch.dtype], Run]
    """(images, largest side of a map, precision) -> a forward and a backward pass."""


@dataclass(frozen=True)
class Figures:
    """Medians of passes that took turns."""

    images: int
    """Images in a pass."""
    fp32: float
    """Milliseconds in float32."""
    bf16: float
    """Milliseconds in bfloat16."""

    def __str__(self) -> str:
        images = "1 image takes" if self.images == 1 else f"{self.images} images take"
        return f"{images} {self.fp32:.3g} ms in fp32, {self.bf16:.3g} ms in bf16 on this processor"


def choose(device: torch.device, layers: Layers) -> tuple[str, str]:
    """The faster precision for networks made of ``layers`` on this device, and the reason.

    On CPUs both are timed, once per processor, torch, number of threads and network; a tie goes to
    fp32. Of several processes the first one decides for all.
    """
    if device.type == "cuda":
        return (
            ("bf16", "the GPU has bf16")
            if _gpu_has_bf16()
            else ("fp32", "the GPU has no bf16 of its own")
        )
    if device.type != "cpu":
        return "fp32", f"bf16 is not used on {device.type}"
    threads.settle()
    figures: list[Figures | None] = [None]
    group = torch.distributed.is_available() and torch.distributed.is_initialized()
    if not group or torch.distributed.get_rank() == 0:
        figures = [figures_of(layers)]
    if group:
        torch.distributed.broadcast_object_list(figures, src=0)
    found = figures[0]
    assert found is not None  # the first process's
    return "bf16" if found.bf16 < _TIED * found.fp32 else "fp32", str(found)


def with_precision(config: Config, given: bool, device: torch.device, layers: Layers) -> Config:
    """A run's config with the precision that ``choose`` finds, and a line that says why.

    Where the user has ``given`` one it stays. Raises ``UserError`` as ``check_device``.
    """
    if not given:
        precision, why = choose(device, layers)
        config = config_json.replace(config, {"precision": precision})
        print(f"  precision {precision}: {why}")
    check_device(config.precision, device)
    return config


def agree(precision: str) -> str:
    """The first process's precision, where several chose before they joined."""
    chosen = [precision]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.broadcast_object_list(chosen, src=0)
    return chosen[0]


def _gpu_has_bf16() -> bool:
    try:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    except TypeError:  # a torch that emulates nothing
        return torch.cuda.is_bf16_supported()


def check_device(precision: str | None, device: torch.device) -> None:
    """Raise ``UserError`` where a precision that was asked for does not exist on the device."""
    if precision == "tf32" and device.type != "cuda":
        raise UserError(
            f"`precision='tf32'` is a mode of NVIDIA GPUs, but the run computes on {device.type};"
            " use fp32."
        )


def set_precision(precision: str, device: torch.device) -> None:
    """Tell cuDNN whether float32 convolutions may be computed in TF32, which it does by default.

    Matrix products never are: cameras and the frames of Gaussians are among them, and 10 bits would
    move Gaussians by half a pixel at 512.
    """
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = precision != "fp32"
        torch.backends.cuda.matmul.allow_tf32 = False


# ---------------------------------------------------------------------------------------- measuring
def measure(layers: Layers, clock: Callable[[], float] = time.perf_counter) -> Figures:
    """Time forward and backward passes in both precisions, in about 2 seconds."""
    begin = clock()

    def time_run(run: Run) -> float:
        start = clock()
        run()
        return 1000 * (clock() - start)

    def pair(images: int, side: int) -> dict[str, Run]:
        return {name: layers.make(images, side, PRECISIONS[name]) for name in ("fp32", "bf16")}

    def roughly(run: Run) -> float:
        first = time_run(run)  # oneDNN writes its code in it
        return first if first > _LARGEST else min(time_run(run) for _ in range(2))

    with torch.enable_grad(), torch.random.fork_rng(devices=[]):
        small = {name: roughly(run) for name, run in pair(1, _SIDES[0]).items()}
        side = max(
            (side for side in _SIDES if sum(small.values()) * (side / _SIDES[0]) ** 2 < _LARGEST),
            default=0,
        )
        if side <= _SIDES[0] or small["bf16"] > _HOPELESS * small["fp32"]:
            return Figures(1, small["fp32"], small["bf16"])
        images = int(1000 * _ROUND / roughly(layers.make(1, side, torch.float32)))
        images = max(min(images, layers.batch), 1)
        runs, times = pair(images, side), {"fp32": [], "bf16": []}
        for run in runs.values():
            run()
        while True:
            for name, run in runs.items():
                times[name].append(time_run(run))
            round_ = (times["fp32"][-1] + times["bf16"][-1]) / 1000
            if len(times["fp32"]) == _ROUNDS or clock() - begin + round_ > _BUDGET:
                return Figures(
                    images, statistics.median(times["fp32"]), statistics.median(times["bf16"])
                )


def figures_of(layers: Layers) -> Figures:
    """Figures that were kept from an earlier start on this processor, else new ones."""
    path = cache_dir("torch_extensions") / f"precision_{_digest(layers)}.json"
    with suppress(OSError, ValueError, TypeError):
        return Figures(**json.loads(path.read_text()))
    figures = measure(layers)
    with suppress(OSError, UserError):  # a cache that cannot be written only costs the time again
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.write(json.dumps(asdict(figures)).encode()))
    return figures


def _digest(layers: Layers) -> str:
    facts = [
        processor_features(),
        torch.backends.cpu.get_cpu_capability(),
        torch.__version__,
        str(torch.get_num_threads()),
        str(torch.backends.mkldnn.is_available()),
        *(os.environ.get(name, "") for name in _ENVIRONMENT),
        str(layers.batch),
        layers.name,
    ]
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()[:20]


# --------------------------------------------------------------------------- layers of our networks
def gan_layers(
    generator: GeneratorConfig, discriminator: DiscriminatorConfig, batch: int
) -> Layers:
    """The discriminator's three finest blocks, and the generator's finest in bf16."""

    def make(images: int, side: int, dtype: torch.dtype) -> Run:
        parts, size, widths = [], generator.image_size, (discriminator.cbase, discriminator.cmax)
        for resolution in (size, size // 2, size // 4):
            block = DiscriminatorBlock(
                channels_at(resolution, *widths), channels_at(resolution // 2, *widths)
            )
            parts.append(
                _pass(
                    block,
                    _maps(images, channels_at(resolution, *widths), min(resolution, side), dtype),
                )
            )
        if dtype == torch.float32 or bearable(generator, dtype) == dtype:
            parts += _decoder_block(generator, images, side, dtype)
        return lambda: [part() for part in parts]

    return Layers(f"gan {generator} {discriminator}", batch, make)


def generator_layers(generator: GeneratorConfig, batch: int) -> Layers:
    """The generator's finest block."""

    def make(images: int, side: int, dtype: torch.dtype) -> Run:
        return _decoder_block(generator, images, side, dtype)[0]

    return Layers(f"generator {generator}", batch, make)


def encoder_layers(model: ReconstructorConfig, batch: int) -> Layers:
    """A block of every level of the encoder, one of the transformer, and one more.

    The last is the generator's finest if in bf16.
    """
    generator = model.generator

    def make(images: int, side: int, dtype: torch.dtype) -> Run:
        parts = []
        for level, count in enumerate(model.channels):
            size = min(max(generator.image_size >> (level + 1), 1), side)
            parts.append(
                _pass(
                    ResidualBlock(count), _maps(images, count, size, torch.float32), autocast=dtype
                )
            )
        parts += _transformer_block(model, min(generator.latent_resolution, side), images, dtype)
        if dtype == torch.float32 or bearable(generator, dtype) == dtype:
            parts += _decoder_block(generator, images, side, dtype)
        return lambda: [part() for part in parts]

    return Layers(f"encoder {model}", batch, make)


def expression_layers(model: ExpressionConfig, batch: int) -> Layers:
    """One block of the transformer over the latent's texels."""

    def make(images: int, side: int, dtype: torch.dtype) -> Run:
        parts = _transformer_block(model, min(model.side, side), images, dtype)
        return lambda: [part() for part in parts]

    return Layers(f"expression {model}", batch, make)


def _decoder_block(
    generator: GeneratorConfig, images: int, side: int, dtype: torch.dtype
) -> list[Run]:
    fine = generator.plane_resolution
    coarse_channels, fine_channels = (
        channels_at(r, generator.cbase, generator.cmax) for r in (fine // 2, fine)
    )
    size = min(fine, side)
    block = SynthesisBlock(coarse_channels, fine_channels, generator.w_dim, size)
    ws = torch.randn(images, 2, generator.w_dim)
    return [_pass(block, _maps(images, coarse_channels, size // 2, dtype), ws, "const", None)]


def _transformer_block(
    model: ReconstructorConfig | ExpressionConfig, side: int, images: int, dtype: torch.dtype
) -> list[Run]:
    width, heads, hidden = model.width, model.heads, int(model.width * model.mlp_ratio)
    tokens = torch.randn(images, side**2, width, requires_grad=True)
    perceptron = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
    return [
        _pass(Attention(width, heads), tokens, tokens, autocast=dtype),
        _pass(perceptron, tokens, autocast=dtype),
    ]


def _maps(images: int, channels: int, side: int, dtype: torch.dtype) -> Tensor:
    maps = torch.randn(images, channels, side, side).to(dtype, memory_format=torch.channels_last)
    return maps.requires_grad_(True)


def _pass(module: nn.Module, *inputs, autocast: torch.dtype | None = None) -> Run:
    module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]: not declared

    def run() -> None:
        lower = autocast is not None and autocast != torch.float32
        with torch.autocast("cpu", dtype=autocast) if lower else nullcontext():
            out = module(*inputs)
        out.float().sum().backward()
        module.zero_grad(set_to_none=True)
        inputs[0].grad = None

    return run
