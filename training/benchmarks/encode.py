"""``gghead benchmark encode``: time and memory of a reconstruction against the number of views."""

import multiprocessing

import click
import torch

from gghead.cameras import Cameras
from gghead.checkpoints import load
from gghead.cli.common import pick_device
from gghead.models.reconstructor import Reconstructor
from gghead.torch_utils.machine import keep_freed_memory
from gghead.training.benchmarks.common import describe_machine, interleaved_medians, resident_growth
from gghead.training.encoder.config import PRESETS
from gghead.training.run.precision import choose, encoder_layers


def measure(
    network: str | None,
    preset: str,
    views: list[int],
    size: int | None,
    device: str | torch.device,
    repeats: int,
    memory: bool,
) -> dict:
    """Time reconstructions, print a row per number of views, and return the report.

    The arguments are the command's options.
    """
    device = pick_device(str(device))
    if device.type == "cpu":
        keep_freed_memory()
    model = _model(network, preset, device)
    size = size or model.generator.config.image_size
    about = describe_machine(device)
    click.echo(", ".join(f"{key} {value}" for key, value in about.items()))
    parameters = sum(value.numel() for value in model.parameters()) / 1e6
    click.echo(
        f"{network or 'untrained ' + preset}, {parameters:.2f} M parameters, views of {size}"
        f" pixels, {model.generator.attributes.num} Gaussians, {str(model.dtype)[6:]}, medians of"
        f" {repeats} rounds"
    )
    inputs = {count: _views(count, size, device) for count in views}
    with torch.inference_mode():
        latent = model.encode(*inputs[views[0]])
        runs = {
            f"encode {count}": lambda given=given: model.encode(*given)
            for count, given in inputs.items()
        }
        medians = interleaved_medians(
            {**runs, "decode": lambda: latent.gaussians(model.generator)}, repeats, device
        )
    rows = []
    for count in views:
        row = {
            "views": count,
            "encode_ms": medians[f"encode {count}"],
            "decode_ms": medians["decode"],
        }
        if memory:
            row |= _memory(network, preset, count, size, device)
        rows.append(row)
        beyond = (
            f"   peak {row['extra_memory_mib']:7.0f} MiB above the loaded network" if memory else ""
        )
        click.echo(
            f"{count:3d} views: encode {row['encode_ms']:9.1f} ms, decode {row['decode_ms']:7.1f}"
            f" ms{beyond}"
        )
    return {"machine": about, "network": network or preset, "size": size, "rows": rows}


def _model(network: str | None, preset: str, device: torch.device) -> Reconstructor:
    model = (
        load(network, device, kind="reconstructor")
        if network
        else Reconstructor(PRESETS[preset].model).to(device)
    )
    if choose(device, encoder_layers(model.config, 1))[0] == "bf16":
        model.dtype = torch.bfloat16
    return model.eval().requires_grad_(False)


def _views(count: int, size: int, device: torch.device) -> tuple[torch.Tensor, Cameras]:
    """Noise from cameras in front: what an image shows does not change the time."""
    random = torch.Generator().manual_seed(0)
    cameras = Cameras.orbit(torch.linspace(-1.2, 1.2, count) if count > 1 else 0.0, focal=2.9).to(
        device
    )
    return torch.rand(1, count, 3, size, size, generator=random).to(device), cameras.reshape(
        1, count
    )


def _memory(
    network: str | None, preset: str, count: int, size: int, device: torch.device
) -> dict[str, float]:
    if device.type == "cuda":
        model, given = _model(network, preset, device), _views(count, size, device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        _reconstruct(model, given)
        return {"extra_memory_mib": (torch.cuda.max_memory_allocated(device) - before) / 2**20}
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return {"extra_memory_mib": pool.apply(_extra_memory, (network, preset, count, size))}


def _reconstruct(model: Reconstructor, given: tuple[torch.Tensor, Cameras]) -> None:
    with torch.inference_mode():
        model.encode(*given).gaussians(model.generator)


def _extra_memory(network: str | None, preset: str, count: int, size: int) -> float:
    """MiB by which the process's resident memory rises at most in one reconstruction (Linux)."""
    device = torch.device("cpu")
    model = _model(network, preset, device)
    _reconstruct(model, _views(1, 16, device))  # code and threads are there from now on
    given = _views(count, size, device)
    return resident_growth(lambda: _reconstruct(model, given))
