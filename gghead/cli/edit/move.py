"""Move heads along principal directions and keep them as latents."""

from pathlib import Path

import click

from gghead.cli.edit.common import (
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


@cli.command()
@click.option("--heads", required=True, metavar="HEADS", help="Seeds and latent files")
@click.option(
    "--directions",
    "file",
    required=True,
    type=click.Path(path_type=Path),
    help="File of edit.py pca",
)
@click.option(
    "--by",
    required=True,
    metavar="LIST",
    help=(
        "COMPONENT:SIGMAS[@FIRST-LAST], …: 0:2,3:-1.5@0-4 moves along 0, and on layers 0 to 4"
        " along 3"
    ),
)
@edit_options
def main(heads, file, by, network, outdir, trunc, yaw, size, shapes, overwrite, device):
    """Move --heads along principal components.

    \b
    python scripts/edit.py move --network=demo --heads=0-5 \\
        --directions=out/pca/directions.safetensors --by=0:2
    """
    network, outdir = start("move", network, outdir, overwrite)

    from gghead.editing import directions

    model = open_network(network, device)
    found = directions.load(file, model)
    moves = directions.parse_moves(model, by)
    named = read_heads(heads, model, trunc)
    at_least(named, 1, "--heads")
    moved = []
    for head in named:
        latent = head.latent
        for component, sigmas, layers in moves:
            latent = found.move(latent, component, sigmas, layers)
        moved.append(latent)
        write_head(model, latent, outdir, head.name, "move", shapes, by=by)
    rows = [[head.latent, latent] for head, latent in zip(named, moved, strict=True)]
    write_sheet(
        outdir, draw_sheet(model, rows, ["before", by], [head.name for head in named], yaw, size)
    )
