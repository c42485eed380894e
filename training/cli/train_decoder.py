"""``python scripts/train_decoder.py --data=captures.zip``."""

import json
from pathlib import Path

from gghead.torch_utils import cli
from gghead.torch_utils import config as config_json
from gghead.torch_utils.config_options import ConfigOptions
from gghead.training.decoder.config import PRESETS, DecoderTrainConfig, check
from gghead.training.run.run_options import check_outdir, require_same_network, run_options

OPTIONS = ConfigOptions(DecoderTrainConfig, PRESETS, "tiny")


@cli.command(stopped="Nothing was trained yet, so nothing is lost; the same command starts again.")
@OPTIONS
@run_options
def main(resume, outdir, device, dry_run, **options):
    """Train a generator on captures of many people, one style for each.

    It makes closed heads from all sides before any GAN.

    \b
    python datasets/synthetic_heads.py --dest=captures.zip --num=2400 --views=12 --cameras=full
    python scripts/train_decoder.py --data=captures.zip
    python train.py --data=heads.zip --init=training-runs/00000-decoder-tiny-captures
    """
    if resume is not None:
        OPTIONS.refuse_with_resume(options)
    else:
        config = OPTIONS.apply(OPTIONS.start(options), options)
        check(config)
    check_outdir(outdir, resume, dry_run)
    from gghead.cli.common import pick_device
    from gghead.training.decoder.run import run
    from gghead.training.run.precision import generator_layers, with_precision
    from gghead.training.run.run_folder import read_options

    chosen = pick_device(device)
    if resume is not None:
        own = read_options(resume, DecoderTrainConfig)
        require_same_network(own.loss.perceptual_net, options["perceptual_net"], resume)
        config = OPTIONS.apply(own, options)
        check(config)
        print(f"  precision {config.precision}: as before")
    else:
        layers = generator_layers(config.generator, config.batch)
        config = with_precision(config, OPTIONS.is_given(options, "precision"), chosen, layers)
    if dry_run:
        print(json.dumps(config_json.to_dict(config), indent=2))
        return
    run(config, outdir, chosen, resume=Path(resume) if resume else None)
