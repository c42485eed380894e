"""``python scripts/train_encoder.py --data=captures.zip --preset=tiny``."""

import json
from pathlib import Path

import click

from gghead.torch_utils import cli
from gghead.torch_utils import config as config_json
from gghead.torch_utils.errors import UserError
from gghead.training.encoder.config import NO_DATA, PRESETS, EncoderTrainConfig, check
from gghead.training.run.run_options import (
    check_outdir,
    refuse_with_resume,
    require_same_network,
    run_changes,
    run_options,
)


@cli.command(stopped="Nothing was trained yet, so nothing is lost; the same command starts again.")
@click.option(
    "--data", metavar="DIR|ZIP", help="Multi-view captures with masks; see docs/formats.md"
)
@click.option(
    "--preset",
    type=click.Choice(["tiny", "small", "headsup"]),
    default=None,
    help="headsup: the paper's numbers; tiny: hours on a CPU  [default: tiny]",
)
@click.option(
    "--init", metavar="RUN|FILE", help="Start from this GAN's generator, or from this reconstructor"
)
@click.option(
    "--decoder",
    type=click.Choice(["tuned", "frozen"]),
    help="Train the decoder too?  [default: tuned]",
)
@click.option(
    "--gan-share",
    type=click.FloatRange(0, 1),
    help="Share of steps that see samples of --init  [default: 0, or 1 without --data]",
)
@click.option(
    "--holdout",
    metavar="LIST",
    help="Subjects that are not trained on, such as 108-119 or anna,ben",
)
@click.option(
    "--identities", type=click.IntRange(min=1), help="Use only the first so many subjects"
)
@click.option("--cameras", type=click.IntRange(min=2), help="Use only so many cameras of each head")
@click.option("--views", type=cli.IntRangeList(), help="Numbers of input views that are drawn from")
@click.option(
    "--resolution",
    type=click.IntRange(min=16),
    help="Side of inputs and targets  [default: the preset's]",
)
@click.option("--batch", type=click.IntRange(min=1), help="Heads per step  [default: the preset's]")
@click.option(
    "--width", type=click.IntRange(min=8), help="Width of the tokens  [default: the preset's]"
)
@click.option(
    "--layers", type=click.IntRange(min=1), help="Transformer blocks  [default: the preset's]"
)
@cli.switch("--guided", help="Look up where texels project to  [default: the preset's]")
@click.option(
    "--corrections",
    type=click.IntRange(min=0),
    help=(
        "Passes that compare the guess with the views and "
        "correct it  [default: those of --init or of the preset]"
    ),
)
@click.option(
    "--background",
    type=click.Choice(["white", "image"]),
    help=(
        "Put pictures over white by their masks, or "
        "model what stands behind the head too  [default: the preset's]"
    ),
)
@cli.switch("--mirror", help="Also show every head mirrored  [default: 1]")
@click.option(
    "--perceptual-net",
    metavar="SPEC",
    help=(
        "lpips-vgg, efficientnet-lite0, discriminator:RUN, "
        "a TorchScript file … (docs/perceptual.md); else none"
    ),
)
@click.option(
    "--lr",
    type=click.FloatRange(0, 1, min_open=True),
    help=(
        "Largest rate of learning of the encoder, which the decoder's follows; less than half the"
        " preset's continues a finished --init  [default: the preset's]"
    ),
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
    """Train an encoder that reconstructs a head from any number of views (HeadsUp).

    \b
    python scripts/train_encoder.py --data=captures.zip --holdout=108-119
    python scripts/train_encoder.py --init=training-runs/00000-tiny-… --decoder=frozen
    torchrun --nproc-per-node=8 scripts/train_encoder.py --data=captures.zip --preset=headsup
    """
    if resume is not None:
        refuse_with_resume(options, {"data", "steps", "tick", "snap", "lr", "perceptual_net"})
    else:
        if options["data"] is None and options["init"] is None and options["gan_share"] is None:
            raise UserError(NO_DATA)
        preset = PRESETS[options["preset"] or "tiny"]
        config_json.replace(preset, _changes(options, preset))  # says which values cannot be
    check_outdir(outdir, resume, dry_run)
    from gghead import checkpoints
    from gghead.cli.common import pick_device
    from gghead.torch_utils import distributed
    from gghead.training.encoder.run import run
    from gghead.training.run.precision import agreed, check_device, choose, encoder_layers
    from gghead.training.run.run_folder import read_options

    chosen = pick_device(device)
    if resume is not None:
        own = read_options(resume, EncoderTrainConfig)
        require_same_network(own.loss.perceptual_net, options["perceptual_net"], resume)
        config = config_json.replace(own, _changes(options, own))
        print(f"  precision {config.precision}: as before")
    else:
        config = config_json.replace(preset, _changes(options, preset))
        if options["init"] is not None:
            config = _take_over(config, checkpoints.load(options["init"]))
            if options["corrections"] == 0 < config.model.corrections:
                raise UserError(
                    f"{options['init']} was trained with corrections, which --corrections=0 would"
                    " take away; leave the option out."
                )
            if options["corrections"] is not None:
                config = config_json.replace(
                    config, {"model": {"corrections": options["corrections"]}}
                )
        if options["resolution"] is not None:
            stages = [
                {**stage, "image_size": options["resolution"]}
                for stage in config_json.to_dict(config.stages)
            ]
            config = config_json.replace(config, {"stages": stages})
        if options["precision"] is None:
            stage = config.stages[0]
            precision, why = choose(
                chosen, encoder_layers(config.model, stage.batch * max(stage.views))
            )
            config = config_json.replace(config, {"precision": precision})
            print(f"  precision {precision}: {why}")
        check_device(config.precision, chosen)
    check(config)
    if dry_run:
        print(json.dumps(config_json.to_dict(config), indent=2))
        return
    processes, chosen = distributed.start(chosen)
    try:
        config = config_json.replace(config, {"precision": agreed(config.precision)})
        run(config, outdir, chosen, processes, resume=Path(resume) if resume else None)
    finally:
        distributed.stop()


def _take_over(config, network):
    """The config with the model of --init, which the run continues."""
    from gghead.models.generator import Generator
    from gghead.models.reconstructor import Reconstructor

    if isinstance(network, Reconstructor):
        return config_json.replace(config, {"model": network.config})
    if not isinstance(network, Generator):
        raise UserError(
            "--init names an avatar; a generator (train.py) or a reconstructor (train_encoder.py)"
            " is needed."
        )
    size = network.config.image_size
    stages = [{**stage, "image_size": size} for stage in config_json.to_dict(config.stages)]
    return config_json.replace(config, {"model": {"generator": network.config}, "stages": stages})


def _changes(options: dict, preset) -> dict:
    """Options that were given -> the keys of ``EncoderTrainConfig``."""
    from gghead.cli.common import expand

    changes: dict = {"data": {}, "model": {}, "loss": {}, "rates": {}, **run_changes(options)}
    places = {
        "init": None,
        "steps": None,
        "precision": None,
        "gan_share": "data",
        "identities": "data",
        "cameras": "data",
        "mirror": "data",
        "background": "data",
        "width": "model",
        "layers": "model",
        "guided": "model",
        "corrections": "model",
        "perceptual_net": "loss",
    }
    for name, part in places.items():
        if options[name] is not None:
            (changes if part is None else changes[part])[name] = options[name]
    if options["data"] is not None:
        changes["data"]["path"] = options["data"]
    elif options["init"] is not None and options["gan_share"] is None:
        changes["data"]["gan_share"] = 1.0
    if options["holdout"]:
        changes["data"]["holdout"] = expand(options["holdout"])
    if options["background"] is not None:
        changes["model"]["background"] = {
            "kind": "sphere" if options["background"] == "image" else "none"
        }
    if options["lr"] is not None and preset is not None:
        rates = preset.rates
        changes["rates"] = {
            "encoder": options["lr"],
            "decoder": rates.decoder * options["lr"] / rates.encoder,
        }
    if options["decoder"] == "frozen":
        changes["rates"]["decoder"] = 0.0
    if options["perceptual_net"] is not None and preset is not None and preset.loss.perceptual == 0:
        changes["loss"]["perceptual"] = 0.5
    if preset is not None and (options["views"] or options["batch"]):
        stages = config_json.to_dict(preset.stages)
        for stage in stages:
            stage["views"] = options["views"] or stage["views"]
            stage["batch"] = options["batch"] or stage["batch"]
        changes["stages"] = stages
    return changes
