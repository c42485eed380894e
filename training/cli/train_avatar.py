"""``python scripts/train_avatar.py --data=DIR --preset=tiny``."""

import json
from pathlib import Path

import click

from gghead.torch_utils import cli
from gghead.torch_utils import config as config_json
from gghead.torch_utils.config_options import ConfigOptions
from gghead.torch_utils.errors import UserError
from gghead.training.avatar.config import ABLATIONS, PRESETS, AvatarTrainConfig
from gghead.training.run.run_options import check_outdir, require_same_network, run_options

OPTIONS = ConfigOptions(AvatarTrainConfig, PRESETS, "tiny")


@cli.command(
    renamed={"--iterations": "--steps", "--motion-rate": "--motion-lr"},
    stopped="Nothing was trained yet, so nothing is lost; the same command starts again.",
)
@OPTIONS
@click.option(
    "--ablation", type=click.Choice(list(ABLATIONS)), help="One of the paper's five ablations"
)
@run_options
def main(resume, outdir, device, dry_run, **options):
    """Train an avatar of one person from a tracked sequence (HeadGaS).

    \b
    python scripts/train_avatar.py --data=sequence --preset=tiny
    python scripts/train_avatar.py --resume=training-runs/00000-avatar-tiny-sequence-128x128
    """
    if resume is not None:
        OPTIONS.refuse_with_resume(options)
        from gghead.training.run.run_folder import read_options

        own = read_options(resume, AvatarTrainConfig)
        require_same_network(own.loss.perceptual_net, options["perceptual_net"], resume)
        config = OPTIONS.apply(own, options)
    else:
        config = _new(options)
    check_outdir(outdir, resume, dry_run)
    if dry_run:
        print(json.dumps(config_json.to_dict(config), indent=2))
        return
    from gghead.cli.common import pick_device
    from gghead.training.avatar.run import run

    run(config, outdir, pick_device(device), resume=Path(resume) if resume else None)


def _new(options: dict) -> AvatarTrainConfig:
    """The config of a new run; ``UserError`` for options that are missing or would do nothing."""
    if options["data"] is None:
        raise UserError("--data is missing: name a folder or zip with a tracked sequence.")
    config = OPTIONS.start(options)
    if options["ablation"]:
        # the ablations are about the paper's model
        changes = {"motion": "features", **ABLATIONS[options["ablation"]]}
        config = config_json.replace(config, changes)
    config = OPTIONS.apply(config, options)
    if options["motion_lr"] is not None and config.motion == "features":
        raise UserError(
            "--motion-lr corrects the motion of blendshapes, and --motion=features has none;"
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
    return config
