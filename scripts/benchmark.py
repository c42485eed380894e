"""Benchmarks: ``python scripts/benchmark.py raster`` and so on; every subcommand prints a table and can write JSON."""

import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch  # noqa: E402

from gghead.cameras import Cameras  # noqa: E402
from gghead.rendering import rasterization, registry  # noqa: E402
from torch_utils.cli import IntRangeList, command  # noqa: E402
from torch_utils.rng import generator  # noqa: E402


@click.group()
def main() -> None:
    """Measure parts of the system on this machine."""


def machine(device: torch.device) -> dict[str, str | int]:
    """What the figures were measured on."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = models[0] if models else processor
    about = {
        "processor": processor,
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "simd": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else -1,
    }
    if device.type == "cuda":
        about["gpu"] = torch.cuda.get_device_name(device)
    return about


def interleaved_medians(runs: dict[str, Callable[[], object]], repeats: int, device: torch.device) -> dict[str, float]:
    """Median milliseconds of every run. They take turns, so that other work on the machine hits all of them alike."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            _synchronize(device)
            start = time.perf_counter()
            run()
            _synchronize(device)
            if repeat > 0:  # the first round warms up
                times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def head_scene(images: int, count: int, channels: int, seed: int, device: torch.device) -> list[torch.Tensor]:
    """Means, quats, scales, opacities and colours of Gaussians on an ellipsoid of about a head's size, in random order.

    The standard deviations are 0.6 to 1.4 of the spacing (half of that along the third axis), so that at a picture size
    of sqrt(count) pixels a splat is about as large as a pixel, as in training.
    """
    rng = generator(seed, "benchmark", count)
    index = torch.arange(count) + 0.5
    polar, height = math.pi * (1 + math.sqrt(5)) * index, 1 - 2 * index / count
    ring = (1 - height.square()).sqrt()
    points = torch.stack([ring * polar.cos() * 0.26, height * 0.36, ring * polar.sin() * 0.30], -1)
    points = points[torch.randperm(count, generator=rng)].repeat(images, 1, 1)
    spacing = math.sqrt(4 * math.pi * 0.3**2 / count)
    scales = spacing * (0.6 + 0.8 * torch.rand(images, count, 3, generator=rng)) * torch.tensor([1.0, 1.0, 0.5])
    tensors = [
        points,
        torch.randn(images, count, 4, generator=rng),
        scales,
        0.3 + 0.65 * torch.rand(images, count, generator=rng),
        torch.rand(images, count, channels, generator=rng),
    ]
    return [tensor.to(device).requires_grad_() for tensor in tensors]


@main.add_command
@command(name="raster")
@click.option("--gaussians", type=IntRangeList(), default="4096", show_default=True, help="Gaussians per image (list)")
@click.option("--size", type=IntRangeList(), default="64", show_default=True, help="picture sizes in pixels (list)")
@click.option("--images", type=click.IntRange(1), default=16, show_default=True, help="images per call")
@click.option("--channels", type=click.IntRange(1), default=6, show_default=True, help="colour channels")
@click.option("--backends", default="all", show_default=True, help="comma list, or all that work here")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda")
@click.option("--repeats", type=click.IntRange(1), default=9, show_default=True, help="timed rounds; the median counts")
@click.option("--threads", type=click.IntRange(1), help="torch threads  [default: torch's own choice]")
@click.option("--seed", type=int, default=0, show_default=True, help="seed of the scene")
@click.option("--json", "json_path", type=click.Path(dir_okay=False), help="write the figures to this file")
def raster(gaussians, size, images, channels, backends, device, repeats, threads, seed, json_path) -> None:
    """Time the rasteriser backends on a head-like scene, forward and with gradients, taking turns."""
    if threads:
        torch.set_num_threads(threads)
    device = torch.device(device)
    names = registry.available_names(device) if backends == "all" else tuple(backends.split(","))
    for name in names:
        registry.resolve(name, device)
    about = machine(device)
    click.echo(", ".join(f"{key} {value}" for key, value in about.items()))
    click.echo(f"{images} images per call, {channels} channels, medians of {repeats} interleaved rounds in ms")
    click.echo(f"{'Gaussians':>9} {'size':>5} {'backend':>8} {'forward':>9} {'fwd+bwd':>9} {'x fastest':>9}")
    rows = []
    for count in gaussians:
        for pixels in size:
            rows += _time_scene(names, count, pixels, images, channels, seed, repeats, device)
    if json_path:
        Path(json_path).write_text(json.dumps({"machine": about, "rows": rows}, indent=2) + "\n")
        click.echo(f"wrote {json_path}")


def _time_scene(
    names: tuple[str, ...], count: int, pixels: int, images: int, channels: int, seed: int, repeats: int, device
) -> list[dict]:
    inputs = head_scene(images, count, channels, seed, device)
    cameras = Cameras.orbit(torch.linspace(-0.5, 0.5, images, device=device)[:, None])
    view = (cameras.viewmats, cameras.Ks(pixels, pixels), pixels, pixels)

    def forward(name: str) -> Callable[[], object]:
        def run():
            with torch.no_grad():
                return rasterization(*inputs, *view, backend=name)

        return run

    def both(name: str) -> Callable[[], object]:
        def run():
            pictures, alphas, _ = rasterization(*inputs, *view, backend=name)
            return torch.autograd.grad(pictures.square().sum() + alphas.sum(), inputs)

        return run

    ahead = interleaved_medians({name: forward(name) for name in names}, repeats, device)
    whole = interleaved_medians({name: both(name) for name in names}, repeats, device)
    fastest = min(whole.values())
    rows = []
    for name in names:
        ratio = whole[name] / fastest
        click.echo(f"{count:9d} {pixels:5d} {name:>8} {ahead[name]:9.2f} {whole[name]:9.2f} {ratio:9.2f}")
        rows.append(
            {
                "gaussians": count,
                "size": pixels,
                "images": images,
                "channels": channels,
                "backend": name,
                "forward_ms": ahead[name],
                "forward_backward_ms": whole[name],
                "ratio_to_fastest": ratio,
            }
        )
    return rows


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
