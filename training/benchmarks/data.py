"""``gghead benchmark data``: decoding, and the loader."""

import statistics
import tempfile
from pathlib import Path

import click
import torch

from gghead.training.benchmarks import reading
from gghead.training.benchmarks.common import describe_machine, interleaved_medians


def measure(
    size: int,
    resolution: int,
    workers: list[int],
    images: int,
    formats: list[str],
    step_ms: int | None,
    repeats: int,
) -> dict:
    """Time decoding and the loader, print a row per format, and return the report.

    The arguments are the command's options.
    """
    about = describe_machine(torch.device("cpu"))
    click.echo(", ".join(f"{key} {value}" for key, value in about.items()))
    samples = [reading.photo_like(size, seed) for seed in range(4)]
    files = {name: [reading.encode(image, name) for image in samples] for name in formats}
    medians = interleaved_medians(reading.decoders(files), repeats, torch.device("cpu"))
    click.echo(f"{size} pixels to {resolution}; medians of {repeats} interleaved rounds")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in formats:
            path = reading.write_set(Path(folder) / "set.zip", files[name], min(images, 256), size)
            speeds = {
                str(count or "auto"): reading.loader_speed(path, resolution, count, images)
                for count in (*workers, None)
            }
            kib = statistics.mean(len(file) for file in files[name]) / 1024
            rows.append(
                {
                    "format": name,
                    "kib": kib,
                    "decode_ms": medians[name] / len(samples),
                    "loader_images_per_sec": speeds,
                }
            )
            if step_ms:
                waits = {
                    "read when needed": {"prefetch": 0},
                    "2 threads": {"workers": 2},
                    "auto": {},
                }
                rows[-1]["waiting_share"] = {
                    kind: reading.waiting_share(path, resolution, images, step_ms / 1000, **options)
                    for kind, options in waits.items()
                }
            click.echo(
                f"{name:>14} {kib:7.0f} KiB {rows[-1]['decode_ms']:7.2f} ms   loader with masks,"
                " images/s: "
                + ", ".join(f"{speed:.0f} by {count}" for count, speed in speeds.items())
            )
            if step_ms:
                shares = rows[-1]["waiting_share"].items()
                click.echo(
                    f"{'':>14} steps of 16 images and {step_ms} ms on a GPU wait: "
                    + ", ".join(f"{share:.0%} ({kind})" for kind, share in shares)
                )
    return {"machine": about, "size": size, "resolution": resolution, "rows": rows}
