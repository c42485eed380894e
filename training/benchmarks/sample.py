"""``gghead benchmark sample``: images per second of a trained network."""

import click
import torch

from gghead.cameras import Cameras
from gghead.checkpoints import load
from gghead.cli.common import pick_device
from gghead.models.generator import bearable
from gghead.training.benchmarks.common import describe_machine, interleaved_medians
from gghead.training.run.precision import choose, generator_layers


def measure(
    network: str, batch: list[int], size: int | None, device: str | torch.device, repeats: int
) -> dict:
    """Time sampling, print a row per batch, and return the report.

    The arguments are the command's options.
    """
    device = pick_device(str(device))
    model = load(network, device, kind="generator")
    if choose(device, generator_layers(model.config, max(batch)))[0] == "bf16":
        model.dtype = bearable(model.config, torch.bfloat16)
    size = size or model.config.image_size
    about = describe_machine(device)
    click.echo(", ".join(f"{key} {value}" for key, value in about.items()))
    click.echo(
        f"{network}, {model.attributes.num} Gaussians, {size} pixels, {str(model.dtype)[6:]},"
        " images per s"
    )
    rows = []
    with torch.inference_mode():
        for count in batch:
            cameras = Cameras.orbit(torch.linspace(-0.5, 0.5, count, device=device))
            each, around = (
                Cameras.from_label(cameras.label()[:, None]),
                Cameras.from_label(cameras.label()[None]),
            )
            z = torch.randn(count, model.z_dim, device=device)
            frontal = model.neutral_label()
            label = None if frontal is None else frontal.expand(count, -1)
            head = model.sample(0)
            runs = {
                "latent": lambda z=z, each=each, label=label: model.images(
                    model.mapping(z, label), each, size
                ),
                "camera": lambda around=around, head=head: model.render(head, around, size),
            }
            medians = interleaved_medians(runs, repeats, device)
            rows.append(
                {
                    "batch": count,
                    **{f"{name}_fps": 1000 * count / ms for name, ms in medians.items()},
                }
            )
            click.echo(
                f"batch {count:3d}: latent to image {rows[-1]['latent_fps']:8.1f}   camera to"
                f" image {rows[-1]['camera_fps']:8.1f}"
            )
    return {"machine": about, "rows": rows}
