"""A few views of a head to its latent, Gaussians and images.

It takes one pass of a multi-view encoder.
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from gghead.cli.common import (
    check_outputs,
    default_size,
    find_network,
    free_path,
    pick_device,
    reconstructor_option,
    size_option,
    view_options,
    view_resolution_option,
)
from gghead.reconstruction.config import NO_REFINEMENT, RefineConfig
from gghead.torch_utils import cli
from gghead.torch_utils.config_options import ConfigOptions
from gghead.torch_utils.errors import UserError

OPTIONS = ConfigOptions(RefineConfig, {"": NO_REFINEMENT})


@cli.command(renamed={"--count": "--max-views"})
@reconstructor_option()
@click.option(
    "--data",
    required=True,
    metavar="DIR|ZIP|FILE",
    help="Captures, a folder of images with dataset.json, or photos (then see --camera)",
)
@click.option("--subject", metavar="NAME", help="Whom to reconstruct  [default: the only one]")
@click.option(
    "--expression", metavar="NAME", help="What the face does  [default: the subject's first]"
)
@click.option("--views", metavar="LIST", help="Cameras or images to take: 00,04,08  [default: all]")
@click.option(
    "--max-views",
    "count",
    type=click.IntRange(min=1),
    help="Take only so many of them, evenly spread over the front",
)
@view_options(" of photos")
@click.option(
    "--latent",
    "latent_file",
    metavar="FILE",
    help="Start from this latent instead of encoding the views",
)
@OPTIONS
@view_resolution_option()
@size_option("Pixels of novel views and film", 16)
@click.option(
    "--turn",
    type=click.Choice(["auto", "turntable", "sweep"]),
    default="auto",
    show_default=True,
    help=(
        "Film: all the way round, to and fro in front, or all the way round if the views saw all"
        " sides"
    ),
)
@click.option(
    "--frames",
    type=click.IntRange(min=0),
    default=60,
    show_default=True,
    help="Of the film; 0 = none",
)
@cli.switch("--npz", default=False, show_default=True, help="Also write latent.npz")
@cli.switch(
    "--check",
    default=True,
    show_default=True,
    help="Compare cameras and masks with the head template first",
)
@cli.outdir(
    "Where the files go  [default: out/NAME of the subject or the data, with a number behind if"
    " that is there]"
)
@cli.overwrite("a reconstruction")
@cli.device()
def main(
    network: str,
    data: str,
    subject: str | None,
    expression: str | None,
    views: str | None,
    count: int | None,
    camera: str | None,
    masks: str | None,
    landmarker: str,
    latent_file: str | None,
    resolution: int | None,
    size: int | None,
    turn: str,
    frames: int,
    npz: bool,
    check: bool,
    outdir: Path | None,
    overwrite: bool,
    device: str,
    **options: Any,
) -> None:
    """Reconstruct a head from one or more views.

    The latent goes to gen_samples.py, gen_video.py and animate.py as --latents=FILE with the same
    --network.

    \b
    python scripts/reconstruct.py --network=training-runs/00000-encoder --data=CAPTURES \\
        --subject=108 --views=01,05,09
    """
    refinement = OPTIONS.apply(NO_REFINEMENT, options)
    network = find_network(network, "reconstructor")
    if not Path(data).exists():
        raise UserError(
            f"--data={data} does not exist; name a data set, a folder of images with"
            " dataset.json, or an image."
        )
    outdir = outdir or free_path(subject or Path(data).resolve().stem)
    check_outputs([outdir / "report.json", outdir / "latent.safetensors"], overwrite)
    click.echo(f"Reconstructing {subject or 'a head'} from {data} with {network} into {outdir}")

    import torch

    import gghead
    from gghead import latent as latent_files
    from gghead.reconstruction.inputs import read_inputs
    from gghead.reconstruction.refine import refine
    from gghead.reconstruction.report import check_views, write_results
    from gghead.torch_utils.progress import progress

    place = pick_device(device)
    model = gghead.load(network, device=place, kind="reconstructor")
    generator = model.generator
    start = time.perf_counter()
    seconds = {}

    def clock(name: str) -> None:
        nonlocal start
        now = time.perf_counter()
        seconds[name], start = round(now - start, 3), now

    chosen = None if views is None else [part.strip() for part in views.split(",") if part.strip()]
    with progress(f"Reading {data}"):
        given = read_inputs(
            data,
            resolution or generator.config.image_size,
            subject=subject,
            expression=expression,
            views=chosen,
            count=count,
            camera=camera,
            masks=masks,
            landmarker=landmarker,
            device=place,
        )
        warnings = check_views(given, data) if check else []
    for warning in warnings:
        click.echo(f"warning: {warning}")
    if not given.masked:
        click.echo(
            "warning: the images have no masks, so that what stands behind the head is taken for"
            " a part of it"
        )
    clock("read")
    if latent_file:
        latent = latent_files.load(latent_file, generator)
    else:
        with torch.no_grad(), progress("Encoding"):
            latent = model.encode(given.rgb[None], given.cameras.reshape(1, len(given)))
    clock("encode")
    if refinement.steps:
        with progress("Refining", refinement.steps, "steps") as bar:
            latent = refine(
                generator,
                latent,
                given,
                refinement,
                lambda step, loss: bar.update(step, f"loss {loss:.4f}"),
            )
        clock("refine")
    frontal = int(given.cameras.angles()[0].abs().argmin())
    latent = replace(
        latent,
        camera=given.cameras.label()[frontal : frontal + 1],
        info={
            "target": Path(data).stem if subject is None else subject,
            "stage": "refined" if refinement.steps else "encoder",
            "views": list(given.names),
        },
    )
    with torch.no_grad():
        head = latent.gaussians(generator)
    clock("decode")
    about = {
        "network": str(network),
        "data": str(data),
        "subject": subject,
        "expression": expression,
        "masked": given.masked,
        "refine": refinement.steps,
        "seconds": seconds,
        "warnings": warnings,
    }
    with progress("Drawing and writing"):
        report = write_results(
            outdir,
            generator,
            latent,
            head,
            given,
            size=default_size(generator, size),
            frames=frames,
            npz=npz,
            about=about,
            turn=turn,
        )
    for name in report["unlike_the_others"]:
        click.echo(
            f"warning: the head does not look like view {name}; it may show someone else, or its"
            " camera is wrong"
        )
    took = ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items())
    click.echo(
        f"{len(given)} view{'s'[: len(given) > 1]}, {head.num} Gaussians: {took}; "
        f"{report['mean']['psnr_mask']:.2f} dB inside the mask on the given views"
    )
    click.echo(f"Files are in {outdir}")
    click.echo(
        "Move it: "
        + cli.hint(
            "scripts/animate.py",
            f"--network={network}",
            f"--latents={outdir}",
            "--weights=jawOpen=1,eyeBlinkLeft=1",
            f"--output={outdir / 'wink.webp'}",
        )
    )
