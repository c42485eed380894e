"""Images and splats of seeds or latent files.

``seed0003.png`` with three views, ``seed0003.ply`` on request.
"""

from pathlib import Path
from typing import Any, Literal

import click

from gghead.cli.common import (
    check_outputs,
    default_size,
    find_network,
    free_path,
    network_option,
    pick_device,
    psi_of,
    short_name,
    size_option,
    trunc_all_option,
    trunc_cutoff_option,
)
from gghead.torch_utils import cli
from gghead.torch_utils.errors import UserError

GRID = "grid.png"
_GRID_PIXELS = 50_000_000  # of the grid at most; heads beyond are left out of it
_SEEDS = tuple(range(8))


@cli.command(renamed={"--grid": "--overview"})
@network_option()
@click.option(
    "--seeds",
    type=cli.IntRangeList(),
    help="Seeds such as 0,1,4-6  [default: 0-7, or none with --latents]",
)
@click.option(
    "--latents",
    metavar="FILE[,FILE…]|DIR",
    help=(
        "Latent files of scripts/invert.py; a folder stands for the last stage of every target"
        " in it"
    ),
)
@click.option(
    "--prior",
    "prior_file",
    metavar="FILE|RUN",
    help="Draw the seeds from this prior (scripts/train_prior.py) instead of the mapping network",
)
@click.option(
    "--cond",
    metavar="FILE[:NAME]",
    help="Condition of the prior: an .npz or .csv, and which of its vectors",
)
@click.option(
    "--guidance",
    type=float,
    help="Strength of the condition: 0 = none, 1 = as trained  [default: 1]",
)
@click.option(
    "--prior-steps", type=click.IntRange(min=1), help="Steps from noise to a latent  [default: 20]"
)
@cli.switch(
    "--save-latents",
    default=False,
    show_default=True,
    help="Write latent files of the seeds as well: OUTDIR/seed0000/latent-sample.safetensors",
)
@trunc_all_option("latent files and priors")
@trunc_cutoff_option()
@cli.outdir(
    "Where the files go  [default: out/NETWORK-psiPSI, with a number behind if that is there]"
)
@click.option(
    "--views",
    type=click.IntRange(min=1),
    help="Number of views, evenly from yaw +22.9 to -22.9 degrees  [default: 3]",
)
@click.option(
    "--yaw",
    type=cli.Degrees(many=True),
    metavar="LIST",
    help="Yaw of every view in degrees, > 0: the subject's left  [default: 22.9,0,-22.9]",
)
@click.option(
    "--pitch",
    type=cli.Degrees(),
    default="0",
    show_default=True,
    help="Pitch, > 0: seen from above",
)
@size_option()
@cli.switch("--shapes", default=False, show_default=True, help="Write seed0000.ply splats as well")
@cli.switch(
    "--overview",
    "grid",
    default=True,
    show_default=True,
    help=f"Write all of several heads into {GRID} as well",
)
@click.option(
    "--fov-deg",
    type=click.FloatRange(0, 180, min_open=True, max_open=True),
    help=(
        "Horizontal field of view in degrees (EG3D's 18.837 was the diagonal one)  [default:"
        " FFHQ's, 13.38]"
    ),
)
@click.option(
    "--noise-mode",
    type=click.Choice(["const", "random", "none"]),
    default="const",
    show_default=True,
    help="Noise inputs: as trained, drawn from the seed, or off",
)
@cli.overwrite("files")
@cli.device()
def main(
    network: str,
    seeds: list[int] | None,
    latents: str | None,
    prior_file: str | None,
    cond: str | None,
    guidance: float | None,
    prior_steps: int | None,
    save_latents: bool,
    trunc: float | None,
    trunc_cutoff: int | None,
    outdir: Path | None,
    views: int | None,
    yaw: list[float] | None,
    pitch: float,
    size: int | None,
    shapes: bool,
    grid: bool,
    fov_deg: float | None,
    noise_mode: Literal["const", "random", "none"],
    overwrite: bool,
    device: str,
) -> None:
    """Draw heads from several sides: those of --seeds, of --latents or of both.

    \b
    python gen_samples.py
    python gen_samples.py --network=latest --seeds=0-7 --shapes
    python gen_samples.py --network=RUN --prior=training-runs/00001-prior-tiny-samples
    """
    if views is not None and yaw is not None:
        raise UserError(
            "--views and --yaw exclude each other: --yaw=20,0,-20 already says how many views there"
            " are."
        )
    flow: dict[str, Any] = {
        name: value
        for name, value in (("cond", cond), ("guidance", guidance), ("steps", prior_steps))
        if value is not None
    }
    if prior_file is None and flow:
        raise UserError(
            "--cond, --guidance and --prior-steps belong to a prior; name one with --prior=FILE."
        )
    if prior_file is not None and latents is not None and not seeds:
        raise UserError("--prior draws seeds, but none are given; add --seeds=0-7.")
    seeds = list(_SEEDS) if seeds is None and latents is None else seeds or []
    network = find_network(network, "generator")
    if prior_file is not None:
        prior_file = find_network(prior_file, "prior", "--prior")
    psi_seeds = psi_of(trunc, seeds=prior_file is None)
    psi_files = psi_of(trunc, seeds=False)
    psi = psi_seeds if seeds else psi_files
    folder = outdir or free_path(f"{short_name(network)}-psi{psi:g}")
    named = [f"{'seed' if prior_file is None else 'prior'}{seed:04d}" for seed in seeds]
    kinds = [".png"] + [".ply"] * bool(shapes)
    latent_of = {
        name: folder / name / "latent-sample.safetensors" for name in named if save_latents
    }
    check_outputs(
        [
            *(folder / f"{name}{kind}" for name in named for kind in kinds),
            *latent_of.values(),
            *[folder / GRID] * (grid and len(seeds) > 1),
        ],
        overwrite,
    )
    counted = [f"{len(seeds)} seed{'s'[: len(seeds) != 1]}"] * bool(seeds)
    counted += [f"the latents of {latents}"] * bool(latents)
    click.echo(
        f"Drawing {' and '.join(counted)} of {network}, psi {psi:g}, into {folder}"
        + (f", with the prior {prior_file}" if prior_file else "")
    )

    import itertools
    from dataclasses import replace

    import gghead
    from gghead import latent as latent_files
    from gghead.figures import grid as grid_sheet
    from gghead.figures import write_png
    from gghead.sampling import EG3D_YAWS, draw_latent, prior_latents, seed_latents, spread_yaws
    from gghead.torch_utils.progress import progress

    model = gghead.load(network, device=pick_device(device), kind="generator")
    files = [] if latents is None else latent_files.find(latents)
    loaded = [
        latent_files.load(file, model).truncate(model, psi_files, trunc_cutoff) for file in files
    ]
    names = [latent.name for latent in loaded]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(
            f"Two latents would both be written to {folder / twice}.png; draw each with its own"
            " --outdir."
        )
    everyone = [*named, *names]
    with_grid = grid and len(everyone) > 1
    check_outputs(
        [
            *(folder / f"{name}{kind}" for name in names for kind in kinds),
            *[folder / GRID] * with_grid,
        ],
        overwrite,
    )
    yaws = yaw if yaw is not None else spread_yaws(views or len(EG3D_YAWS))
    side = default_size(model, size)
    if prior_file is None:
        drawn = seed_latents(model, seeds, psi_seeds, trunc_cutoff)
    else:
        prior = gghead.load(prior_file, device=model.device, kind="prior")
        prior.check_owner(model, prior_file)
        drawn = (
            latent.truncate(model, psi_seeds, trunc_cutoff)
            for latent in prior_latents(prior, seeds, **flow)
        )
    heads = itertools.chain(
        zip(named, drawn, seeds, strict=True), zip(names, loaded, [0] * len(names), strict=True)
    )
    shown = max(_GRID_PIXELS // (len(yaws) * side**2), 2) if with_grid else 0
    images = []
    with progress("Drawing", len(everyone), "heads") as bar:
        for name, latent, seed in heads:
            sample = draw_latent(
                model,
                latent,
                name,
                noise_mode,
                seed,
                yaws=yaws,
                pitch=pitch,
                size=side,
                fov_deg=fov_deg,
            )
            write_png(folder / f"{name}.png", sample.image)
            click.echo(folder / f"{name}.png")
            images += [sample.image] * (len(images) < shown)
            if shapes:
                sample.gaussians[0].save_ply(folder / f"{name}.ply")
                click.echo(folder / f"{name}.ply")
            if name in latent_of:
                latent_files.save(
                    latent_of[name],
                    replace(latent, info={"target": name, "stage": "sample", **flow}),
                    model,
                )
                click.echo(latent_of[name])
            bar.advance()
    if with_grid:
        write_png(folder / GRID, grid_sheet(images, everyone[: len(images)]))
        left = len(everyone) - len(images)
        click.echo(f"{folder / GRID}" + (f" (without the last {left})" if left else ""))
