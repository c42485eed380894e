"""``python scripts/train_prior.py --network=demo --samples=20000``."""

import json
from pathlib import Path

import click

from gghead.torch_utils import cli
from gghead.torch_utils import config as config_json
from gghead.training.prior.config import PRESETS, PriorTrainConfig
from gghead.training.run.run_options import (
    check_outdir,
    refuse_with_resume,
    run_changes,
    run_options,
)


@cli.command(stopped="Nothing was trained yet, so nothing is lost; the same command starts again.")
@click.option(
    "--network", metavar="FILE|RUN|demo", help="Generator whose latents they are  [default: demo]"
)
@click.option(
    "--latents",
    metavar="FILE[,FILE…]|DIR",
    help="Latent files of an encoder or of scripts/invert.py",
)
@click.option(
    "--samples", type=click.IntRange(min=0), help="Also, or only, so many seeds of the generator"
)
@click.option("--cond", metavar="FILE", help=".npz or .csv with a condition vector per head's name")
@click.option(
    "--preset",
    type=click.Choice(["tiny", "few", "small", "large"]),
    default=None,
    help="tiny: minutes on a CPU; few: for encoded heads of some hundred people  [default: tiny]",
)
@click.option(
    "--steps", type=click.IntRange(min=1), help="Optimiser steps in all  [default: the preset's]"
)
@click.option("--batch", type=click.IntRange(min=1), help="Heads per step  [default: the preset's]")
@click.option(
    "--lr",
    type=click.FloatRange(min=0, min_open=True),
    help="Learning rate  [default: the preset's]",
)
@click.option(
    "--patch", type=click.IntRange(min=1), help="Side of the residual's patches  [default: 4]"
)
@click.option(
    "--components",
    type=click.IntRange(min=0),
    help=(
        "Principal components of whole heads instead of "
        "patches; 0: patches  [default: the preset's]"
    ),
)
@click.option(
    "--patience",
    type=click.IntRange(min=0),
    help=(
        "Stop after so many ticks without a lower held-out loss, "
        "keep the best; 0: never  [default: the preset's]"
    ),
)
@click.option(
    "--holdout",
    type=click.FloatRange(0, 0.9),
    help="Share of people kept aside  [default: the preset's]",
)
@run_options()
def main(resume, outdir, device, dry_run, **options):
    """Train a flow-matching prior over the latents of a generator.

    \b
    python scripts/train_prior.py --network=demo --samples=20000
    python scripts/train_prior.py --network=RUN --latents=latents --preset=small
    """
    if resume is not None:
        refuse_with_resume(options, {"steps", "tick", "snap", "lr"})
        from gghead.training.run.run_folder import read_options

        config = read_options(resume, PriorTrainConfig, _changes(options))
    else:
        config = config_json.replace(PRESETS[options["preset"] or "tiny"], _changes(options))
    check_outdir(outdir, resume, dry_run)
    if dry_run:
        print(json.dumps(config_json.to_dict(config), indent=2))
        return
    from gghead.cli.common import pick_device
    from gghead.training.prior.run import run

    run(config, outdir, pick_device(device), resume=Path(resume) if resume else None)


def _changes(options: dict) -> dict:
    """Options that were given -> the keys of ``PriorTrainConfig``."""
    names = ("network", "latents", "samples", "cond", "steps", "batch", "lr", "holdout", "patience")
    changes = {name: options[name] for name in names if options[name] is not None} | run_changes(
        options
    )
    tokens = {name: options[name] for name in ("patch", "components") if options[name] is not None}
    return {**changes, "tokens": tokens} if tokens else changes
