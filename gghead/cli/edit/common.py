"""What the edits share.

Naming heads on the command line, writing them, and sheets of what came out.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gghead.cli.common import (
    check_outputs,
    default_size,
    find_network,
    free_path,
    network_option,
    pick_device,
    size_option,
    trunc_option,
)
from gghead.torch_utils import cli
from gghead.torch_utils.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from gghead.editing.regions import PlaneBlend
    from gghead.latent import Latent
    from gghead.models.generator import Generator

SHEET = "sheet.png"


@dataclass(frozen=True)
class Head:
    """One head that the command line names."""

    name: str
    """``seed0003``, or what a latent file says of itself."""
    latent: "Latent"
    """Batch of one."""
    seed: int | None = None
    """None: it comes from a file."""


def edit_options(function: Callable) -> Callable:
    """Add the options that every edit has."""
    options = [
        network_option(),
        cli.outdir(
            "Where the files go: sheet.png, and a folder with a latent file per edited head "
            " [default: out/EDIT, with a number behind if that is there]"
        ),
        trunc_option(),
        click.option(
            "--yaw",
            type=cli.Degrees(many=True),
            default="0",
            show_default=True,
            metavar="LIST",
            help="Views on the sheet, in degrees",
        ),
        size_option(),
        cli.switch("--shapes", default=False, show_default=True, help="Write .ply splats as well"),
        cli.overwrite("an edit"),
        cli.device(),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def start(
    edit: str, network: str, outdir: Path | None, overwrite: bool, files: Sequence[str] = ()
) -> tuple[str, Path]:
    """Return the network and the folder of an edit, and say them.

    Nothing heavy is imported before.

    Raises ``UserError`` as ``find_network``, and for a folder that cannot be written or holds the
    sheet of another edit, or one of ``files``.
    """
    network = find_network(network, "generator")
    outdir = outdir or free_path(edit)
    check_outputs([outdir / file for file in (SHEET, *files)], overwrite)
    click.echo(f"Editing heads of {network} ({edit}) into {outdir}")
    return network, outdir


def open_network(network: str, device: str) -> "Generator":
    """Load the generator of ``--network``, a name that ``start`` returned."""
    import gghead

    return gghead.load(network, device=pick_device(device), kind="generator")


def read_heads(text: str, model: "Generator", psi: float) -> list[Head]:
    """``0-2,out/me/latent-z.safetensors`` -> heads.

    Numbers are seeds, the rest files or folders of latents.

    Raises ``UserError`` for what is neither, and as ``gghead.inversion.load`` does.
    """
    from gghead import latent as latents
    from gghead.sampling import seed_latents

    heads = []
    for part in text.split(","):
        if re.fullmatch(r"\d+(-\d+)?", part.strip()):
            seeds = cli.IntRangeList().convert(part, None, None)
            found = zip(seeds, seed_latents(model, seeds, psi), strict=True)
            heads += [Head(f"seed{seed:04d}", latent, seed) for seed, latent in found]
        else:
            files = [(file, latents.load(file, model)) for file in latents.find(part)]
            heads += [Head(latent.name, latent) for _, latent in files]
    return heads


def parse_layers(text: str) -> list[int]:
    """``0-3,7`` -> [0, 1, 2, 3, 7]."""
    return cli.IntRangeList().convert(text, None, None)


def draw_sheet(
    model: "Generator",
    rows: "Sequence[Sequence[Latent | PlaneBlend | None]]",
    top: Sequence[str],
    left: Sequence[str],
    yaws: Sequence[float],
    size: int | None,
) -> "np.ndarray":  # uint8 [H, W, 3]
    """Draw a grid of latents (or what is drawn as one) from ``yaws`` (radians).

    None leaves a cell white.
    """
    import numpy as np

    from gghead.figures import beside, with_labels
    from gghead.sampling import draw_latent
    from gghead.torch_utils.progress import progress

    side = default_size(model, size)
    blank = np.full((side, side * len(yaws), 3), 255, np.uint8)
    lines = []
    with progress("Drawing", sum(len(row) for row in rows), "heads") as bar:
        for row in rows:
            cells = []
            for one in row:
                cells.append(
                    blank
                    if one is None
                    else draw_latent(model, one, "", yaws=yaws, size=side).image
                )
                bar.advance()
            lines.append(beside(cells))
    return with_labels(np.concatenate(lines), top, left)


def write_head(
    model: "Generator",
    latent: "Latent | PlaneBlend",
    outdir: Path,
    name: str,
    stage: str,
    shapes: bool,
    **info: Any,
) -> None:
    """Write ``<outdir>/<name>/latent-<stage>.safetensors`` and say so.

    What is no latent is written as a .ply in any case.
    """
    from gghead import latent as latents

    if isinstance(latent, latents.Latent):
        path = outdir / name / f"latent-{stage}.safetensors"
        latents.save(path, replace(latent, info={"target": name, "stage": stage, **info}), model)
        click.echo(path)
    if shapes or not isinstance(latent, latents.Latent):
        path = outdir / name / f"{stage}.ply"
        latent.gaussians(model)[0].save_ply(path)
        click.echo(path)


def write_sheet(outdir: Path, sheet: "np.ndarray") -> None:
    """Write the sheet and say so."""
    from gghead.figures import write_png

    write_png(outdir / SHEET, sheet)
    click.echo(outdir / SHEET)


def at_least(heads: Sequence[Head], count: int, option: str) -> None:
    """Raise ``UserError`` for fewer heads than an edit needs, or two of one name."""
    if len(heads) < count:
        raise UserError(
            f"{option} must name at least {count} heads, such as {option}=0-{count - 1}, but it"
            f" names {len(heads)}."
        )
    names = [head.name for head in heads]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UserError(f"{option} names {twice} twice; every head needs a name of its own.")
