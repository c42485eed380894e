"""Photos to latents.

``out/<photo>/latent-<stage>.safetensors`` with images, strips, videos and a table.
"""

from pathlib import Path

import click

from gghead.cli.common import find_network, network_option, pick_device
from gghead.torch_utils import cli
from gghead.torch_utils.errors import UserError

_STAGES = 4


def parse_steps(text: str) -> tuple[int, ...]:
    """``200`` -> (200, 200, 200, 200); ``50,100,80,60`` as it stands: steps of w, w+, z, pti."""
    numbers = text.split(",")
    if len(numbers) not in (1, _STAGES) or not all(
        part.strip().isdigit() and int(part) > 0 for part in numbers
    ):
        raise UserError(
            f"--steps={text} must be one positive number or four, for the stages w, w+, z and pti."
        )
    return tuple(int(part) for part in numbers) * (_STAGES // len(numbers))


@cli.command(
    renamed={"--video": "--video-format"},
    stopped="Finished pictures stay; the same command goes on with the others.",
)
@network_option(text="Where the heads are looked for")
@click.option(
    "--target",
    required=True,
    metavar="FILE|DIR|ZIP|seeds:LIST",
    help=(
        "A picture, a folder, a data set zip, or seeds of the network itself (what it can reach at"
        " best)"
    ),
)
@click.option(
    "--method",
    default="z",
    show_default=True,
    type=click.Choice(["encoder", "w", "w+", "z", "pti"]),
    help=(
        "Last stage: the network's encoder alone; one style, a style per layer, also a residual on"
        " Z, also tuned decoder weights"
    ),
)
@cli.switch(
    "--encoder", default=None, help="Start from the network's encoder  [default: where it has one]"
)
@click.option(
    "--camera",
    metavar="label|auto|frontal|FILE",
    help=(
        "From dataset.json, estimated from the face (finds, crops and cuts it out), frontal, or a"
        " file  [default: label where there are labels, else auto]"
    ),
)
@click.option(
    "--landmarker",
    default="mediapipe",
    show_default=True,
    help="Of --camera=auto: as in dataset_tool.py photos",
)
@click.option(
    "--masks",
    metavar="FILE|DIR|ZIP|none",
    help="Masks  [default: dataset.json's, else alpha channels]",
)
@click.option(
    "--max-images",
    type=click.IntRange(min=1),
    help="A fixed random subset of so many pictures  [default: all]",
)
@click.option(
    "--steps",
    default="200,150,100,100",
    show_default=True,
    help="Steps of the stages, or one number for all",
)
@click.option(
    "--max-rotation",
    type=click.FloatRange(0, 45),
    default=8.0,
    show_default=True,
    help="Degrees by which a camera may be turned; 0 with --max-shift=0 keeps it",
)
@click.option(
    "--max-shift",
    type=click.FloatRange(0, 1),
    default=0.1,
    show_default=True,
    help="World units by which it may be moved besides",
)
@click.option(
    "--novel-views",
    type=click.FloatRange(min=0),
    default=None,
    help="How much z and pti must look like w+ from aside  [default: 0.2]",
)
@click.option(
    "--locality",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="PTI's locality regularisation: weight of leaving heads near the pivot alone",
)
@click.option(
    "--perceptual-net",
    metavar="SPEC",
    help=(
        "Perceptual term of the loss: lpips-vgg[:FILES], lpips-alex[:FILES], vgg[:FILE],"
        " efficientnet-lite0[:FILE], discriminator:RUN, gradient, or a TorchScript file; see"
        " docs/perceptual.md  [default: no such term]"
    ),
)
@click.option(
    "--perceptual-weight",
    type=click.FloatRange(min=0, min_open=True),
    default=None,
    help="Its weight  [default: 0.5]",
)
@click.option(
    "--lpips-net",
    metavar="SPEC",
    help=(
        "Report LPIPS by lpips-alex[:FILES], lpips-vgg[:FILES] or a "
        "TorchScript file  [default: no LPIPS]"
    ),
)
@click.option(
    "--identity-net",
    metavar="FILE|URL",
    help=(
        "Report how much result and picture show the same person, by "
        "a face recognition network in TorchScript: [B, 3, 112, 112] in [-1, 1] -> vectors"
    ),
)
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Pictures optimised together",
)
@click.option(
    "--video-format",
    "video",
    type=click.Choice(["webp", "mp4", "none"]),
    default="webp",
    show_default=True,
    help="Film of the optimisation",
)
@cli.outdir("Where the files go, a folder per picture", default="inverted")
@cli.seed("Of the heads to start from and the noise on w")
@cli.overwrite("an inversion with other options")
@cli.device()
def main(
    network: str,
    target: str,
    method: str,
    encoder: bool | None,
    camera: str | None,
    landmarker: str,
    masks: str | None,
    max_images: int | None,
    steps: str,
    max_rotation: float,
    max_shift: float,
    novel_views: float | None,
    locality: float,
    perceptual_net: str | None,
    perceptual_weight: float | None,
    lpips_net: str | None,
    identity_net: str | None,
    batch: int,
    video: str,
    outdir: Path,
    seed: int,
    overwrite: bool,
    device: str,
) -> None:
    """Find the latents of photos: what --network must be given to draw them.

    Finished pictures are skipped when the command is repeated; with other options they are only
    replaced by --overwrite. The latents go to gen_samples.py and gen_video.py as --latents=FILE or
    --latents=OUTDIR.

    \b
    python scripts/invert.py --target=seeds:0-1
    python scripts/invert.py --network=training-runs/00000-tiny-photos --target=photos.zip \\
        --method=pti
    """
    for option, value in (("camera", camera), ("masks", masks), ("max-images", max_images)):
        if value is not None and target.startswith("seeds:"):
            raise UserError(
                f"--{option} says how pictures are read, but --target={target} draws them; leave it"
                " out."
            )
    counts = parse_steps(steps)
    if perceptual_weight is not None and perceptual_net is None:
        raise UserError(
            "--perceptual-weight needs a distance to weigh; name one with --perceptual-net."
        )
    if not target.startswith("seeds:") and not Path(target).exists():
        raise UserError(
            f"--target={target} does not exist; name a picture, a folder of pictures or a data set"
            " zip."
        )
    if video != "none":
        from gghead.video import check_writable

        check_writable(outdir / f"optimisation.{video}")
    cli.check_writable(outdir, "--outdir", folder=True)
    network = find_network(network, "generator")
    click.echo(f"Inverting {target} with {network}, method {method}, into {outdir}")

    from gghead.checkpoints import load_with_encoder
    from gghead.inversion.batches import invert_all
    from gghead.inversion.objective import ObjectiveConfig
    from gghead.inversion.own_heads import OwnHeads
    from gghead.inversion.stages import InversionConfig
    from gghead.inversion.targets import open_targets
    from gghead.perceptual import load_distance, load_identity, load_metric

    config = {
        "method": method,
        "steps": counts,
        "seed": seed,
        "max_rotation": max_rotation,
        "max_shift": max_shift,
        "locality": locality,
    }
    if novel_views is not None:
        config["novel_views"] = novel_views
    if perceptual_weight is not None:
        config["objective"] = ObjectiveConfig(perceptual=perceptual_weight)
    place = pick_device(device)
    model, own = load_with_encoder(network, place)
    own = None if encoder is False else own
    config = InversionConfig(**config, encoder=own is not None if encoder is None else encoder)
    # a method that does not go with the network is refused before anything is read
    _ = config.stages
    perceptual = (
        None if perceptual_net is None else load_distance(perceptual_net, "--perceptual-net", place)
    )
    reported = {}
    if lpips_net is not None:
        reported["lpips"] = load_metric(lpips_net, "--lpips-net", place)
    if identity_net is not None:
        reported["identity"] = load_identity(identity_net, "--identity-net", place)
    if target.startswith("seeds:"):
        reader = OwnHeads(
            model, cli.IntRangeList().convert(target.removeprefix("seeds:"), None, None)
        )
    else:
        reader = open_targets(
            target, model.config.image_size, camera, masks, landmarker, max_images
        )
    count = len(reader)
    click.echo(
        f"{count} picture{'s'[: count > 1]}"
        + (
            ", cameras estimated from the faces"
            if camera is None and reader.camera == "auto"
            else ""
        )
    )
    click.echo(
        f"perceptual term: {config.objective.perceptual:g} times {perceptual.name}"
        if perceptual
        else "no perceptual term, because --perceptual-net names no network"
    )
    for name, found in reported.items():
        click.echo(f"{name} in the report: {found.name}")
    table = invert_all(
        model,
        reader,
        outdir,
        config,
        batch,
        None if video == "none" else video,
        click.echo,
        perceptual,
        reported,
        own,
        overwrite,
    )
    click.echo(table)
    click.echo(f"Files are in {outdir}")
    drawn = [f"--network={network}", f"--latents={outdir}"]
    click.echo("Pictures and splats: " + cli.hint("gen_samples.py", *drawn, "--shapes"))
    click.echo("Video: " + cli.hint("scripts/gen_video.py", *drawn))
