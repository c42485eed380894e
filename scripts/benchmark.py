"""Benchmarks: ``python scripts/benchmark.py raster`` and so on; every subcommand prints a table and can write JSON."""

import json
import math
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch  # noqa: E402

from gghead.cameras import Cameras  # noqa: E402
from gghead.checkpoints import load  # noqa: E402
from gghead.data import benchmark as cost  # noqa: E402
from gghead.rendering import native_backend, rasterization, registry  # noqa: E402
from torch_utils.cli import IntRangeList, command  # noqa: E402
from torch_utils.errors import UserError  # noqa: E402
from torch_utils.memory import keep_freed_memory  # noqa: E402
from torch_utils.rng import generator  # noqa: E402
from training.cli import bf16_reason  # noqa: E402
from training.presets import PRESETS  # noqa: E402
from training.trainer import Trainer  # noqa: E402


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
@click.option("--gaussians", type=IntRangeList(), default="16384,65536", show_default=True,
              help="Gaussians per image (list)")
@click.option("--size", type=IntRangeList(), default="128,256", show_default=True, help="picture sizes (list)")
@click.option("--images", type=click.IntRange(1), default=1, show_default=True, help="images per call")
@click.option("--channels", type=IntRangeList(), default="3,6", show_default=True, help="colour channels (list)")
@click.option("--backends", default="all", show_default=True, help="comma list, or all that work here")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda")
@click.option("--repeats", type=click.IntRange(1), default=9, show_default=True, help="timed rounds; the median counts")
@click.option("--threads", type=click.IntRange(1), help="torch threads  [default: torch's own choice]")
@click.option("--seed", type=int, default=0, show_default=True, help="seed of the scene")
@click.option("--memory", is_flag=True, help="also the peak memory of forward + backward, each in a process of its own")
@click.option("--json", "json_path", type=click.Path(dir_okay=False), help="write the figures to this file")
def raster(gaussians, size, images, channels, backends, device, repeats, threads, seed, memory, json_path) -> None:
    """Time the rasteriser backends on a head-like scene, forward and with gradients, taking turns.

    For the native backend also its stages, and how far it stands above the floor: the vector instructions that the
    blocks with something to show need at least, at the measured rate of multiply-adds, plus the memory traffic.
    """
    if threads:
        torch.set_num_threads(threads)
    device = torch.device(device)
    names = registry.available_names(device) if backends == "all" else tuple(backends.split(","))
    for name in names:
        registry.resolve(name, device)
    if device.type == "cpu":
        keep_freed_memory()
    about = machine(device)
    if "native" in names:
        about["native"] = native_backend.available()[1]
    click.echo(", ".join(f"{key} {value}" for key, value in about.items()))
    click.echo(f"{images} images per call, medians of {repeats} interleaved rounds in ms")
    click.echo(f"{'Gaussians':>9} {'size':>5} {'ch':>3} {'backend':>8} {'forward':>9} {'fwd+bwd':>9} {'x fastest':>9}  "
               "native only: project + composite | backward of both, x floor forward | forward + backward")
    rows = []
    for count in gaussians:
        for pixels in size:
            for width in channels:
                new = _time_scene(names, count, pixels, images, width, seed, repeats, device)
                for row in new if memory else ():
                    scene = (row["backend"], count, pixels, images, width)
                    with multiprocessing.get_context("spawn").Pool(1) as pool:
                        row["extra_memory_mib"] = pool.apply(_extra_memory, scene)
                    click.echo(f"{row['backend']:>28} {row['extra_memory_mib']:9.0f} MiB above what it starts from")
                rows += new
    if json_path:
        Path(json_path).write_text(json.dumps({"machine": about, "rows": rows}, indent=2) + "\n")
        click.echo(f"wrote {json_path}")


def _extra_memory(name: str, count: int, pixels: int, images: int, channels: int) -> float:
    """MiB by which the process's resident memory rises at most in one forward and backward pass (Linux)."""
    cameras = Cameras.orbit(torch.linspace(-0.5, 0.5, images)[:, None])

    def step(inputs: list[torch.Tensor], size: int) -> None:
        pictures, alphas, _ = rasterization(*inputs, cameras.viewmats, cameras.Ks(size, size), size, size, backend=name)
        torch.autograd.grad(pictures.sum() + alphas.sum(), inputs)

    def status(key: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith(key)))

    step(head_scene(images, 64, channels, 0, torch.device("cpu")), 16)  # code and threads are there from now on
    inputs = head_scene(images, count, channels, 0, torch.device("cpu"))
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = status("VmRSS")
    step(inputs, pixels)
    return (status("VmHWM") - before) / 1024


def _time_scene(
    names: tuple[str, ...], count: int, pixels: int, images: int, channels: int, seed: int, repeats: int, device
) -> list[dict]:
    inputs = head_scene(images, count, channels, seed, device)
    cameras = Cameras.orbit(torch.linspace(-0.5, 0.5, images, device=device)[:, None])
    view = (cameras.viewmats, cameras.Ks(pixels, pixels), pixels, pixels)
    weights = None

    def forward(name: str) -> Callable[[], object]:
        def run():
            with torch.no_grad():
                return rasterization(*inputs, *view, backend=name)

        return run

    def both(name: str) -> Callable[[], object]:
        def run():
            pictures, alphas, _ = rasterization(*inputs, *view, backend=name)
            return torch.autograd.grad((pictures, alphas), inputs, weights)

        return run

    weights = [torch.randn(picture.shape, device=device) for picture in forward(names[0])()[:2]]
    ahead = interleaved_medians({name: forward(name) for name in names}, repeats, device)
    whole = interleaved_medians({name: both(name) for name in names}, repeats, device)
    fastest = min(whole.values())
    rows = []
    for name in names:
        row = {"gaussians": count, "size": pixels, "images": images, "channels": channels, "backend": name,
               "forward_ms": ahead[name], "forward_backward_ms": whole[name], "ratio_to_fastest": whole[name] / fastest}
        line = (f"{count:9d} {pixels:5d} {channels:3d} {name:>8} {ahead[name]:9.2f} {whole[name]:9.2f} "
                f"{row['ratio_to_fastest']:9.2f}")
        if name == "native":
            row |= _native_figures([value.detach() for value in inputs], view, repeats, device)
            stages, floor = row["stages_ms"], row["floor_ms"]
            row["x_floor_forward"] = (stages["project"] + stages["composite"]) / floor["forward"]
            row["x_floor"] = sum(stages.values()) / (floor["forward"] + floor["backward"])
            line += (f"  {stages['project']:.2f} + {stages['composite']:.2f} | {stages['composite_backward']:.2f} + "
                     f"{stages['project_backward']:.2f}, {row['x_floor_forward']:.1f} | {row['x_floor']:.1f}")
        click.echo(line)
        rows.append(row)
    return rows


def _native_figures(inputs: list[torch.Tensor], view, repeats: int, device) -> dict:
    """The native operators by themselves, without torch's share, and the floor of the same scene.

    Vector instructions of sixteen lanes per pair of Gaussian and 4x4 block, at the measured rate of multiply-adds:
    25 + C forward (quadratic form, exp2, blend, C colours), 77 + 2C backward. Traffic: what has to be read and written
    once per Gaussian (attributes, a record of 64 bytes per 16 floats, gradients) and 16 bytes per pair, at 55 GB/s
    while it fits into 32 MB and at 27 GB/s beyond.
    """
    means, quats, scales, opacities, colors = inputs
    viewmats, Ks, width, height = view
    viewmats, Ks = viewmats.float().contiguous(), Ks.float().contiguous()
    (batch, count, channels), cameras = colors.shape, viewmats.shape[1]
    operators, options = torch.ops.gghead_splat, (width, height, 0.01, 1e10, 0.3, False)
    gaussians = (means, quats, scales, opacities, viewmats, Ks)
    means2d, depths, conics, faded, radii = operators.project(*gaussians, *options)
    images = batch * cameras
    flat = (means2d.flatten(0, 1), conics.flatten(0, 1), faded.flatten(0, 1),
            colors[:, None].expand(-1, cameras, -1, -1).reshape(images, count, channels), depths.flatten(0, 1),
            radii.flatten(0, 1), None, width, height)
    picture, alphas, plan, lists = operators.composite(*flat, True)
    weights = torch.randn_like(picture), torch.randn_like(alphas)
    upstream = [torch.randn_like(value) for value in (means2d, depths, conics, faded)]
    stages = interleaved_medians({
        "project": lambda: operators.project(*gaussians, *options),
        "composite": lambda: operators.composite(*flat, True),
        "composite_backward": lambda: operators.composite_backward(*weights, plan, lists, None, count),
        "project_backward": lambda: operators.project_backward(*upstream, *gaussians, *options, False),
    }, repeats, device)  # fmt: skip
    visits, rate = operators.visits(plan, images, width, height), operators.fma_rate(0.1)
    record = 64 * math.ceil((6 + channels) / 16)
    read = images * count * 4 * (11 + channels)
    traffic = {"forward": read + images * count * record + 16 * visits,
               "backward": 2 * read + 2 * images * count * record + 16 * visits}
    instructions = {"forward": 25 + channels, "backward": 77 + 2 * channels}
    floor = {name: 1000 * (visits * instructions[name] / rate + moved / (55e9 if moved < 32e6 else 27e9))
             for name, moved in traffic.items()}
    return {"stages_ms": stages, "floor_ms": floor, "visits": visits, "fma_per_s": rate}


@main.add_command
@command(name="train")
@click.option("--preset", type=click.Choice(list(PRESETS)), default="tiny", show_default=True, help="what to train")
@click.option("--batch", type=click.IntRange(1), help="images per step  [default: the preset's]")
@click.option("--steps", type=click.IntRange(1), default=16, show_default=True, help="timed steps after two of warm-up")
@click.option("--warmup", type=click.IntRange(0), default=2, show_default=True, help="steps before the timed ones")
@click.option("--stage", type=click.IntRange(0), default=0, show_default=True, help="stage of the schedule to time")
@click.option("--precision", type=click.Choice(["bf16", "fp32"]), help="[default: as train.py chooses]")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda")
@click.option("--threads", type=click.IntRange(1), help="torch threads  [default: torch's own choice]")
@click.option("--profile", type=click.IntRange(0), default=12, show_default=True, help="rows of the operator table")
@click.option("--compare", is_flag=True, help="also time a plain step: fp32, torch rasteriser, fresh fakes")
@click.option("--json", "json_path", type=click.Path(dir_okay=False), help="write the figures to this file")
def train(preset, batch, steps, warmup, stage, precision, device, threads, profile, compare,
          json_path) -> None:
    """Time training steps on random images: seconds per kimg, peak memory, and where the time goes.

    Every 16th step also computes the gradient penalty; time a multiple of 16 steps for figures that contain it once
    in 16. ``--stage`` makes that stage the only one of the run.
    """
    if threads:
        torch.set_num_threads(threads)
    device = torch.device(device)
    config = PRESETS[preset]
    if stage >= len(config.stages):
        raise UserError(f"--stage={stage}: {preset} has the stages 0 to {len(config.stages) - 1}.")
    only = replace(config.stages[stage], start_kimg=0.0, fade_kimg=0.0)
    config = replace(config, batch=batch or config.batch, stages=(only,),
                     precision=precision or ("bf16" if bf16_reason(device)[0] else "fp32"))
    about = machine(device)
    click.echo(", ".join(f"{key} {value}" for key, value in about.items()))
    if device.type == "cpu":
        keep_freed_memory()
    trainer = Trainer(config, Cameras.orbit(torch.linspace(-0.4, 0.4, 16)).label(), device)
    counts = {name: sum(p.numel() for p in getattr(trainer, name).parameters()) for name in "GD"}
    click.echo(f"{preset} at {only.image_size} pixels, batch {config.batch}, {config.precision}: generator "
               f"{counts['G'] / 1e6:.2f} M parameters, discriminator {counts['D'] / 1e6:.2f} M, "
               f"{trainer.G.attributes.num} Gaussians, rasteriser {registry.resolve('auto', device)}")
    source, size = generator(0, "benchmark"), (config.batch, 4, only.image_size, only.image_size)
    pixels = torch.randint(0, 256, size, generator=source, dtype=torch.uint8)
    images = {"image": pixels[:, :3], "alpha": pixels[:, 3:],
              "label": trainer.labels[torch.arange(config.batch) % 16].cpu()}
    for _ in range(warmup):
        trainer.step(images)
    trainer.step_index = 0
    times = []
    for _ in range(steps):
        _synchronize(device)
        start = time.perf_counter()
        trainer.step(images)
        _synchronize(device)
        times.append(time.perf_counter() - start)
    figures = {
        "preset": preset, "batch": config.batch, "precision": config.precision, "steps": steps,
        "parameters": counts, "gaussians": trainer.G.attributes.num,
        "sec_per_kimg": sum(times) / (steps * config.batch) * 1000,
        "images_per_sec": steps * config.batch / sum(times),
        "median_step_ms": statistics.median(times) * 1000,
        "penalty_step_ms": times[0] * 1000,
        "peak_memory_gib": _peak_memory(device),
    }
    click.echo(f"{figures['sec_per_kimg']:.1f} s/kimg, {figures['images_per_sec']:.1f} images/s, median step "
               f"{figures['median_step_ms']:.0f} ms, step with penalty {figures['penalty_step_ms']:.0f} ms, peak "
               f"memory {figures['peak_memory_gib']:.2f} GiB")
    if compare:
        figures |= _compare_with_plain(trainer, images, steps)
    if profile:
        trainer.step_index = 0
        with torch.profiler.profile() as profiler:
            for _ in range(min(steps, 16)):
                trainer.step(images)
        events = sorted(profiler.key_averages(), key=lambda event: -event.self_cpu_time_total)
        total = sum(event.self_cpu_time_total for event in events)
        figures["operators"] = {event.key: event.self_cpu_time_total / total for event in events[:profile]}
        for name, share in figures["operators"].items():
            click.echo(f"{share:7.1%}  {name}")
    if json_path:
        Path(json_path).write_text(json.dumps({"machine": about, "train": figures}, indent=2) + "\n")
        click.echo(f"wrote {json_path}")


def _compare_with_plain(trainer: Trainer, images: dict[str, torch.Tensor], steps: int) -> dict[str, float]:
    """The same steps without the fast paths that can be switched off, each beside one with them."""
    plain_config = replace(trainer.config, precision="fp32", loss=replace(trainer.config.loss, reuse_fakes=False))
    plain = Trainer(plain_config, trainer.labels.cpu(), trainer.device)
    plain.step(images)  # warms up
    times: dict[str, list[float]] = {"fast": [], "plain": []}
    trainer.step_index = plain.step_index = 0
    before = os.environ.get(registry.ENVIRONMENT_VARIABLE)
    for _ in range(steps):
        for name, side, backend in (("fast", trainer, before), ("plain", plain, "torch")):
            os.environ[registry.ENVIRONMENT_VARIABLE] = backend or "auto"
            _synchronize(trainer.device)
            start = time.perf_counter()
            side.step(images)
            _synchronize(trainer.device)
            times[name].append(time.perf_counter() - start)
    os.environ[registry.ENVIRONMENT_VARIABLE] = before or "auto"
    ratio = sum(times["plain"]) / sum(times["fast"])
    means = {name: 1000 * statistics.mean(values) for name, values in times.items()}
    click.echo(f"plain step (fp32, torch rasteriser, fakes made anew for the discriminator): {means['plain']:.0f} ms "
               f"against {means['fast']:.0f} ms, {ratio:.1f} times as long; means of {steps} steps, taking turns")
    return {"plain_step_ms": means["plain"], "plain_over_fast": ratio}


@main.add_command
@command(name="sample")
@click.option("--network", default="demo", show_default=True, metavar="FILE|RUN|demo", help="what to sample from")
@click.option("--batch", type=IntRangeList(), default="1,16", show_default=True, help="heads or views at once (list)")
@click.option("--size", type=click.IntRange(1), help="pixels per side  [default: the training size]")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda")
@click.option("--repeats", type=click.IntRange(1), default=15, show_default=True, help="timed rounds")
@click.option("--threads", type=click.IntRange(1), help="torch threads  [default: torch's own choice]")
@click.option("--json", "json_path", type=click.Path(dir_okay=False), help="write the figures to this file")
def sample(network, batch, size, device, repeats, threads, json_path) -> None:
    """Time sampling: latent to picture, and new cameras for a head that is already there."""
    if threads:
        torch.set_num_threads(threads)
    device = torch.device(device)
    model = load(network, device)
    if bf16_reason(device)[0]:
        model.dtype = torch.bfloat16
    size = size or model.config.image_size
    about = machine(device)
    click.echo(", ".join(f"{key} {value}" for key, value in about.items()))
    click.echo(f"{network}, {model.attributes.num} Gaussians, {size} pixels, {str(model.dtype)[6:]}, pictures per s")
    rows = []
    with torch.inference_mode():
        for count in batch:
            cameras = Cameras.orbit(torch.linspace(-0.5, 0.5, count, device=device))
            each, around = Cameras.from_label(cameras.label()[:, None]), Cameras.from_label(cameras.label()[None])
            z = torch.randn(count, model.z_dim, device=device)
            label = None if not model.c_dim else model.neutral_label().expand(count, -1)
            head = model.sample(0)
            runs = {"latent": lambda z=z, each=each, label=label: model.images(model.mapping(z, label), each, size),
                    "camera": lambda around=around, head=head: model.render(head, around, size)}
            medians = interleaved_medians(runs, repeats, device)
            rows.append({"batch": count, **{f"{name}_fps": 1000 * count / ms for name, ms in medians.items()}})
            click.echo(f"batch {count:3d}: latent to picture {rows[-1]['latent_fps']:8.1f}   camera to picture "
                       f"{rows[-1]['camera_fps']:8.1f}")
    if json_path:
        Path(json_path).write_text(json.dumps({"machine": about, "rows": rows}, indent=2) + "\n")
        click.echo(f"wrote {json_path}")


@main.add_command
@command(name="data")
@click.option("--size", type=click.IntRange(8), default=512, show_default=True, help="side of the files in pixels")
@click.option("--resolution", type=click.IntRange(1), default=64, show_default=True, help="side that the loader gives")
@click.option("--workers", type=IntRangeList(), default="1,2", show_default=True, help="loader threads (list)")
@click.option("--images", type=click.IntRange(16), default=256, show_default=True, help="images per loader figure")
@click.option("--formats", default="all", show_default=True, help="comma list, e.g. 'png level 1,jpeg q95'")
@click.option("--repeats", type=click.IntRange(1), default=9, show_default=True, help="timed rounds; the median counts")
@click.option("--json", "json_path", type=click.Path(dir_okay=False), help="write the figures to this file")
def data(size, resolution, workers, images, formats, repeats, json_path) -> None:
    """Time decoding (one thread, ms per image) and the whole loader (images per second, nothing cached, with masks).

    The pictures are noise with the spectrum of photos. Compare the loader with the images/s of ``train``.
    """
    names = list(cost.FORMATS) if formats == "all" else formats.split(",")
    if unknown := set(names) - set(cost.FORMATS):
        raise UserError(f"--formats: there is no '{unknown.pop()}'; choose from {', '.join(cost.FORMATS)}.")
    about = machine(torch.device("cpu"))
    click.echo(", ".join(f"{key} {value}" for key, value in about.items()))
    pictures = [cost.photo_like(size, seed) for seed in range(4)]
    files = {name: [cost.encode(picture, name) for picture in pictures] for name in names}
    medians = interleaved_medians(cost.decoders(files), repeats, torch.device("cpu"))
    click.echo(f"{size} pixels to {resolution}; medians of {repeats} interleaved rounds")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            path = cost.write_set(Path(folder) / "set.zip", files[name], min(images, 256), size)
            speeds = {str(count): cost.loader_speed(path, resolution, count, images) for count in workers}
            kib = statistics.mean(len(file) for file in files[name]) / 1024
            rows.append({"format": name, "kib": kib, "decode_ms": medians[name] / len(pictures),
                         "loader_images_per_sec": speeds})
            click.echo(f"{name:>14} {kib:7.0f} KiB {rows[-1]['decode_ms']:7.2f} ms   loader with masks, images/s: "
                       + ", ".join(f"{speed:.0f} by {count}" for count, speed in speeds.items()))
    if json_path:
        report = {"machine": about, "size": size, "resolution": resolution, "rows": rows}
        Path(json_path).write_text(json.dumps(report, indent=2) + "\n")
        click.echo(f"wrote {json_path}")


def _peak_memory(device: torch.device) -> float:
    """GiB: the process's largest resident size, or the device's largest allocation."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
