"""``python scripts/train_expression.py --network=RUN --data=captures.zip``."""

import json
from pathlib import Path

from gghead.torch_utils import cli
from gghead.torch_utils import config as config_json
from gghead.torch_utils.config_options import ConfigOptions
from gghead.training.expression.config import PRESETS, ExpressionTrainConfig, check
from gghead.training.run.run_options import check_outdir, run_options

OPTIONS = ConfigOptions(ExpressionTrainConfig, PRESETS, "tiny")


@cli.command(
    renamed={"--rate": "--lr"},
    stopped="Nothing was trained yet, so nothing is lost; the same command starts again.",
)
@OPTIONS
@run_options
def main(resume, outdir, device, dry_run, **options):
    """Train a transformer that changes the expression of a reconstructed head (HeadsUp's F).

    \b
    python scripts/train_expression.py --network=training-runs/00000-encoder-… --data=CAPTURES \\
        --holdout=108-119
    python scripts/animate.py --network=RUN --latents=DIR --motion=RUN2 --weights=jawOpen=1 \\
        --output=out/open.webp
    """
    if resume is not None:
        OPTIONS.refuse_with_resume(options)
    else:
        config = OPTIONS.apply(OPTIONS.start(options), options)
        check(config)
    check_outdir(outdir, resume, dry_run)
    from gghead.cli.common import pick_device
    from gghead.training.expression.run import run
    from gghead.training.run.precision import expression_layers, with_precision
    from gghead.training.run.run_folder import read_options

    chosen = pick_device(device)
    if resume is not None:
        config = OPTIONS.apply(read_options(resume, ExpressionTrainConfig), options)
        check(config)
        print(f"  precision {config.precision}: as before")
    else:
        layers = expression_layers(config.model, config.batch)
        config = with_precision(config, OPTIONS.is_given(options, "precision"), chosen, layers)
    if dry_run:
        print(json.dumps(config_json.to_dict(config), indent=2))
        return
    run(config, outdir, chosen, resume=Path(resume) if resume else None)
