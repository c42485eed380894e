"""``python scripts/train_expression.py --network=RUN --data=captures.zip``."""

import json
from pathlib import Path

import click

from gghead.torch_utils import cli
from gghead.torch_utils.errors import UserError
from gghead.training.run.run_options import (
    check_outdir,
    refuse_with_resume,
    run_changes,
    run_options,
)


@cli.command(stopped="Nothing was trained yet, so nothing is lost; the same command starts again.")
@click.option(
    "--network",
    metavar="FILE|RUN",
    help="Reconstructor whose latents are to move; it stays as it is",
)
@click.option(
    "--data", metavar="DIR|ZIP", help="Multi-view captures with masks and expression coefficients"
)
@click.option(
    "--preset",
    type=click.Choice(["tiny", "small", "headsup"]),
    default=None,
    help="tiny: minutes on a CPU, for hundreds of triplets  [default: tiny]",
)
@click.option(
    "--holdout",
    metavar="LIST",
    help="Subjects that are not trained on, such as 108-119 or anna,ben",
)
@click.option(
    "--views", type=click.IntRange(min=1), help="Views that latents are encoded from  [default: 8]"
)
@click.option(
    "--subsets",
    type=click.IntRange(min=1),
    help="Different choices of these views per head  [default: 2]",
)
@cli.switch("--mirror", help="Also show every triplet mirrored  [default: 1]")
@click.option(
    "--batch", type=click.IntRange(min=1), help="Triplets per step  [default: the preset's]"
)
@click.option(
    "--width", type=click.IntRange(min=8), help="Width of the tokens  [default: the preset's]"
)
@click.option(
    "--layers", type=click.IntRange(min=1), help="Transformer blocks  [default: the preset's]"
)
@click.option(
    "--mixing", type=click.Choice(["attention", "convolution"]), help="How UV tokens see each other"
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    help="Learning rate  [default: the preset's]",
)
@click.option(
    "--pictures-from",
    type=click.IntRange(min=0),
    help="First step that compares pictures, not only latents  [default: the preset's]",
)
@click.option(
    "--steps", type=click.IntRange(min=1), help="Where the run ends  [default: the preset's]"
)
@click.option(
    "--precision",
    type=click.Choice(["bf16", "tf32", "fp32"]),
    help="Of convolutions and attention; tf32: on NVIDIA GPUs  [default: what is faster, timed]",
)
@run_options()
def main(resume, outdir, device, dry_run, **options):
    """Train a transformer that changes the expression of a reconstructed head (HeadsUp's F).

    \b
    python scripts/train_expression.py --network=training-runs/00000-encoder-… --data=CAPTURES \\
        --holdout=108-119
    python scripts/animate.py --network=RUN --latents=DIR --motion=RUN2 --weights=jawOpen=1 \\
        --output=out/open.webp
    """
    if resume is not None:
        refuse_with_resume(options, {"data", "network", "steps", "tick", "snap", "rate"})
    elif options["data"] is None:
        raise UserError("--data is missing: name multi-view captures with expression coefficients.")
    elif options["network"] is None:
        raise UserError(
            "--network is missing: name the reconstructor whose latents are to move (a run of "
            "scripts/train_encoder.py)."
        )
    check_outdir(outdir, resume, dry_run)
    from gghead.cli.common import expand, pick_device
    from gghead.torch_utils import config as config_json
    from gghead.training.expression.config import PRESETS, ExpressionTrainConfig, check
    from gghead.training.expression.run import run
    from gghead.training.run.precision import check_device, choose, expression_layers
    from gghead.training.run.run_folder import read_options

    chosen = pick_device(device)
    changes = {"data": {}, "model": {}, "loss": {}, **run_changes(options)}
    places = {
        "network": None,
        "steps": None,
        "precision": None,
        "batch": None,
        "rate": None,
        "views": "data",
        "subsets": "data",
        "mirror": "data",
        "width": "model",
        "layers": "model",
        "mixing": "model",
        "pictures_from": "loss",
    }
    for name, part in places.items():
        if options[name] is not None:
            (changes if part is None else changes[part])[name] = options[name]
    if options["data"] is not None:
        changes["data"]["path"] = options["data"]
    if options["holdout"]:
        changes["data"]["holdout"] = expand(options["holdout"])
    preset = PRESETS[options["preset"] or "tiny"]
    config = (
        read_options(resume, ExpressionTrainConfig, changes)
        if resume
        else config_json.replace(preset, changes)
    )
    if resume is not None:
        print(f"  precision {config.precision}: as before")
    else:
        if options["precision"] is None:
            precision, why = choose(chosen, expression_layers(config.model, config.batch))
            config = config_json.replace(config, {"precision": precision})
            print(f"  precision {precision}: {why}")
        check_device(config.precision, chosen)
    check(config)
    if dry_run:
        print(json.dumps(config_json.to_dict(config), indent=2))
        return
    run(config, outdir, chosen, resume=Path(resume) if resume else None)
