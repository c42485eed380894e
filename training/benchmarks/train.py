"""``gghead benchmark train``: training steps, where their time goes, and a plain step beside."""

import os
import statistics
import time
from dataclasses import replace

import click
import torch

from gghead.cameras import Cameras
from gghead.cli.common import pick_device
from gghead.rendering import registry
from gghead.torch_utils.machine import keep_freed_memory
from gghead.torch_utils.progress import track
from gghead.torch_utils.rng import generator
from gghead.training.benchmarks.beside import compare_threads
from gghead.training.benchmarks.common import describe_machine, peak_memory, synchronize
from gghead.training.gan.config import PRESETS
from gghead.training.gan.trainer import Trainer
from gghead.training.run.precision import check_device, choose, gan_layers, set_precision


def measure(
    preset: str,
    batch: int | None,
    steps: int,
    warmup: int,
    stage: int,
    precision: str | None,
    device: str | torch.device,
    profile: int,
    compare: bool,
    beside: int,
) -> dict:
    """Time the steps, print the figures, and return the report.

    The arguments are the command's options.
    """
    device = pick_device(str(device))
    config = PRESETS[preset]
    only = replace(config.stages[stage], start_kimg=0.0, fade_kimg=0.0)
    config, why = (
        replace(config, batch=batch or config.batch, stages=(only,)),
        "--precision was given",
    )
    check_device(precision, device)
    if precision is None:
        precision, why = choose(
            device, gan_layers(config.generator, config.discriminator, config.batch)
        )
    config = replace(config, precision=precision)
    set_precision(precision, device)
    click.echo(f"precision {precision}: {why}")
    about = describe_machine(device)
    click.echo(", ".join(f"{key} {value}" for key, value in about.items()))
    if device.type == "cpu":
        keep_freed_memory()
    trainer = Trainer(config, Cameras.orbit(torch.linspace(-0.4, 0.4, 16)).label(), device)
    counts = {name: sum(p.numel() for p in getattr(trainer, name).parameters()) for name in "GD"}
    click.echo(
        f"{preset} at {only.image_size} pixels, batch {config.batch}, {config.precision}: generator"
        f" {counts['G'] / 1e6:.2f} M parameters, discriminator {counts['D'] / 1e6:.2f} M,"
        f" {trainer.G.attributes.num} Gaussians, rasterizer {registry.resolve('auto', device)}"
    )
    source, size = generator(0, "benchmark"), (config.batch, 4, only.image_size, only.image_size)
    pixels = torch.randint(0, 256, size, generator=source, dtype=torch.uint8)
    images = {
        "image": pixels[:, :3],
        "alpha": pixels[:, 3:],
        "label": trainer.labels[torch.arange(config.batch) % 16].cpu(),
    }
    for _ in track(range(warmup), "Warming up", unit="steps"):
        trainer.step(images)
    trainer.step_index = 0
    times = []
    for _ in track(range(steps), "Timing", unit="steps"):
        synchronize(device)
        start = time.perf_counter()
        trainer.step(images)
        synchronize(device)
        times.append(time.perf_counter() - start)
    figures = {
        "preset": preset,
        "batch": config.batch,
        "precision": config.precision,
        "steps": steps,
        "parameters": counts,
        "gaussians": trainer.G.attributes.num,
        "sec_per_kimg": sum(times) / (steps * config.batch) * 1000,
        "images_per_sec": steps * config.batch / sum(times),
        "median_step_ms": statistics.median(times) * 1000,
        "penalty_step_ms": times[0] * 1000,
        "peak_memory_gib": peak_memory(device),
    }
    click.echo(
        f"{figures['sec_per_kimg']:.1f} s/kimg, {figures['images_per_sec']:.1f} images/s, median"
        f" step {figures['median_step_ms']:.0f} ms, step with penalty"
        f" {figures['penalty_step_ms']:.0f} ms, peak memory {figures['peak_memory_gib']:.2f} GiB"
    )
    if beside:
        trainer.step_index = 1

        def step_without_penalty() -> None:
            trainer.step(images)
            trainer.step_index = 1

        figures["beside"] = compare_threads(step_without_penalty, beside, -(-steps // 2))
    if compare:
        figures |= _compare_with_plain(trainer, images, steps)
    if profile:
        trainer.step_index = 0
        with torch.profiler.profile() as profiler:
            for _ in track(range(min(steps, 16)), "Profiling", unit="steps"):
                trainer.step(images)
        events = sorted(profiler.key_averages(), key=lambda event: -event.self_cpu_time_total)
        total = sum(event.self_cpu_time_total for event in events)
        figures["operators"] = {
            event.key: event.self_cpu_time_total / total for event in events[:profile]
        }
        for name, share in figures["operators"].items():
            click.echo(f"{share:7.1%}  {name}")
    return {"machine": about, "train": figures}


def _compare_with_plain(
    trainer: Trainer, images: dict[str, torch.Tensor], steps: int
) -> dict[str, float]:
    """The same steps without the fast paths that can be switched off, each beside one with them."""
    plain_config = replace(
        trainer.config, precision="fp32", loss=replace(trainer.config.loss, reuse_fakes=False)
    )
    plain = Trainer(plain_config, trainer.labels.cpu(), trainer.device)
    plain.step(images)  # warms up
    times: dict[str, list[float]] = {"fast": [], "plain": []}
    trainer.step_index = plain.step_index = 0
    before = os.environ.get(registry.ENVIRONMENT_VARIABLE)
    try:
        for _ in track(range(steps), "Timing both", unit="steps"):
            for name, side, backend in (("fast", trainer, before), ("plain", plain, "torch")):
                os.environ[registry.ENVIRONMENT_VARIABLE] = backend or "auto"
                synchronize(trainer.device)
                start = time.perf_counter()
                side.step(images)
                synchronize(trainer.device)
                times[name].append(time.perf_counter() - start)
    finally:
        os.environ.pop(registry.ENVIRONMENT_VARIABLE)
        if before is not None:
            os.environ[registry.ENVIRONMENT_VARIABLE] = before
    ratio = sum(times["plain"]) / sum(times["fast"])
    means = {name: 1000 * statistics.mean(values) for name, values in times.items()}
    click.echo(
        "plain step (fp32, torch rasterizer, fakes made anew for the discriminator):"
        f" {means['plain']:.0f} ms against {means['fast']:.0f} ms, {ratio:.1f} times as long; means"
        f" of {steps} steps, taking turns"
    )
    return {"plain_step_ms": means["plain"], "plain_over_fast": ratio}
