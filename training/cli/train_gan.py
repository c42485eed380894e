"""``python train.py --data=X.zip``: options, and the choices made for the user with their
reasons."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gghead.torch_utils import cli
from gghead.torch_utils import config as config_json
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.progress import progress
from gghead.training.gan.config import PRESETS, DataConfig, TrainConfig, check, default_gamma
from gghead.training.metrics.names import check_feature_net, parse_metrics

if TYPE_CHECKING:  # torch takes seconds, which --help and wrong options must not cost
    import torch

    from gghead.data import ImageDataset

# images; below this a discriminator starts to learn the set by heart (ADA paper, figure 1)
_SMALL_SET = 20000


def resolve_preset(image_size: int, device: "torch.device") -> tuple[str, str]:
    """The preset for images of this size on this device, and the reason."""
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
    options: dict, image_size: int, num_images: int, has_masks: bool, device: "torch.device"
) -> tuple[TrainConfig, list[str]]:
    """Turn command-line options (None: not given) and the facts of the data into a config and
    printable reasons.

    Raises ``UserError`` naming the option that does not fit.
    """
    reasons = []
    name = options["preset"]
    if name is None:
        name, why = resolve_preset(image_size, device)
        reasons.append(f"preset {name}: {why}")
    config = overridden(PRESETS[name], options)
    config = _follow_data(config, options, image_size, num_images, has_masks, reasons)
    _check_of_use(config, options)
    if not _given(options, "gamma", "loss.r1_gamma") and not name.startswith(("ffhq", "afhq")):
        gamma = default_gamma(config.stages[-1].image_size, config.batch)
        gamma = max(gamma, PRESETS[name].loss.r1_gamma)
        config = replace(config, loss=replace(config.loss, r1_gamma=gamma))
        reasons.append(
            f"gamma {gamma:g}: for {config.stages[-1].image_size} pixels and batch {config.batch}"
        )
    if options.get("lambda_tv") is not None:
        config = replace(
            config, stages=tuple(replace(s, lambda_tv=options["lambda_tv"]) for s in config.stages)
        )
    from gghead.training.run.precision import check_device, choose, gan_layers

    if options.get("fp32"):
        precision, why = "fp32", "--fp32 was given"
    elif options.get("precision"):
        precision, why = options["precision"], "--precision was given"
        check_device(precision, device)
    elif _given(options, "precision", "precision"):
        precision, why = config.precision, "--set was given"
    else:
        precision, why = choose(
            device, gan_layers(config.generator, config.discriminator, config.batch)
        )
    config = replace(config, precision=precision)
    reasons.append(f"precision {precision}: {why}")
    return config, reasons


def overridden(config: TrainConfig, options: dict) -> TrainConfig:
    """The config with what the options say; ``UserError`` for values that it cannot have."""
    over: dict = {
        "data": {"path": str(options["data"])},
        "loss": {},
        "optimizer": {},
        "augment": {},
        "generator": {},
        "discriminator": {},
    }
    for option, section, key in (
        ("masks", "data", "masks"),
        ("mirror", "data", "mirror"),
        ("max_images", "data", "max_images"),
        ("background", "data", "background"),
        ("gamma", "loss", "r1_gamma"),
        ("loss", "loss", "kind"),
        ("blur_fade_kimg", "loss", "blur_fade_kimg"),
        ("style_mixing_prob", "loss", "style_mixing"),
        ("gpc_reg_prob", "loss", "swap_end"),
        ("gpc_reg_fade_kimg", "loss", "swap_fade_kimg"),
        ("glr", "optimizer", "g_lr"),
        ("dlr", "optimizer", "d_lr"),
        ("aug", "augment", "mode"),
        ("p", "augment", "p"),
        ("target", "augment", "target"),
        ("template", "generator", "template"),
        ("map_depth", "generator", "map_depth"),
        ("gen_pose_cond", "generator", "pose_cond"),
        ("cond", "discriminator", "cond"),
        ("disc_alpha", "discriminator", "alpha"),
        ("mbstd_group", "discriminator", "mbstd_group"),
        ("batch", None, "batch"),
        ("batch_gpu", None, "batch_gpu"),
        ("kimg", None, "kimg"),
        ("tick", None, "tick_kimg"),
        ("snap", None, "snapshot_ticks"),
        ("seed", None, "seed"),
        ("workers", None, "workers"),
        ("feature_net", None, "feature_net"),
    ):
        if options.get(option) is not None:
            (over[section] if section else over)[key] = options[option]
    for key in ("cbase", "cmax"):
        if options.get(key) is not None:
            over["generator"][key] = over["discriminator"][key] = options[key]
    if options.get("metrics") is not None:
        over["metrics"] = [] if options["metrics"] == "none" else options["metrics"].split(",")
    return _assignments(config_json.replace(config, over, "the options"), options.get("set") or ())


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
    if not has_masks and not _given(options, "background", "data.background"):
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
        and not _given(options, "aug", "augment.mode")
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


def _given(options: dict, option: str, key: str) -> bool:
    """Whether the user chose this value, by its option or by ``--set key=...``."""
    return options.get(option) is not None or any(
        pair.startswith(f"{key}=") for pair in options.get("set") or ()
    )


def _check_of_use(config: TrainConfig, options: dict) -> None:
    """Raise ``UserError`` for an option that would change nothing."""
    for option, used, remedy in (
        ("p", config.augment.mode == "fixed", "--aug=fixed"),
        ("target", config.augment.mode == "ada", "--aug=ada"),
        ("gpc_reg_prob", config.generator.pose_cond, "--gen-pose-cond=1"),
        ("gpc_reg_fade_kimg", config.generator.pose_cond, "--gen-pose-cond=1"),
    ):
        if options.get(option) is not None and not used:
            raise UserError(
                f"--{option.replace('_', '-')} does nothing without {remedy}; add that, or leave it"
                " out."
            )


def _assignments(config: TrainConfig, pairs: tuple[str, ...]) -> TrainConfig:
    """Apply ``--set generator.attributes.sh_degree=1`` and the like; values are JSON, or plain
    text."""
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator:
            raise UserError(
                f"--set={pair} must have the form key=value, e.g. --set=loss.blur_sigma=5."
            )
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        parts = key.split(".")
        if parts[0] == "stages":
            if len(parts) != 2:
                raise UserError(
                    f"--set={pair}: a stage option is set for all stages as stages.NAME=VALUE."
                )
            stages = tuple(
                config_json.replace(stage, {parts[1]: value}, "--set stages")
                for stage in config.stages
            )
            config = replace(config, stages=stages)
            continue
        nested: dict = {parts[-1]: value}
        for part in reversed(parts[:-1]):
            nested = {part: nested}
        config = config_json.replace(config, nested, "--set")
    return config


@cli.command(stopped="Nothing was trained yet, so nothing is lost; the same command starts again.")
@click.option(
    "--data",
    help="Training images with cameras: EG3D zip or folder, or a folder of zips or tars.",
    metavar="ZIP|DIR",
)
@cli.outdir("Where to save the results.", default="training-runs")
@click.option(
    "--preset",
    "--cfg",
    help="Configuration; chosen by data and machine if not given.",
    type=click.Choice(list(PRESETS)),
)
@click.option(
    "--resume", help="Continue this run (a run folder); on a CPU bit for bit.", metavar="RUN"
)
@click.option(
    "--init",
    help="Start from the networks of this run, or from a snapshot's generator.",
    metavar="FILE|RUN",
)
@click.option("--kimg", help="Total length in thousands of images.", type=float)
@click.option("--batch", help="Total batch size.", type=click.IntRange(min=1))
@click.option(
    "--batch-gpu", help="Limit of images per process and pass.", type=click.IntRange(min=1)
)
@click.option("--gamma", help="Weight of the gradient penalty.", type=float)
@click.option(
    "--loss", help="Adversarial loss.", type=click.Choice(["nonsaturating", "relativistic"])
)
@click.option(
    "--aug", help="Discriminator augmentation.", type=click.Choice(["ada", "noaug", "fixed"])
)
@click.option("--p", help="Probability for --aug=fixed.", type=click.FloatRange(0, 1))
@click.option("--target", help="Target value for --aug=ada.", type=click.FloatRange(0, 1))
@cli.switch("--mirror", help="Also train on flipped images with flipped cameras.")
@click.option("--masks", help="Masks: auto, none, or a zip or folder.", metavar="auto|none|ZIP|DIR")
@click.option(
    "--background",
    help="What masked images are put over.",
    type=click.Choice(["white", "random", "image"]),
)
@click.option(
    "--max-images",
    "--subset",
    help="Use only the first so many images.",
    type=click.IntRange(min=1),
)
@click.option("--template", help="head, sphere, plane or an OBJ file with UVs.", metavar="NAME|OBJ")
@cli.switch("--gen-pose-cond", help="Condition the generator on the camera.")
@click.option(
    "--gpc-reg-prob", help="Camera swap probability after the fade.", type=click.FloatRange(0, 1)
)
@click.option("--gpc-reg-fade-kimg", help="Length of that fade.", type=float)
@cli.switch("--cond", help="Condition the discriminator on the camera.")
@cli.switch("--disc-alpha", help="Show the discriminator the alpha channel.")
@click.option("--lambda-tv", help="Weight of the UV total variation, all stages.", type=float)
@click.option(
    "--style-mixing-prob", help="Probability of style mixing.", type=click.FloatRange(0, 1)
)
@click.option("--blur-fade-kimg", help="Length of the blur warm-up.", type=float)
@click.option("--cbase", help="Channel base of both networks.", type=int)
@click.option("--cmax", help="Largest number of channels of both networks.", type=int)
@click.option("--map-depth", help="Layers of the mapping network.", type=click.IntRange(min=1))
@click.option("--mbstd-group", help="Minibatch deviation group size.", type=click.IntRange(min=1))
@click.option("--glr", help="Generator learning rate.", type=float)
@click.option("--dlr", help="Discriminator learning rate.", type=float)
@click.option("--desc", help="Text at the end of the run folder's name.", metavar="STR")
@click.option(
    "--metrics", help="Distances per snapshot, e.g. frd2k,swd2k, or none.", metavar="LIST|none"
)
@click.option(
    "--feature-net", help="TorchScript Inception, needed for fid metrics.", metavar="FILE"
)
@click.option("--tick", help="Thousands of images between status lines.", type=float)
@click.option("--snap", help="Ticks between snapshots.", type=click.IntRange(min=1))
@cli.seed("Seed of every random choice.", default=None)
@click.option(
    "--precision",
    help="Precision of convolutions; tf32: on NVIDIA GPUs.  [default: what is faster, timed]",
    type=click.Choice(["bf16", "tf32", "fp32"]),
)
@cli.switch("--fp32", help="Same as --precision=fp32.")
@click.option(
    "--workers",
    help="Threads that read images  [default: as many as steps need].",
    type=click.IntRange(min=1),
)
@cli.device()
@click.option(
    "--set",
    multiple=True,
    help="Any other option by its path, e.g. loss.blur_sigma=5.",
    metavar="KEY=VALUE",
)
@cli.dry_run()
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
    from gghead.training.gan.run import run

    device = pick_device(options["device"])
    found = "a GPU is here" if device.type == "cuda" else "no GPU is here"
    why = "--device was given" if options["device"] != "auto" else found
    processes, device = distributed.start(device)
    folder = dataset = None
    try:
        if options["resume"]:
            folder, config, reasons = _resume(options)
        else:
            dataset = _open_data(options)
            facts = dataset.resolution, len(dataset), dataset.has_masks
            config, reasons = resolve(options, *facts, device)
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
            init=options["init"],
            desc=options["desc"],
        )
    finally:
        if dataset is not None:
            dataset.close()
        distributed.stop()


def _check_options(options: dict) -> None:
    """Raise ``UserError`` for what is wrong with the options themselves, before anything is
    loaded."""
    if options["resume"]:
        _refuse_with_resume(options)
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
    if options["metrics"]:
        check_feature_net(parse_metrics(options["metrics"]), options["feature_net"])
    overridden(PRESETS[options["preset"] or "tiny"], options)
    if not options["dry_run"]:
        cli.check_writable(options["outdir"], "--outdir", folder=True)


def _open_data(options: dict) -> "ImageDataset":
    from gghead.training.gan.data import open_dataset

    given = {
        name: options[name]
        for name in ("masks", "mirror", "max_images", "background")
        if options[name] is not None
    }
    with progress(f"Reading {options['data']}"):
        return open_dataset(DataConfig(path=options["data"], **given))


def _refuse_with_resume(options: dict) -> None:
    allowed = {
        "resume",
        "kimg",
        "data",
        "tick",
        "snap",
        "workers",
        "metrics",
        "feature_net",
        "device",
        "outdir",
        "dry_run",
        "set",
    }
    given = [
        name
        for name, value in options.items()
        if value is not None and value != () and name not in allowed
    ]
    if given:
        raise UserError(
            "--resume continues a run with its own options; leave out"
            f" --{given[0].replace('_', '-')}, or start a new run with --init."
        )


def _resume(options: dict) -> tuple[Path, TrainConfig, list[str]]:
    from gghead.training.run.run_folder import read_options

    folder = Path(options["resume"])
    config = read_options(folder)
    changes: dict = {}
    for option, key in (
        ("kimg", "kimg"),
        ("tick", "tick_kimg"),
        ("snap", "snapshot_ticks"),
        ("workers", "workers"),
        ("feature_net", "feature_net"),
    ):
        if options[option] is not None:
            changes[key] = options[option]
    if options["metrics"] is not None:
        changes["metrics"] = [] if options["metrics"] == "none" else options["metrics"].split(",")
    if options["data"]:
        changes["data"] = {"path": options["data"]}
    config = _assignments(config_json.replace(config, changes), options["set"])
    return folder, config, [f"resuming {folder}", f"precision {config.precision}: as before"]
