"""``gghead benchmark raster``: the rasterizers, and the native one against its physical floor."""

import math
import multiprocessing
from collections.abc import Callable

import click
import torch

from gghead.cameras import Cameras
from gghead.cli.common import pick_device
from gghead.rendering import native_backend, rasterization, registry
from gghead.torch_utils.machine import keep_freed_memory
from gghead.torch_utils.rng import generator
from gghead.training.benchmarks.common import describe_machine, interleaved_medians, resident_growth

Scene = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def head_scene(images: int, count: int, channels: int, seed: int, device: torch.device) -> Scene:
    """Gaussians on an ellipsoid of about a head's size, in random order.

    Returns means, quats, scales, opacities and colors.

    The standard deviations are 0.6 to 1.4 of the spacing (half of that along the third axis), so
    that at an image size of sqrt(count) pixels a splat is about as large as a pixel, as in
    training.
    """
    rng = generator(seed, "benchmark", count)
    index = torch.arange(count) + 0.5
    polar, height = math.pi * (1 + math.sqrt(5)) * index, 1 - 2 * index / count
    ring = (1 - height.square()).sqrt()
    points = torch.stack([ring * polar.cos() * 0.26, height * 0.36, ring * polar.sin() * 0.30], -1)
    points = points[torch.randperm(count, generator=rng)].repeat(images, 1, 1)
    spacing = math.sqrt(4 * math.pi * 0.3**2 / count)
    scales = (
        spacing
        * (0.6 + 0.8 * torch.rand(images, count, 3, generator=rng))
        * torch.tensor([1.0, 1.0, 0.5])
    )

    def place(values: torch.Tensor) -> torch.Tensor:
        return values.to(device).requires_grad_()

    return (
        place(points),
        place(torch.randn(images, count, 4, generator=rng)),
        place(scales),
        place(0.3 + 0.65 * torch.rand(images, count, generator=rng)),
        place(torch.rand(images, count, channels, generator=rng)),
    )


def measure(
    gaussians: list[int],
    size: list[int],
    images: int,
    channels: list[int],
    backends: str,
    device: str | torch.device,
    repeats: int,
    seed: int,
    memory: bool,
) -> dict:
    """Time the backends, print a row for each, and return the report.

    The arguments are the command's options.
    """
    device = pick_device(str(device))
    names = registry.available_names(device) if backends == "all" else tuple(backends.split(","))
    for name in names:
        registry.resolve(name, device)
    if device.type == "cpu":
        keep_freed_memory()
    about = describe_machine(device)
    if "native" in names:
        about["native"] = native_backend.available()[1]
    click.echo(", ".join(f"{key} {value}" for key, value in about.items()))
    click.echo(f"{images} images per call, medians of {repeats} interleaved rounds in ms")
    click.echo(
        f"{'Gaussians':>9} {'size':>5} {'ch':>3} {'backend':>8} {'forward':>9} {'fwd+bwd':>9}"
        f" {'x fastest':>9}  native only: project + composite | backward of both, x floor forward |"
        " forward + backward"
    )
    rows = []
    for count in gaussians:
        for pixels in size:
            for width in channels:
                new = _time_scene(names, count, pixels, images, width, seed, repeats, device)
                for row in new if memory else ():
                    scene = (row["backend"], count, pixels, images, width)
                    with multiprocessing.get_context("spawn").Pool(1) as pool:
                        row["extra_memory_mib"] = pool.apply(_extra_memory, scene)
                    click.echo(
                        f"{row['backend']:>28} {row['extra_memory_mib']:9.0f} MiB above what it"
                        " starts from"
                    )
                rows += new
    return {"machine": about, "rows": rows}


def _extra_memory(name: str, count: int, pixels: int, images: int, channels: int) -> float:
    """MiB by which the process's resident memory rises in one forward and backward pass.

    The most of it, on Linux.
    """
    cameras = Cameras.orbit(torch.linspace(-0.5, 0.5, images)[:, None])

    def step(inputs: Scene, size: int) -> None:
        rendered, alphas, _ = rasterization(
            *inputs, cameras.viewmats, cameras.Ks(size, size), size, size, backend=name
        )
        torch.autograd.grad(rendered.sum() + alphas.sum(), inputs)

    # code and threads are there from now on
    step(head_scene(images, 64, channels, 0, torch.device("cpu")), 16)
    inputs = head_scene(images, count, channels, 0, torch.device("cpu"))
    return resident_growth(lambda: step(inputs, pixels))


def _time_scene(
    names: tuple[str, ...],
    count: int,
    pixels: int,
    images: int,
    channels: int,
    seed: int,
    repeats: int,
    device: torch.device,
) -> list[dict]:
    inputs = head_scene(images, count, channels, seed, device)
    cameras = Cameras.orbit(torch.linspace(-0.5, 0.5, images, device=device)[:, None])
    view = (cameras.viewmats, cameras.Ks(pixels, pixels), pixels, pixels)
    weights = None

    def forward(name: str) -> Callable[[], tuple[torch.Tensor, torch.Tensor, dict]]:
        def run() -> tuple[torch.Tensor, torch.Tensor, dict]:
            with torch.no_grad():
                return rasterization(*inputs, *view, backend=name)

        return run

    def both(name: str) -> Callable[[], object]:
        def run() -> object:
            rendered, alphas, _ = rasterization(*inputs, *view, backend=name)
            return torch.autograd.grad((rendered, alphas), inputs, weights)

        return run

    weights = [torch.randn(image.shape, device=device) for image in forward(names[0])()[:2]]
    ahead = interleaved_medians({name: forward(name) for name in names}, repeats, device)
    whole = interleaved_medians({name: both(name) for name in names}, repeats, device)
    fastest = min(whole.values())
    rows = []
    for name in names:
        row = {
            "gaussians": count,
            "size": pixels,
            "images": images,
            "channels": channels,
            "backend": name,
            "forward_ms": ahead[name],
            "forward_backward_ms": whole[name],
            "ratio_to_fastest": whole[name] / fastest,
        }
        line = (
            f"{count:9d} {pixels:5d} {channels:3d} {name:>8} {ahead[name]:9.2f} {whole[name]:9.2f} "
            f"{row['ratio_to_fastest']:9.2f}"
        )
        if name == "native":
            row |= _native_figures([value.detach() for value in inputs], view, repeats, device)
            stages, floor = row["stages_ms"], row["floor_ms"]
            row["x_floor_forward"] = (stages["project"] + stages["composite"]) / floor["forward"]
            row["x_floor"] = sum(stages.values()) / (floor["forward"] + floor["backward"])
            line += (
                f"  {stages['project']:.2f} + {stages['composite']:.2f} |"
                f" {stages['composite_backward']:.2f} + {stages['project_backward']:.2f},"
                f" {row['x_floor_forward']:.1f} | {row['x_floor']:.1f}"
            )
        click.echo(line)
        rows.append(row)
    return rows


def _native_figures(
    inputs: list[torch.Tensor],
    view: tuple[torch.Tensor, torch.Tensor, int, int],
    repeats: int,
    device: torch.device,
) -> dict:
    """The native operators by themselves, without torch's share, and the floor of the same scene.

    Vector instructions of sixteen lanes per pair of Gaussian and 4x4 block, at the measured rate of
    multiply-adds: 25 + C forward (quadratic form, exp2, blend, C colors), 77 + 2C backward.
    Traffic: what has to be read and written once per Gaussian (attributes, a record of 64 bytes per
    16 floats, gradients) and 16 bytes per pair, at 55 GB/s while it fits into 32 MB and at 27 GB/s
    beyond.
    """
    means, quats, scales, opacities, colors = inputs
    viewmats, Ks, width, height = view
    viewmats, Ks = viewmats.float().contiguous(), Ks.float().contiguous()
    (batch, count, channels), cameras = colors.shape, viewmats.shape[1]
    operators, options = torch.ops.gghead_splat, (width, height, 0.01, 1e10, 0.3, False)
    gaussians = (means, quats, scales, opacities, viewmats, Ks)
    means2d, depths, conics, faded, radii = operators.project(*gaussians, *options)
    images = batch * cameras
    flat = (
        means2d.flatten(0, 1),
        conics.flatten(0, 1),
        faded.flatten(0, 1),
        colors[:, None].expand(-1, cameras, -1, -1).reshape(images, count, channels),
        depths.flatten(0, 1),
        radii.flatten(0, 1),
        None,
        width,
        height,
    )
    image, alphas, plan, lists = operators.composite(*flat, True)
    weights = torch.randn_like(image), torch.randn_like(alphas)
    upstream = [torch.randn_like(value) for value in (means2d, depths, conics, faded)]
    stages = interleaved_medians(
        {
            "project": lambda: operators.project(*gaussians, *options),
            "composite": lambda: operators.composite(*flat, True),
            "composite_backward": lambda: operators.composite_backward(
                *weights, plan, lists, None, count
            ),
            "project_backward": lambda: operators.project_backward(
                *upstream, *gaussians, *options, False
            ),
        },
        repeats,
        device,
    )
    visits, rate = operators.visits(plan, images, width, height), operators.fma_rate(0.1)
    record = 64 * math.ceil((6 + channels) / 16)
    read = images * count * 4 * (11 + channels)
    traffic = {
        "forward": read + images * count * record + 16 * visits,
        "backward": 2 * read + 2 * images * count * record + 16 * visits,
    }
    instructions = {"forward": 25 + channels, "backward": 77 + 2 * channels}
    floor = {
        name: 1000 * (visits * instructions[name] / rate + moved / (55e9 if moved < 32e6 else 27e9))
        for name, moved in traffic.items()
    }
    return {"stages_ms": stages, "floor_ms": floor, "visits": visits, "fma_per_s": rate}
