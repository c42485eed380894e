"""The options of a GAN's training, and the choices made for the user with their reasons.

``python train.py --data=X.zip`` calls it.
"""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gghead.torch_utils import cli
from gghead.torch_utils import config as config_json
from gghead.torch_utils.config_options import ConfigOptions
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.progress import progress
from gghead.training.gan.config import PRESETS, DataConfig, TrainConfig, check, default_gamma
from gghead.training.metrics.names import check_feature_net, parse_metrics
from gghead.training.run.run_options import run_options

if TYPE_CHECKING:  # torch takes seconds, which --help and wrong options must not cost
    import torch

    from gghead.data import ImageDataset
    from gghead.training.gan.initial import Initial

# images; below this a discriminator starts to learn the set by heart (ADA paper, figure 1)
_SMALL_SET = 20000
OPTIONS = ConfigOptions(TrainConfig, PRESETS, None)


def resolve_preset(
    image_size: int, device: "torch.device", initial: "Initial | None" = None
) -> tuple[str, str]:
    """The preset for images of this size on this device, and the reason.

    The size is that of ``initial`` where there is one.
    """
    if initial is not None:
        for name in ("tiny", "small", "ffhq256", "ffhq512", "ffhq1024"):
            if PRESETS[name].generator.image_size == initial.config.image_size:
                return name, f"it has the {initial.config.image_size} pixels of --init"
    if device.type != "cuda":
        return "tiny", f"it trains on a {device.type.upper()}; other presets with --preset"
    fitting = [
        name
        for name in ("tiny", "small", "ffhq256", "ffhq512", "ffhq1024")
        if PRESETS[name].generator.image_size <= image_size
    ]
    if not fitting:
        raise UserError(
            f"--data has images of {image_size} pixels; the smallest preset needs 64: enlarge them"
            " first."
        )
    return fitting[-1], f"the images have {image_size} pixels"


def resolve(
    options: dict,
    image_size: int,
    num_images: int,
    has_masks: bool,
    device: "torch.device",
    initial: "Initial | None" = None,
) -> tuple[TrainConfig, list[str]]:
    """Turn options (None: not given) and the facts of the data into a config and reasons.

    The reasons can be printed.

    Raises ``UserError`` naming the option that does not fit.
    """
    reasons = []
    name = options["preset"]
    if name is None:
        name, why = resolve_preset(image_size, device, initial)
        reasons.append(f"preset {name}: {why}")
    start = PRESETS[name]
    if initial is not None:
        from gghead.training.gan.initial import follow_network

        start = follow_network(start, initial)
    config = OPTIONS.apply(start, options)
    if initial is not None:
        reasons.append(f"generator: as in --init={initial.name}")
        if initial.from_captures:
            reasons.append(
                f"glr {config.optimizer.g_lr:g}, lambda-anchor {config.loss.lambda_anchor:g},"
                f" blur-fade-kimg {config.loss.blur_fade_kimg:g}: it has learned shapes from"
                " captures"
            )
    config = _follow_data(config, options, image_size, num_images, has_masks, reasons)
    _check_of_use(config, options)
    if not OPTIONS.is_given(options, "loss.r1_gamma") and not name.startswith(("ffhq", "afhq")):
        gamma = default_gamma(config.stages[-1].image_size, config.batch)
        gamma = max(gamma, PRESETS[name].loss.r1_gamma)
        config = replace(config, loss=replace(config.loss, r1_gamma=gamma))
        reasons.append(
            f"gamma {gamma:g}: for {config.stages[-1].image_size} pixels and batch {config.batch}"
        )
    from gghead.training.run.precision import check_device, choose, gan_layers

    if options.get("fp32"):
        precision, why = "fp32", "--fp32 was given"
    elif options.get("precision"):
        precision, why = options["precision"], "--precision was given"
        check_device(precision, device)
    elif OPTIONS.is_given(options, "precision"):
        precision, why = config.precision, "--set was given"
    else:
        precision, why = choose(
            device, gan_layers(config.generator, config.discriminator, config.batch)
        )
    config = replace(config, precision=precision)
    reasons.append(f"precision {precision}: {why}")
    return config, reasons


def _follow_data(
    config: TrainConfig,
    options: dict,
    image_size: int,
    num_images: int,
    has_masks: bool,
    reasons: list[str],
) -> TrainConfig:
    wanted = max(stage.image_size for stage in config.stages)
    if wanted > image_size:
        raise UserError(
            f"--preset={config.preset} trains at {wanted} pixels, but the images have {image_size};"
            " choose a smaller preset or larger images."
        )
    if not has_masks and not OPTIONS.is_given(options, "data.background"):
        config = config_json.replace(
            config,
            {"data": {"background": "image"}, "generator": {"background": {"kind": "gaussians"}}},
        )
        reasons.append("background gaussians: the data have no masks")
    elif not has_masks and config.data.background != "image":
        raise UserError(
            f"--background={config.data.background} needs masks, but the data have none; give"
            " --masks."
        )
    if (
        config.augment.mode == "noaug"
        and not OPTIONS.is_given(options, "augment.mode")
        and num_images < _SMALL_SET
    ):
        config = config_json.replace(config, {"augment": {"mode": "ada"}})
        reasons.append(f"aug ada: only {num_images} images")
    if config.batch < 8:
        reasons.append(
            f"batch {config.batch} is small: expect unstable training; raise --gamma if it"
            " collapses"
        )
    return config


def _check_of_use(config: TrainConfig, options: dict) -> None:
    """Raise ``UserError`` for an option that would change nothing."""
    for key, used, remedy in (
        ("augment.p", config.augment.mode == "fixed", "--aug=fixed"),
        ("augment.target", config.augment.mode == "ada", "--aug=ada"),
        ("loss.swap_end", config.generator.pose_cond, "--gen-pose-cond=1"),
        ("loss.swap_fade_kimg", config.generator.pose_cond, "--gen-pose-cond=1"),
    ):
        if OPTIONS.is_given(options, key) and not used:
            raise UserError(
                f"{OPTIONS.flags[key]} does nothing without {remedy}; add that, or leave it out."
            )


@cli.command(
    renamed={"--max-images": "--subset"},
    stopped="Nothing was trained yet, so nothing is lost; the same command starts again.",
)
@OPTIONS
@cli.switch("--fp32", help="Same as --precision=fp32")
@click.option(
    "--init",
    help="Start from the networks of this run, or from a snapshot's generator",
    metavar="FILE|RUN",
)
@click.option("--desc", help="Text at the end of the run folder's name", metavar="STR")
@run_options
def main(**options) -> None:
    """Train a generator of 3D Gaussian heads.

    \b
    python train.py --data=heads.zip      # preset, batch, gamma, device follow from the data
    python train.py --resume=training-runs/00000-tiny-heads-gpus1-batch16-gamma0.2
    torchrun --nproc-per-node=2 train.py --data=ffhq.zip --preset=ffhq512
    """
    _check_options(options)
    from gghead.cli.common import pick_device
    from gghead.torch_utils import distributed
    from gghead.training.gan.initial import read_initial
    from gghead.training.gan.run import run

    device = pick_device(options["device"])
    found = "a GPU is here" if device.type == "cuda" else "no GPU is here"
    why = "--device was given" if options["device"] != "auto" else found
    processes, device = distributed.start(device)
    folder = dataset = initial = None
    try:
        if options["resume"]:
            folder, config, reasons = _resume(options)
        else:
            dataset = _open_data(options)
            facts = dataset.resolution, len(dataset), dataset.has_masks
            if options["init"]:
                with progress(f"Reading {options['init']}"):
                    initial = read_initial(options["init"])
            config, reasons = resolve(options, *facts, device, initial)
        check(config, processes.world_size)
        if processes.is_first:
            for reason in [f"device {device.type}: {why}", *reasons]:
                print(f"  {reason}")
        if options["dry_run"]:
            if processes.is_first:
                print(json.dumps(config_json.to_dict(config), indent=2))
            return
        run(
            config,
            options["outdir"],
            device,
            processes,
            # what --set says of the data goes beyond what was opened
            dataset=None if any(pair.startswith("data.") for pair in options["set"]) else dataset,
            resume=folder,
            init=initial,
            desc=options["desc"],
        )
    finally:
        if dataset is not None:
            dataset.close()
        distributed.stop()


def _check_options(options: dict) -> None:
    """Raise ``UserError`` for wrong options, before anything is loaded."""
    if options["resume"]:
        OPTIONS.refuse_with_resume(
            options, {"resume", "device", "outdir", "dry_run"}, ", or start a new run with --init"
        )
        return
    if not options["data"]:
        recipe = cli.hint("datasets/synthetic_heads.py", "--dest=heads.zip")
        raise UserError(
            f"--data is missing: name a zip of images with cameras, or make one with {recipe}."
        )
    if options["data"].endswith(".zip") and not os.path.exists(options["data"]):
        raise UserError(
            f"--data={options['data']} does not exist; name a zip or folder of images with cameras."
        )
    config = OPTIONS.apply(PRESETS[options["preset"] or "tiny"], options)
    check_feature_net(parse_metrics(config.metrics), config.feature_net)
    if not options["dry_run"]:
        cli.check_writable(options["outdir"], "--outdir", folder=True)


def _open_data(options: dict) -> "ImageDataset":
    from gghead.training.gan.data import open_dataset

    data = OPTIONS.changes(options)["data"]
    with progress(f"Reading {options['data']}"):
        return open_dataset(config_json.from_dict(DataConfig, data, "the options"))


def _resume(options: dict) -> tuple[Path, TrainConfig, list[str]]:
    from gghead.training.run.run_folder import read_options

    folder = Path(options["resume"])
    config = OPTIONS.apply(read_options(folder), options)
    return folder, config, [f"resuming {folder}", f"precision {config.precision}: as before"]
