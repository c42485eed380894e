"""Style mixing: a table of heads with some layers' styles from others."""

import click

from gghead.cli.edit.common import (
    at_least,
    draw_sheet,
    edit_options,
    open_network,
    parse_layers,
    read_heads,
    start,
    write_head,
    write_sheet,
)
from gghead.torch_utils import cli


@cli.command()
@click.option(
    "--rows", required=True, metavar="HEADS", help="Heads that are changed: seeds and latent files"
)
@click.option("--cols", required=True, metavar="HEADS", help="Heads whose styles they are given")
@click.option(
    "--layers",
    required=True,
    metavar="LIST",
    help="Which layers, such as 0-3,7: the first make the shape",
)
@click.option(
    "--strength", type=float, default=1.0, show_default=True, help="How far to go: 0.5 = half way"
)
@edit_options
def main(
    rows, cols, layers, strength, network, outdir, trunc, yaw, size, shapes, overwrite, device
):
    """Give every head of --rows the --layers of every head of --cols.

    \b
    python scripts/edit.py mix --network=demo --rows=0-2 --cols=3-6 --layers=5-9
    """
    network, outdir = start("mix", network, outdir, overwrite)

    from gghead.editing.mixing import mix_layers

    model = open_network(network, device)
    changed, donors = read_heads(rows, model, trunc), read_heads(cols, model, trunc)
    at_least(changed, 1, "--rows")
    at_least(donors, 1, "--cols")
    chosen = parse_layers(layers)
    mixed = [
        [mix_layers(model, base.latent, donor.latent, chosen, strength) for donor in donors]
        for base in changed
    ]
    for base, line in zip(changed, mixed, strict=True):
        for donor, latent in zip(donors, line, strict=True):
            write_head(
                model,
                latent,
                outdir,
                f"{base.name}+{donor.name}",
                "mix",
                shapes,
                layers=chosen,
                strength=strength,
            )
    grid = [
        [None, *(donor.latent for donor in donors)],
        *([base.latent, *line] for base, line in zip(changed, mixed, strict=True)),
    ]
    write_sheet(
        outdir,
        draw_sheet(
            model,
            grid,
            ["", *(donor.name for donor in donors)],
            ["", *(base.name for base in changed)],
            yaw,
            size,
        ),
    )
