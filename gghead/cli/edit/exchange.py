"""Heads that take something from other heads: the styles of some layers, or a part of the face."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from gghead.cli.edit.common import (
    Head,
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

if TYPE_CHECKING:
    from gghead.editing.regions import PlaneBlend
    from gghead.latent import Latent
    from gghead.models.generator import Generator


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
def mix(
    rows: str,
    cols: str,
    layers: str,
    strength: float,
    network: str,
    outdir: Path | None,
    trunc: float,
    yaw: list[float],
    size: int | None,
    shapes: bool,
    overwrite: bool,
    device: str,
) -> None:
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
    what = {"layers": chosen, "strength": strength}
    _write(model, changed, donors, mixed, outdir, "mix", shapes, yaw, size, what)


@cli.command()
@click.option(
    "--rows", required=True, metavar="HEADS", help="Heads that are changed: seeds and latent files"
)
@click.option("--cols", required=True, metavar="HEADS", help="Heads whose part they are given")
@click.option(
    "--part", required=True, metavar="NAMES", help="Such as nose, 'left eye' or eyes+brows"
)
@click.option(
    "--space",
    type=click.Choice(["planes", "z"]),
    default="planes",
    show_default=True,
    help=(
        "planes: decode both heads and blend; z: blend Z, which gives latent files but changes less"
    ),
)
@click.option(
    "--take",
    type=click.Choice(["all", "shape", "color"]),
    default="all",
    show_default=True,
    help="What comes over (planes only)",
)
@cli.switch(
    "--fit",
    default=None,
    help=(
        "Adapt the part to its new head's skin and depth (planes only)  [default: yes, but not for"
        " hair]"
    ),
)
@click.option(
    "--softness",
    type=click.FloatRange(0, 2),
    default=0.35,
    show_default=True,
    help="Width of the fading border, as a share of the part's radius",
)
@edit_options
def region(
    rows: str,
    cols: str,
    part: str,
    space: str,
    take: Literal["all", "shape", "color"],
    fit: bool | None,
    softness: float,
    network: str,
    outdir: Path | None,
    trunc: float,
    yaw: list[float],
    size: int | None,
    shapes: bool,
    overwrite: bool,
    device: str,
) -> None:
    """Give every head of --rows the --part of every head of --cols.

    \b
    python scripts/edit.py region --network=demo --rows=0-2 --cols=3-6 --part=nose
    """
    if space == "z" and (take != "all" or fit is not None):
        raise UserError(
            "--take and --fit belong to --space=planes: Z does not tell shape from color; leave"
            " them out."
        )
    network, outdir = start("region", network, outdir, overwrite)

    from gghead.editing.parts import part_mask
    from gghead.editing.regions import blend_latents, blend_planes

    model = open_network(network, device)
    side = model.config.latent_resolution if space == "z" else model.config.plane_resolution
    mask = part_mask(model.template, part, side, softness)
    changed, donors = read_heads(rows, model, trunc), read_heads(cols, model, trunc)
    at_least(changed, 1, "--rows")
    at_least(donors, 1, "--cols")
    fit = "hair" not in part.split("+") if fit is None else fit

    def swap(base: Head, donor: Head) -> "Latent | PlaneBlend":
        if space == "z":
            return blend_latents(model, base.latent, donor.latent, mask)
        return blend_planes(model, base.latent, donor.latent, mask, take, fit)

    swapped = [[swap(base, donor) for donor in donors] for base in changed]
    what = {"part": part}
    _write(model, changed, donors, swapped, outdir, "region", shapes, yaw, size, what)


def _write(
    model: "Generator",
    changed: list[Head],
    donors: list[Head],
    results: "Sequence[Sequence[Latent | PlaneBlend]]",
    outdir: Path,
    stage: str,
    shapes: bool,
    yaw: list[float],
    size: int | None,
    what: dict[str, Any],
) -> None:
    """Write the heads ``results`` (a row per changed head, a column per donor) and their sheet."""
    for base, line in zip(changed, results, strict=True):
        for donor, head in zip(donors, line, strict=True):
            write_head(model, head, outdir, f"{base.name}+{donor.name}", stage, shapes, **what)
    grid = [
        [None, *(donor.latent for donor in donors)],
        *([base.latent, *line] for base, line in zip(changed, results, strict=True)),
    ]
    top, left = ["", *(head.name for head in donors)], ["", *(head.name for head in changed)]
    write_sheet(outdir, draw_sheet(model, grid, top, left, yaw, size))
