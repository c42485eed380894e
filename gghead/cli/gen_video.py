"""Videos of seeds and latents.

The camera turns around each head, and several per cell flow into each other.
"""

import re
from pathlib import Path

import click

from gghead.cli.common import (
    check_outputs,
    default_size,
    find_network,
    free_path,
    network_option,
    pick_device,
    psi_of,
    short_name,
    size_option,
    trunc_all_option,
    trunc_cutoff_option,
)
from gghead.snapshot_files import seen_yaws, snapshot_file
from gghead.torch_utils import cli
from gghead.torch_utils.errors import UserError

CAMERA_PATHS = ("sweep", "turntable", "spiral")


def parse_grid(text: str) -> tuple[int, int]:
    """``4x2`` -> (4, 2): four columns, two rows."""
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if not match:
        raise UserError(f"--grid={text} is not of the form COLUMNSxROWS, such as 4x2.")
    return int(match[1]), int(match[2])


def default_camera(network: str, yaw_range: float | None) -> tuple[str, str]:
    """Return the path that ``network`` (as of ``find_network``) can bear, and why in brackets."""
    if yaw_range is not None:
        return "sweep", ""
    yaws = seen_yaws(snapshot_file(network))
    if yaws is None:
        return "sweep", " (the network's file does not say from which sides its data show heads)"
    if yaws == (-180, 180):
        return "turntable", " (the network's data show heads from all sides)"
    low, high = yaws
    return "sweep", f" (the network's data show yaws from {low:g} to {high:g} degrees only)"


@cli.command()
@network_option()
@click.option(
    "--seeds",
    type=cli.IntRangeList(),
    help=(
        "One per cell, or more to interpolate: 0,1,4-6  [default: one per cell, or none with"
        " --latents]"
    ),
)
@click.option(
    "--latents",
    metavar="FILE[,FILE…]|DIR",
    help="Latent files of scripts/invert.py, after the seeds",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help=(
        "The video: .mp4, .webp or .gif  [default: out/NETWORK-psiPSI-CAMERA.webp, with a number"
        " behind if that is there]"
    ),
)
@trunc_all_option()
@trunc_cutoff_option()
@click.option(
    "--frames",
    type=click.IntRange(min=1),
    default=120,
    show_default=True,
    help="Frames in the whole loop",
)
@cli.fps(default=30.0)
@click.option(
    "--grid",
    metavar="COLUMNSxROWS",
    help="Cells in the image  [default: 1x1; 4x2 without heads given]",
)
@click.option(
    "--camera",
    type=click.Choice(CAMERA_PATHS),
    help=(
        "To and fro in front, all the way round, or a loop in front  [default: turntable where the"
        " network's training data show heads from all sides, else sweep]"
    ),
)
@click.option(
    "--yaw-range",
    type=cli.Degrees(largest=180),
    metavar="DEGREES",
    help="How far sweep and spiral turn to each side  [default: 34.4 and 20.1]",
)
@click.option(
    "--pitch",
    type=cli.Degrees(),
    default="0",
    show_default=True,
    help="Pitch of turntable and sweep, > 0: seen from above",
)
@size_option("Pixels per cell")
@cli.overwrite("a video")
@cli.device()
def main(
    network: str,
    seeds: list[int] | None,
    latents: str | None,
    output: Path | None,
    trunc: float | None,
    trunc_cutoff: int | None,
    frames: int,
    fps: float,
    grid: str | None,
    camera: str | None,
    yaw_range: float | None,
    pitch: float,
    size: int | None,
    overwrite: bool,
    device: str,
) -> None:
    """Turn heads in a looping video, or let them flow into each other.

    The heads are those of --seeds and --latents.

    \b
    python scripts/gen_video.py
    python scripts/gen_video.py --network=latest --seeds=0-7 --grid=4x2 --output=out/heads.webp
    """
    from gghead.video import check_writable, save_video

    nobody = seeds is None and latents is None
    cells = parse_grid(grid or ("4x2" if nobody else "1x1"))
    if nobody:
        seeds = list(range(cells[0] * cells[1]))
    if yaw_range is not None and camera == "turntable":
        raise UserError(
            "--yaw-range is for sweep and spiral; a turntable goes all the way round: leave it out."
        )
    if output is not None:
        check_writable(output)
    network = find_network(network, "generator")
    why = ""
    if camera is None:
        camera, why = default_camera(network, yaw_range)
    psi_seeds, psi_files = psi_of(trunc, seeds=True), psi_of(trunc, seeds=False)
    psi = psi_seeds if seeds else psi_files
    output = output or free_path(f"{short_name(network)}-psi{psi:g}-{camera}", ".webp")
    check_outputs([output], overwrite, "--output")
    click.echo(f"Filming {network}, psi {psi:g}, camera {camera}{why}, into {output}")

    import gghead
    from gghead import latent as latent_files
    from gghead.sampling import camera_path, generate_frames
    from gghead.torch_utils.progress import progress, track

    place = pick_device(device)
    model = gghead.load(network, device=place, kind="generator")
    cameras = camera_path(camera, frames, pitch, place, yaw_range)
    loaded = (
        []
        if latents is None
        else [
            latent_files.load(file, model).truncate(model, psi_files, trunc_cutoff)
            for file in latent_files.find(latents)
        ]
    )
    images = generate_frames(
        model,
        seeds or (),
        cameras,
        grid=cells,
        size=default_size(model, size),
        truncation_psi=psi_seeds,
        truncation_cutoff=trunc_cutoff,
        latents=loaded,
    )
    drawn = list(track(images, "Filming", frames, "frames"))
    with progress(f"Writing {output}"):
        save_video(drawn, output, fps)
    click.echo(output)
