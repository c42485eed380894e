"""``benchmark.py sample``: pictures per second of a trained network."""

import json
from pathlib import Path

import click
import torch

from gghead.cameras import Cameras
from gghead.checkpoints import load
from gghead.models.generator import bearable
from gghead.torch_utils import cli
from gghead.torch_utils.cli import IntRangeList, command
from gghead.training.benchmarks.common import interleaved_medians, machine
from gghead.training.precision import choose, generator_layers


@command(name="sample")
@click.option("--network", default="demo", show_default=True, metavar="FILE|RUN|demo", help="what to sample from")
@click.option("--batch", type=IntRangeList(), default="1,16", show_default=True, help="heads or views at once (list)")
@click.option("--size", type=click.IntRange(1), help="pixels per side  [default: the training size]")
@cli.device(default="cpu", with_threads=False)
@click.option("--repeats", type=click.IntRange(1), default=15, show_default=True, help="timed rounds")
@click.option("--threads", type=click.IntRange(1), help="torch threads  [default: torch's own choice]")
@click.option("--json", "json_path", type=click.Path(dir_okay=False), help="write the figures to this file")
def main(network, batch, size, device, repeats, threads, json_path) -> None:
    """Time sampling: latent to picture, and new cameras for a head that is already there."""
    if json_path:
        cli.check_writable(json_path, "--json")
    if threads:
        torch.set_num_threads(threads)
    device = torch.device(device)
    model = load(network, device)
    if choose(device, generator_layers(model.config, max(batch)))[0] == "bf16":
        model.dtype = bearable(model.config, torch.bfloat16)
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
