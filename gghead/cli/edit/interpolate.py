"""Heads in between: a row of steps, latent files of them, and a video."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gghead.cli.common import check_outputs, default_size
from gghead.cli.edit.common import (
    Head,
    at_least,
    draw_sheet,
    edit_options,
    open_network,
    read_heads,
    start,
    write_head,
    write_sheet,
)
from gghead.torch_utils import cli
from gghead.torch_utils.errors import UserError

if TYPE_CHECKING:
    from gghead.latent import Latent


@cli.command()
@click.option(
    "--heads",
    required=True,
    metavar="HEADS",
    help="Two or more seeds and latent files, in their order",
)
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    default=6,
    show_default=True,
    help="Steps from one to the next",
)
@click.option(
    "--space",
    type=click.Choice(["w", "z"]),
    default="w",
    show_default=True,
    help="Straight through w, or along the sphere of z (seeds only)",
)
@click.option("--video", type=click.Path(path_type=Path), help="Also a film: .mp4, .webp or .gif")
@click.option(
    "--frames",
    type=click.IntRange(min=2),
    default=36,
    show_default=True,
    help="Frames of the film from one head to the next",
)
@cli.fps(default=30.0)
@edit_options
def main(
    heads: str,
    steps: int,
    space: str,
    video: Path | None,
    frames: int,
    fps: float,
    network: str,
    outdir: Path | None,
    trunc: float,
    yaw: list[float],
    size: int | None,
    shapes: bool,
    overwrite: bool,
    device: str,
) -> None:
    """Draw the way from each head to the next.

    For loops with a turning camera see scripts/gen_video.py.

    \b
    python scripts/edit.py interpolate --network=demo --heads=3,7 --video=out/way.webp
    """
    if video is not None:
        from gghead.video import check_writable

        check_writable(video)
        check_outputs([video], overwrite, "--video")
    network, outdir = start("interpolate", network, outdir, overwrite)

    from gghead.editing.mixing import between, between_seeds
    from gghead.sampling import draw_latent
    from gghead.torch_utils.progress import progress
    from gghead.video import save_video

    model = open_network(network, device)
    named = read_heads(heads, model, trunc)
    at_least(named, 2, "--heads")
    if space == "z" and any(head.seed is None for head in named):
        raise UserError("--space=z needs seeds: a latent file has no z; use --space=w.")

    def way(first: Head, second: Head, share: float) -> "Latent":
        if space == "z" and first.seed is not None and second.seed is not None:
            return between_seeds(model, first.seed, second.seed, share, trunc)
        return between(first.latent, second.latent, share)

    pairs = list(zip(named[:-1], named[1:], strict=True))
    rows = []
    for first, second in pairs:
        rows.append([way(first, second, step / steps) for step in range(steps + 1)])
        for step, latent in enumerate(rows[-1][1:-1], 1):
            name = f"{first.name}+{second.name}-{step:02d}of{steps:02d}"
            write_head(
                model, latent, outdir, name, "between", shapes, share=step / steps, space=space
            )
    top = [f"{step / steps:.2g}" for step in range(steps + 1)]
    left = [f"{first.name} - {second.name}" for first, second in pairs]
    write_sheet(outdir, draw_sheet(model, rows, top, left, yaw, size))
    if video is not None:
        side, images = default_size(model, size), []
        with progress("Filming", len(pairs) * frames + 1, "frames") as bar:
            for share, (first, second) in [
                *((frame / frames, pair) for pair in pairs for frame in range(frames)),
                (1.0, pairs[-1]),
            ]:
                images.append(
                    draw_latent(model, way(first, second, share), "", yaws=yaw, size=side).image
                )
                bar.advance()
        with progress(f"Writing {video}"):
            save_video(images, video, fps)
        click.echo(video)
