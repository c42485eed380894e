"""What the edits share: naming heads on the command line, writing them, and sheets of what came out."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from gghead.cli.common import default_network, pick_device
from gghead.sheets import beside, with_labels, write_png
from gghead.torch_utils import cli
from gghead.torch_utils.errors import UserError

if TYPE_CHECKING:
    from gghead.inversion.latents import Latent

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
        click.option("--network", metavar="FILE|RUN|demo", help="Snapshot, run folder, or the shipped network  "
                     "[default: newest in training-runs, else demo]"),
        click.option("--outdir", type=click.Path(path_type=Path), default="out", show_default=True,
                     help="Where the files go: sheet.png, and a folder with a latent file per edited head"),
        click.option("--trunc", type=float, default=1.0, show_default=True, help="Truncation psi of the seeds"),
        click.option("--yaw", type=cli.FloatList(), default="0", show_default=True, metavar="LIST",
                     help="Views on the sheet, radians"),
        click.option("--size", type=click.IntRange(min=1), help="Pixels per view  [default: the training size]"),
        click.option("--shapes", type=cli.BOOL, default=False, show_default=True, help="Write .ply splats as well"),
        click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda|…", help="Where to compute"),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def open_network(network: str | None, device: str):
    """Load the generator of ``--network``."""
    import gghead

    return gghead.load(network or default_network(), device=pick_device(device), kind="generator")


def read_heads(text: str, model, psi: float = 1.0) -> list[Head]:
    """``0-2,out/me/latent-z.safetensors`` -> heads: numbers are seeds, the rest files or folders of latents.

    Raises ``UserError`` for what is neither, and as ``gghead.inversion.load`` does.
    """
    from gghead.cli.gen_samples import seed_latents
    from gghead.inversion import latents

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


def draw_sheet(model, rows: Sequence[Sequence], top: Sequence[str], left: Sequence[str], yaws: Sequence[float],
               size: int | None) -> np.ndarray:  # uint8 [H, W, 3]
    """Draw a grid of latents (or what is drawn as one); None leaves a cell white."""
    from gghead.cli.gen_samples import draw_latent

    side = size or model.config.image_size
    blank = np.full((side, side * len(yaws), 3), 255, np.uint8)
    drawn = [beside([blank if one is None else draw_latent(model, one, "", yaws=yaws, size=side).image for one in row])
             for row in rows]
    return with_labels(np.concatenate(drawn), top, left)


def write_head(model, latent, outdir: Path, name: str, stage: str, shapes: bool, **info) -> None:
    """Write ``<outdir>/<name>/latent-<stage>.safetensors`` (what is no latent: its .ply in any case) and say so."""
    from gghead.inversion import latents

    is_latent = isinstance(latent, latents.Latent)
    if is_latent:
        path = outdir / name / f"latent-{stage}.safetensors"
        latents.save(path, replace(latent, info={"target": name, "stage": stage, **info}), model)
        print(path)
    if shapes or not is_latent:
        path = outdir / name / f"{stage}.ply"
        latent.gaussians(model)[0].save_ply(path)
        print(path)


def write_sheet(outdir: Path, sheet: np.ndarray) -> None:
    """Write the sheet and say so."""
    write_png(outdir / SHEET, sheet)
    print(outdir / SHEET)


def at_least(heads: Sequence[Head], count: int, option: str) -> None:
    """Raise ``UserError`` for fewer heads than an edit needs, or two of one name."""
    if len(heads) < count:
        raise UserError(f"{option} must name at least {count} heads, such as {option}=0-{count - 1}, but it names "
                        f"{len(heads)}.")
    names = [head.name for head in heads]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UserError(f"{option} names {twice} twice; every head needs a name of its own.")
