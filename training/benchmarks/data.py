"""``benchmark.py data``: decoding, and the loader."""

import json
import statistics
import tempfile
from pathlib import Path

import click
import torch

from gghead.torch_utils import cli
from gghead.torch_utils.cli import IntRangeList, command
from gghead.torch_utils.errors import UserError
from gghead.training.benchmarks import reading
from gghead.training.benchmarks.common import interleaved_medians, machine


@command(name="data")
@click.option("--size", type=click.IntRange(8), default=512, show_default=True, help="side of the files in pixels")
@click.option("--resolution", type=click.IntRange(1), default=64, show_default=True, help="side that the loader gives")
@click.option("--workers", type=IntRangeList(), default="1,2", show_default=True, help="loader threads (list)")
@click.option("--images", type=click.IntRange(16), default=256, show_default=True, help="images per loader figure")
@click.option("--formats", default="all", show_default=True, help="comma list, e.g. 'png level 1,jpeg q95'")
@click.option("--step-ms", type=click.IntRange(1), help="also the time that steps so long wait for 16 images")
@click.option("--repeats", type=click.IntRange(1), default=9, show_default=True, help="timed rounds; the median counts")
@click.option("--json", "json_path", type=click.Path(dir_okay=False), help="write the figures to this file")
def main(size, resolution, workers, images, formats, step_ms, repeats, json_path) -> None:
    """Time decoding (one thread, ms per image) and the whole loader (images per second, nothing cached, with masks).

    The pictures are noise with the spectrum of photos. Compare the loader with the images/s of ``train``; "auto" takes
    as many threads as are needed so that nobody waits.
    """
    if json_path:
        cli.check_writable(json_path, "--json")
    names = list(reading.FORMATS) if formats == "all" else formats.split(",")
    if unknown := set(names) - set(reading.FORMATS):
        raise UserError(f"--formats: there is no '{unknown.pop()}'; choose from {', '.join(reading.FORMATS)}.")
    about = machine(torch.device("cpu"))
    click.echo(", ".join(f"{key} {value}" for key, value in about.items()))
    pictures = [reading.photo_like(size, seed) for seed in range(4)]
    files = {name: [reading.encode(picture, name) for picture in pictures] for name in names}
    medians = interleaved_medians(reading.decoders(files), repeats, torch.device("cpu"))
    click.echo(f"{size} pixels to {resolution}; medians of {repeats} interleaved rounds")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            path = reading.write_set(Path(folder) / "set.zip", files[name], min(images, 256), size)
            speeds = {str(count or "auto"): reading.loader_speed(path, resolution, count, images)
                      for count in (*workers, None)}
            kib = statistics.mean(len(file) for file in files[name]) / 1024
            rows.append({"format": name, "kib": kib, "decode_ms": medians[name] / len(pictures),
                         "loader_images_per_sec": speeds})
            if step_ms:
                waits = {"read when needed": {"prefetch": 0}, "2 threads": {"workers": 2}, "auto": {}}
                rows[-1]["waiting_share"] = {
                    kind: reading.waiting_share(path, resolution, images, step_ms / 1000, **options)
                    for kind, options in waits.items()
                }
            click.echo(f"{name:>14} {kib:7.0f} KiB {rows[-1]['decode_ms']:7.2f} ms   loader with masks, images/s: "
                       + ", ".join(f"{speed:.0f} by {count}" for count, speed in speeds.items()))
            if step_ms:
                shares = rows[-1]["waiting_share"].items()
                click.echo(f"{'':>14} steps of 16 images and {step_ms} ms on a GPU wait: "
                           + ", ".join(f"{share:.0%} ({kind})" for kind, share in shares))
    if json_path:
        report = {"machine": about, "size": size, "resolution": resolution, "rows": rows}
        Path(json_path).write_text(json.dumps(report, indent=2) + "\n")
        click.echo(f"wrote {json_path}")
