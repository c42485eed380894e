"""Photos to latents.

``out/<photo>/latent-<stage>.safetensors`` with images, strips, videos and a table.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from gghead.cli.common import (
    find_network,
    lpips_option,
    network_option,
    pick_device,
    view_options,
)
from gghead.inversion.config import InversionConfig
from gghead.torch_utils import cli
from gghead.torch_utils.config_options import ConfigOptions
from gghead.torch_utils.errors import UserError

OPTIONS = ConfigOptions(InversionConfig)


@cli.command(
    renamed={"--video": "--video-format", "--max-images": "--subset"},
    stopped="Finished images stay; the same command goes on with the others.",
)
@network_option(text="Where the heads are looked for")
@click.option(
    "--target",
    required=True,
    metavar="FILE|DIR|ZIP|seeds:LIST",
    help=(
        "An image, a folder, a data set zip, or seeds of the network itself (what it can reach at"
        " best)"
    ),
)
@OPTIONS
@view_options()
@click.option(
    "--subset",
    type=click.IntRange(min=1),
    help="A fixed random subset of so many images  [default: all]",
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
@lpips_option()
@click.option(
    "--identity-net",
    metavar="FILE|URL",
    help=(
        "Report how much result and image show the same person, by "
        "a face recognition network in TorchScript: [B, 3, 112, 112] in [-1, 1] -> vectors"
    ),
)
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Images optimized together",
)
@click.option(
    "--video-format",
    "video",
    type=click.Choice(["webp", "mp4", "none"]),
    default="webp",
    show_default=True,
    help="Film of the optimization",
)
@cli.outdir("Where the files go, a folder per image", default="inverted")
@cli.overwrite("an inversion with other options")
@cli.device()
def main(
    network: str,
    target: str,
    camera: str | None,
    landmarker: str,
    masks: str | None,
    subset: int | None,
    perceptual_net: str | None,
    lpips_net: str | None,
    identity_net: str | None,
    batch: int,
    video: str,
    outdir: Path,
    overwrite: bool,
    device: str,
    **options: Any,
) -> None:
    """Find the latents of photos: what --network must be given to draw them.

    Finished images are skipped when the command is repeated; with other options they are only
    replaced by --overwrite. The latents go to gen_samples.py and gen_video.py as --latents=FILE or
    --latents=OUTDIR.

    \b
    python scripts/invert.py --target=seeds:0-1
    python scripts/invert.py --network=training-runs/00000-tiny-photos --target=photos.zip \\
        --method=pti
    """
    for option, value in (("camera", camera), ("masks", masks), ("subset", subset)):
        if value is not None and target.startswith("seeds:"):
            raise UserError(
                f"--{option} says how images are read, but --target={target} draws them; leave it"
                " out."
            )
    config = OPTIONS.apply(InversionConfig(), options)
    if OPTIONS.is_given(options, "objective.perceptual") and perceptual_net is None:
        raise UserError(
            "--perceptual-weight needs a distance to weigh; name one with --perceptual-net."
        )
    if not target.startswith("seeds:") and not Path(target).exists():
        raise UserError(
            f"--target={target} does not exist; name an image, a folder of images or a data set"
            " zip."
        )
    if video != "none":
        from gghead.video import check_writable

        check_writable(outdir / f"optimization.{video}")
    cli.check_writable(outdir, "--outdir", folder=True)
    network = find_network(network, "generator")
    click.echo(f"Inverting {target} with {network}, method {config.method}, into {outdir}")

    from gghead.checkpoints import load_with_encoder
    from gghead.inversion.batches import invert_all
    from gghead.inversion.own_heads import OwnHeads
    from gghead.inversion.targets import open_targets
    from gghead.perceptual import load_distance, load_identity, load_metric

    place = pick_device(device)
    model, own = load_with_encoder(network, place)
    if not OPTIONS.is_given(options, "encoder"):
        config = replace(config, encoder=own is not None)
    own = own if config.encoder else None
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
        reader = open_targets(target, model.config.image_size, camera, masks, landmarker, subset)
    count = len(reader)
    click.echo(
        f"{count} image{'s'[: count > 1]}"
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
    click.echo("Images and splats: " + cli.hint("gen_samples.py", *drawn, "--shapes"))
    click.echo("Video: " + cli.hint("scripts/gen_video.py", *drawn))
