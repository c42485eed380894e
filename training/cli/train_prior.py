"""``python scripts/train_prior.py --network=demo --samples=20000``."""

import json
from pathlib import Path

from gghead.torch_utils import cli
from gghead.torch_utils import config as config_json
from gghead.torch_utils.config_options import ConfigOptions
from gghead.training.prior.config import PRESETS, PriorTrainConfig
from gghead.training.run.run_options import check_outdir, run_options

OPTIONS = ConfigOptions(PriorTrainConfig, PRESETS, "tiny")


@cli.command(
    renamed={"--holdout": "--holdout-share"},
    stopped="Nothing was trained yet, so nothing is lost; the same command starts again.",
)
@OPTIONS
@run_options
def main(resume, outdir, device, dry_run, **options):
    """Train a flow-matching prior over the latents of a generator.

    \b
    python scripts/train_prior.py --network=demo --samples=20000
    python scripts/train_prior.py --network=RUN --latents=latents --preset=small
    """
    if resume is not None:
        OPTIONS.refuse_with_resume(options)
        from gghead.training.run.run_folder import read_options

        config = OPTIONS.apply(read_options(resume, PriorTrainConfig), options)
    else:
        config = OPTIONS.apply(OPTIONS.start(options), options)
    check_outdir(outdir, resume, dry_run)
    if dry_run:
        print(json.dumps(config_json.to_dict(config), indent=2))
        return
    from gghead.cli.common import pick_device
    from gghead.training.prior.run import run

    run(config, outdir, pick_device(device), resume=Path(resume) if resume else None)
