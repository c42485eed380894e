"""Principal directions of w (GANSpace): find them, keep them as a file, move heads along them."""

from pathlib import Path

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
from gghead.torch_utils.errors import UserError


@cli.command()
@click.option(
    "--heads", metavar="HEADS", help="Head that is moved on the sheet  [default: the average head]"
)
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Components in the file",
)
@click.option(
    "--samples", type=click.IntRange(min=2), default=20_000, show_default=True, help="Samples of w"
)
@cli.seed("Of the samples")
@click.option(
    "--show",
    type=click.IntRange(min=1),
    default=6,
    show_default=True,
    help="Components on the sheet",
)
@click.option(
    "--sigmas",
    type=cli.FloatList(),
    default="-3,-1.5,0,1.5,3",
    show_default=True,
    metavar="LIST",
    help="How far they move the head, in standard deviations",
)
@click.option("--layers", metavar="LIST", help="On which layers  [default: all]")
@edit_options
def pca(
    heads: str | None,
    count: int,
    samples: int,
    seed: int,
    show: int,
    sigmas: list[float],
    layers: str | None,
    network: str,
    outdir: Path | None,
    trunc: float,
    yaw: list[float],
    size: int | None,
    shapes: bool,
    overwrite: bool,
    device: str,
) -> None:
    """Find the principal components of w; write directions.safetensors and a sheet of what they do.

    \b
    python scripts/edit.py pca --network=demo --show=6
    """
    if shapes:
        raise UserError("pca writes no heads; edit.py move does: leave out --shapes.")
    network, outdir = start("pca", network, outdir, overwrite, ("directions.safetensors",))

    from gghead.editing import directions
    from gghead.editing.mixing import check_layers
    from gghead.latent import Latent

    model = open_network(network, device)
    on = None if layers is None else check_layers(model, parse_layers(layers))
    if heads is None:
        head = Latent(model.mapping.w_avg.expand(1, model.num_ws, -1).clone())
    else:
        named = read_heads(heads, model, trunc)
        if len(named) != 1:
            raise UserError(f"--heads={heads} names {len(named)} heads, but the sheet shows one.")
        head = named[0].latent
    found = directions.find_directions(model, samples, count, seed)
    path = outdir / "directions.safetensors"
    directions.save(path, found, model)
    click.echo(path)
    shown = range(min(show, count))
    click.echo("component  sigma   variance  in all")
    for index in range(count):
        click.echo(
            f"{index:9d}  {found.deviations[index]:5.2f}  {found.explained[index]:8.1%}  "
            f"{found.explained[: index + 1].sum():6.1%}"
        )
    rows = [[found.move(head, index, sigma, on) for sigma in sigmas] for index in shown]
    write_sheet(
        outdir,
        draw_sheet(
            model,
            rows,
            [f"{sigma:+g} sigma" if sigma else "0" for sigma in sigmas],
            [f"{index}" for index in shown],
            yaw,
            size,
        ),
    )
    options = [f"--network={network}", "--heads=0-3", f"--directions={path}", "--by=0:2"]
    move = cli.hint("scripts/edit.py", "move", *options)
    click.echo(f"Heads moved along the first: {move}")


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
def move(
    heads: str,
    file: Path,
    by: str,
    network: str,
    outdir: Path | None,
    trunc: float,
    yaw: list[float],
    size: int | None,
    shapes: bool,
    overwrite: bool,
    device: str,
) -> None:
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
