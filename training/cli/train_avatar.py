"""``python scripts/train_avatar.py --data=DIR --preset=tiny``."""

import json
from pathlib import Path

import click

from gghead.torch_utils import cli
from gghead.torch_utils import config as config_json
from gghead.torch_utils.errors import UserError
from gghead.training.avatar.config import ABLATIONS, PRESETS, AvatarTrainConfig
from gghead.training.run.run_options import (
    check_outdir,
    refuse_with_resume,
    require_same_network,
    run_changes,
    run_options,
)


@cli.command(stopped="Nothing was trained yet, so nothing is lost; the same command starts again.")
@click.option(
    "--data",
    metavar="DIR|ZIP",
    help="Tracked sequence with expression coefficients; see docs/formats.md",
)
@click.option(
    "--preset",
    type=click.Choice(["tiny", "headgas"]),
    default=None,
    help=(
        "headgas: the paper's numbers, at most 50,000 Gaussians; tiny: minutes on a CPU  [default:"
        " tiny]"
    ),
)
@click.option(
    "--resolution", metavar="N|WxH", help="Pixels of the training pictures  [default: the preset's]"
)
@click.option(
    "--iterations", type=click.IntRange(min=1), help="Frames shown in all  [default: the preset's]"
)
@click.option(
    "--points", type=click.IntRange(min=4), help="Gaussians to start with  [default: the preset's]"
)
@click.option(
    "--template",
    metavar="NAME|OBJ",
    help=(
        "Mesh that they are spread over: the head template, or a tracked "
        "mesh (.obj with UVs) in our axes and units  [default: head]"
    ),
)
@click.option(
    "--init-head",
    metavar="PLY|ENCODER",
    help=(
        "Start from this head instead of points on the template: a .ply, or an encoder"
        " (scripts/train_encoder.py), which makes one of the calmest training frames"
    ),
)
@click.option(
    "--max-gaussians",
    type=click.IntRange(min=0),
    help="Upper limit, 0 = none  [default: the preset's]",
)
@click.option(
    "--feature-dim", type=click.IntRange(min=1), help="Width of the feature basis  [default: 32]"
)
@click.option(
    "--sh-degree",
    type=click.IntRange(0, 3),
    help="Degree of the harmonics  [default: the preset's]",
)
@click.option(
    "--sh-every",
    type=click.IntRange(min=1),
    help="Iterations until one degree more  [default: 1000]",
)
@click.option(
    "--motion",
    type=click.Choice(["auto", "features", "blendshapes"]),
    help=(
        "Expressions change colour and opacity alone, as in the paper, or also move the Gaussians"
        " as the template's blendshapes do, which training corrects; auto: that, where names fit;"
        " see docs/motion.md  [default: tiny: auto; headgas and ablations: features]"
    ),
)
@click.option(
    "--motion-rate",
    type=click.FloatRange(min=0),
    help="Learning rate of that correction, 0 = none  [default: 0.005]",
)
@click.option(
    "--eyeballs",
    type=click.FloatRange(0, 0.5),
    metavar="SHARE",
    help=(
        "Of the points to start with, those "
        "that are eyeballs, where blendshapes move Gaussians; 0 = none  [default: 0.048]"
    ),
)
@click.option(
    "--mirrored-grid",
    type=click.IntRange(min=0),
    metavar="N",
    help=(
        "Side of a UV grid of bases that both "
        "sides of the face share, such as 32; 0 = none  [default: 0]"
    ),
)
@click.option(
    "--coefficients",
    type=click.IntRange(min=1),
    metavar="N",
    help=(
        "Only the first N of the sequence's "
        "expression coefficients; the paper takes 52 of FLAME's  [default: all]"
    ),
)
@click.option(
    "--extras",
    metavar="LIST",
    help="Tracked parameters to append to the expression: jaw,eyes,eyelids",
)
@click.option(
    "--ablation", type=click.Choice(list(ABLATIONS)), help="One of the paper's five ablations"
)
@click.option(
    "--background",
    type=click.Choice(["random", "blackwhite", "white"]),
    help="Behind the head in training",
)
@click.option(
    "--perceptual-net",
    metavar="SPEC",
    help=(
        "Perceptual loss: lpips-vgg[:FILES], lpips-alex[:FILES], vgg[:FILE],"
        " efficientnet-lite0[:FILE], discriminator:RUN, gradient, or a TorchScript file; see"
        " docs/perceptual.md  [default: off]"
    ),
)
@run_options("Iterations")
def main(resume, outdir, device, dry_run, **options):
    """Train an avatar of one person from a tracked sequence (HeadGaS).

    \b
    python scripts/train_avatar.py --data=sequence --preset=tiny
    python scripts/train_avatar.py --resume=training-runs/00000-avatar-tiny-sequence-128x128
    """
    if resume is not None:
        refuse_with_resume(options, {"data", "iterations", "tick", "snap", "perceptual_net"})
        from gghead.training.run.run_folder import read_options

        own = read_options(resume, AvatarTrainConfig)
        require_same_network(own.loss.perceptual_net, options["perceptual_net"], resume)
        config = config_json.replace(own, _changes(options))
    else:
        if options["data"] is None:
            raise UserError("--data is missing: name a folder or zip with a tracked sequence.")
        config = config_json.replace(PRESETS[options["preset"] or "tiny"], _changes(options))
        if options["motion_rate"] is not None and config.motion == "features":
            raise UserError(
                "--motion-rate corrects the motion of blendshapes, and --motion=features has none;"
                " leave one of them out."
            )
        if options["eyeballs"] and (config.motion == "features" or config.init_head):
            other = (
                "--init-head gives the points"
                if config.init_head
                else "--motion=features does not move them"
            )
            raise UserError(
                f"--eyeballs puts Gaussians behind the lids, but {other}; leave one of them out."
            )
    check_outdir(outdir, resume, dry_run)
    if dry_run:
        print(json.dumps(config_json.to_dict(config), indent=2))
        return
    from gghead.cli.common import pick_device
    from gghead.training.avatar.run import run

    run(config, outdir, pick_device(device), resume=Path(resume) if resume else None)


def _changes(options: dict) -> dict:
    """Options that were given -> the keys of ``AvatarTrainConfig``."""
    changes: dict = {"avatar": {}, "loss": {}, "densify": {}, **run_changes(options)}
    if options["ablation"]:
        for part, values in ABLATIONS[options["ablation"]].items():
            changes[part].update(values)
        changes["motion"] = "features"  # the paper's model, which the ablations are about
    places = {
        "data": None,
        "iterations": None,
        "points": None,
        "init_head": None,
        "template": None,
        "coefficients": None,
        "background": None,
        "sh_every": None,
        "motion": None,
        "eyeballs": None,
        "feature_dim": "avatar",
        "sh_degree": "avatar",
        "mirrored_grid": "avatar",
        "max_gaussians": "densify",
        "perceptual_net": "loss",
    }
    for name, part in places.items():
        if options[name] is not None:
            (changes if part is None else changes[part])[name] = options[name]
    if options["motion_rate"] is not None:
        changes["rates"] = {"motion": options["motion_rate"]}
    if options["extras"]:
        changes["extras"] = options["extras"].split(",")
    if options["resolution"]:
        changes["resolution"] = parse_size(options["resolution"])
    return changes


def parse_size(text: str) -> list[int]:
    """``256`` or ``320x240`` -> [width, height]."""
    parts = text.split("x")
    if len(parts) > 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise UserError(
            f"--resolution={text} is neither a number nor WIDTHxHEIGHT, such as 128 or 320x240."
        )
    return [int(part) for part in parts * (3 - len(parts))]
