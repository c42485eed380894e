"""``python scripts/train_encoder.py --data=captures.zip --preset=tiny``."""

import json
from dataclasses import replace
from pathlib import Path

import click

from gghead.torch_utils import cli
from gghead.torch_utils import config as config_json
from gghead.torch_utils.config import ConfigError
from gghead.torch_utils.config_options import ConfigOptions
from gghead.torch_utils.errors import UserError
from gghead.training.encoder.config import NO_DATA, PRESETS, EncoderTrainConfig, check
from gghead.training.run.run_options import check_outdir, require_same_network, run_options

OPTIONS = ConfigOptions(
    EncoderTrainConfig, PRESETS, "tiny", names={"rates.decoder=0": "--decoder=frozen"}
)


@cli.command(
    renamed={"--cameras": "--max-cameras", "--identities": "--max-subjects"},
    stopped="Nothing was trained yet, so nothing is lost; the same command starts again.",
)
@OPTIONS
@click.option(
    "--decoder",
    type=click.Choice(["tuned", "frozen"]),
    help="Train the decoder too?  [default: tuned]",
)
@run_options
def main(resume, outdir, device, dry_run, **options):
    """Train an encoder that reconstructs a head from any number of views (HeadsUp).

    \b
    python scripts/train_encoder.py --data=captures.zip --holdout=108-119
    python scripts/train_encoder.py --init=training-runs/00000-tiny-… --decoder=frozen
    torchrun --nproc-per-node=8 scripts/train_encoder.py --data=captures.zip --preset=headsup
    """
    if resume is not None:
        OPTIONS.refuse_with_resume(options)
    else:
        if options["data"] is None and options["init"] is None and options["gan_share"] is None:
            raise ConfigError(NO_DATA)
        preset = OPTIONS.start(options)
        _apply(preset, options)  # says which values cannot be
    check_outdir(outdir, resume, dry_run)
    from gghead.cli.common import pick_device
    from gghead.torch_utils import distributed
    from gghead.training.encoder.run import run
    from gghead.training.run.precision import agree, encoder_layers, with_precision
    from gghead.training.run.run_folder import read_options

    chosen = pick_device(device)
    if resume is not None:
        own = read_options(resume, EncoderTrainConfig)
        require_same_network(own.loss.perceptual_net, options["perceptual_net"], resume)
        config = _apply(own, options)
        print(f"  precision {config.precision}: as before")
    else:
        config = _apply(preset, options)
        if options["init"] is not None:
            config = _continue(config, options)
        stage = config.stages[0]
        layers = encoder_layers(config.model, stage.batch * max(stage.views))
        config = with_precision(config, OPTIONS.is_given(options, "precision"), chosen, layers)
    check(config)
    if dry_run:
        print(json.dumps(config_json.to_dict(config), indent=2))
        return
    processes, chosen = distributed.start(chosen)
    try:
        config = config_json.replace(config, {"precision": agree(config.precision)})
        run(config, outdir, chosen, processes, resume=Path(resume) if resume else None)
    finally:
        distributed.stop()


def _continue(config: EncoderTrainConfig, options: dict) -> EncoderTrainConfig:
    """The config with the model of --init, which the run continues; corrections may be added."""
    from gghead import checkpoints
    from gghead.models.generator import Generator
    from gghead.models.reconstructor import Reconstructor

    init = options["init"]
    network = checkpoints.load(init)
    if isinstance(network, Reconstructor):
        taken = config_json.replace(config, {"model": network.config})
    elif isinstance(network, Generator):
        size = network.config.image_size
        taken = config_json.replace(
            config, {"model": {"generator": network.config}, "stages": {"image_size": size}}
        )
    else:
        raise UserError(
            "--init names an avatar; a generator (train.py) or a reconstructor (train_encoder.py)"
            " is needed."
        )
    if options["corrections"] == 0 < taken.model.corrections:
        raise UserError(
            f"{init} was trained with corrections, which --corrections=0 would take away; leave the"
            " option out."
        )
    later = {name: options[name] for name in ("corrections", "resolution", "set")}
    config = OPTIONS.apply(taken, later)
    kept = replace(config.model, corrections=taken.model.corrections)
    if kept.generator != taken.model.generator or (
        isinstance(network, Reconstructor) and kept != taken.model
    ):
        raise UserError(
            f"--set changes the model of {init}, which the run continues; leave it out."
        )
    return config


def _apply(start: EncoderTrainConfig, options: dict) -> EncoderTrainConfig:
    """The config with the options, and with what follows from them."""
    follows: list = []
    if options["init"] is not None and options["data"] is None:
        follows.append(("data.gan_share", 1.0))
    if options["background"] is not None:
        kind = "sphere" if options["background"] == "image" else "none"
        follows.append(("model.background.kind", kind))
    if options["lr"] is not None:
        follows.append(("rates.decoder", start.rates.decoder * options["lr"] / start.rates.encoder))
    if options["decoder"] == "frozen":
        follows.append(("rates.decoder", 0.0))
    if options["perceptual_net"] is not None and start.loss.perceptual == 0:
        follows.append(("loss.perceptual", 0.5))
    return OPTIONS.apply(config_json.replace(start, config_json.nest(follows)), options)
