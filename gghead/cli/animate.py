"""Videos of an avatar or of generated heads that a sequence, a table or single weights drive."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import click

from gghead.cli.common import (
    check_outputs,
    default_size,
    find_network,
    free_path,
    network_option,
    pick_device,
    short_name,
    trunc_option,
)
from gghead.torch_utils import cli
from gghead.torch_utils.config import Option, Range
from gghead.torch_utils.config_options import ConfigOptions
from gghead.torch_utils.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from gghead.animation.drive import Drive

_RAMP = 50  # frames of a video of single weights: from neutral to them and back
_IMAGES = 12  # most frames of a .png


@dataclass(frozen=True)
class AnimateOptions:
    """What avatars and heads are animated by, and what is drawn of it."""

    motion: Annotated[str, Option(metavar="blendshapes|FILE|RUN")] = "blendshapes"
    """How heads move: the template's blendshapes, or a run of scripts/train_expression.py."""
    drive: Annotated[str | None, Option(metavar="DIR|ZIP|CSV")] = None
    """Tracked sequence of anyone, or a table: a row per frame, a column per coefficient; ARKit's
    names in any spelling, recordings of Live Link Face as they are."""
    weights: Annotated[str | None, Option(metavar="NAME=X,…")] = None
    """Instead of --drive: jawOpen=1,eyeBlinkLeft=0.5."""
    split: Annotated[str | None, Option(metavar="NAME", default="all")] = None
    """Frames of the sequence to use, such as test."""
    frames: Annotated[
        tuple[int, ...] | None, Range(0), Option("--only-frames", metavar="LIST", default="all")
    ] = None
    """Only these frames, such as 0-99."""
    camera: Annotated[
        Literal["tracked", "still", "turntable", "sweep", "spiral"] | None,
        Option(default="tracked, still for tables and heads"),
    ] = None
    """The sequence's own, the middle one, or a path."""
    pitch: Annotated[float, Option(form="degrees", default="0")] = 0.0
    """Pitch of turntable and sweep, > 0: seen from above."""
    shown: Annotated[bool | None, Option("--beside", default="1")] = None
    """Show the sequence's images at the left."""
    clamp: Annotated[bool, Option()] = True
    """Keep an avatar's coefficients in the range seen in training (what moves may go twice as
    far)."""
    mapping: Annotated[str | None, Option(metavar="NPY|CSV|names")] = None
    """Matrix from the drive's coefficients to those that are driven; names: by their names in ARKit
    or ICT-FaceKit, which is done anyway where both have such."""
    size: Annotated[
        int | None, Range(8), Option(default="that of training, for heads at least 256")
    ] = None
    """Width in pixels."""
    fps: Annotated[
        float | None,
        Range(0, above=True),
        Option(default="those of the sequence or of Live Link Face, else 25"),
    ] = None
    """Frames per second."""


OPTIONS = ConfigOptions(AnimateOptions)


@cli.command(renamed={"--frames": "--only-frames"})
@click.option("--avatar", metavar="FILE|RUN", help="Avatar, or run folder (its newest)")
@network_option(None, "Instead of an avatar, whose heads")
@click.option(
    "--seeds",
    type=cli.IntRangeList(),
    default=(),
    help="Heads of these seeds, such as 0,1,4-6; of demo, if no --network is given",
)
@click.option(
    "--latents",
    metavar="FILE[,FILE…]|DIR",
    help="Heads of latent files, as scripts/invert.py writes them",
)
@trunc_option()
@OPTIONS
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help=(
        "The video: .mp4, .webp or .gif; or .png: frames side by side (of heads, neutral first) "
        " [default: out/WHO-WHAT.webp, with a number behind if that is there]"
    ),
)
@cli.overwrite("a file")
@cli.device()
def main(
    avatar: str | None,
    network: str | None,
    seeds: list[int],
    latents: str | None,
    trunc: float,
    output: Path | None,
    overwrite: bool,
    device: str,
    **given: Any,
) -> None:
    """Let an avatar or heads do what a sequence, a table or single weights say.

    \b
    python scripts/animate.py --avatar=RUN --drive=sequence --split=test --output=out/test.mp4
    python scripts/animate.py --network=demo --seeds=0-3 --weights=jawOpen=1,eyeBlinkLeft=1 \\
        --output=out/wink.webp
    """
    options = OPTIONS.apply(AnimateOptions(), given)
    heads = [
        name
        for name, value in (("network", network), ("seeds", seeds), ("latents", latents))
        if value
    ]
    if avatar is not None and heads:
        raise UserError(
            f"--avatar and --{heads[0]} exclude each other: an avatar is one person already."
        )
    if avatar is None and not seeds and latents is None:
        raise UserError(
            "Nobody to animate: give --avatar=RUN, or heads by --seeds=0-3 or --latents=FILE."
        )
    if (options.drive is None) == (options.weights is None):
        raise UserError(
            "Give either --drive=SEQUENCE|TABLE.csv or --weights=jawOpen=1,eyeBlinkLeft=0.5."
        )
    for name in ("split", "mapping"):
        if options.weights is not None and getattr(options, name) is not None:
            raise UserError(
                f"--{name} belongs to what drives the heads; leave it out with --weights."
            )
    if avatar is not None and options.weights is not None:
        raise UserError(
            "--weights are for heads; drive an avatar by --drive with a table of its own"
            " coefficients."
        )
    if avatar is not None and options.motion != "blendshapes":
        raise UserError("--motion is for heads; an avatar moves as it has learned to.")
    drive = options.drive
    if output is not None and output.suffix.lower() != ".png":
        from gghead.video import check_writable

        check_writable(output)
    if drive is not None and not Path(drive).exists():
        raise UserError(f"--drive={drive} does not exist; name a tracked sequence or a .csv table.")
    found = (
        find_network(avatar, "avatar", "--avatar")
        if avatar is not None
        else find_network(network or "demo", "generator")
    )
    if output is None:
        names = re.findall(r"(\w+)\s*=", options.weights or "")
        what = Path(drive).stem if drive is not None else "+".join(names)[:60] or "weights"
        output = free_path(f"{short_name(found)}-{what}", ".webp")
    check_outputs([output], overwrite, "--output")
    click.echo(f"Driving {found} by {drive or options.weights} into {output}")
    if avatar is not None:
        _animate_avatar(found, options, output, device)
    else:
        _animate_heads(found, seeds, latents, trunc, options, output, device)
    click.echo(output)


def _animate_avatar(network: str, options: AnimateOptions, output: Path, device: str) -> None:
    import gghead
    from gghead.animation.drive import read_drive
    from gghead.animation.show import avatar_images, camera_path
    from gghead.figures import to_uint8
    from gghead.torch_utils.machine import keep_freed_memory
    from gghead.torch_utils.progress import progress, track

    place = pick_device(device)
    if place.type == "cpu":
        keep_freed_memory()
    avatar = gghead.load(network, device=place, kind="avatar")
    width, height = avatar.config.image_size
    extent = (
        (width, height)
        if options.size is None
        else (options.size, max(round(options.size * height / width), 1))
    )
    assert options.drive is not None  # main asks for it
    with progress(f"Reading {options.drive}"):
        source = read_drive(
            options.drive, avatar.config, split=options.split, mapping=options.mapping, size=extent
        )
    if source.left_out:
        click.echo(f"The avatar has no {', '.join(source.left_out)}: left out")
    if source.at_rest:
        click.echo(f"{options.drive} has no {', '.join(source.at_rest)}: at rest")
    chosen, path = _choose(options, output, source, "tracked")
    cameras = (
        source.frames.cameras[chosen]
        if source.frames is not None and path == "tracked"
        else camera_path(avatar, path, len(chosen), options.pitch)
    )
    played = avatar_images(avatar, source.expression[chosen], cameras, extent, clamp=options.clamp)
    drawn = [
        [*_filmed_images(source, index, options.shown), to_uint8(image)]
        for index, image in zip(
            chosen, track(played, "Drawing", len(chosen), "frames"), strict=True
        )
    ]
    # In a still image what was filmed stands above the avatar.
    rows = [list(row) for row in zip(*drawn, strict=True)]
    _write(output, drawn, rows, options.fps or source.fps or 25.0)


def _animate_heads(
    network: str,
    seeds: list[int],
    latents: str | None,
    trunc: float,
    options: AnimateOptions,
    output: Path,
    device: str,
) -> None:
    import torch

    import gghead
    from gghead import latent as latent_files
    from gghead.animation.animate import BLENDSHAPES, sliders
    from gghead.animation.drive import Drive, read_drive
    from gghead.animation.show import head_images, path_around
    from gghead.cameras import Cameras
    from gghead.figures import to_uint8
    from gghead.sampling import seed_latents
    from gghead.torch_utils.progress import progress

    model = gghead.load(network, device=pick_device(device), kind="generator")
    way = (
        BLENDSHAPES
        if options.motion == BLENDSHAPES
        else gghead.load(options.motion, device=model.device, kind="expression")
    )
    wanted, pixels = sliders(model, way), default_size(model, options.size)
    still = output.suffix.lower() == ".png"
    if options.drive is not None:
        with progress(f"Reading {options.drive}"):
            source = read_drive(
                options.drive,
                wanted,
                split=options.split,
                mapping=options.mapping,
                size=(pixels, pixels),
            )
    else:
        assert options.weights is not None  # main asks for one of the two
        table, left_out = wanted.table(options.weights)
        ramp = (
            torch.ones(1)
            if still
            else (1 - torch.cos(torch.arange(_RAMP) * (2 * math.pi / _RAMP))) / 2
        )
        source = Drive(ramp[:, None] * table, None, None, left_out)
    if source.left_out:
        click.echo(f"No shape for {', '.join(source.left_out)}: left out")
    chosen, path = _choose(options, output, source, "still")
    table = source.expression[chosen]
    cameras = (
        source.frames.cameras[chosen]
        if source.frames is not None and path == "tracked"
        else path_around(Cameras.orbit(0.0), path, len(chosen), options.pitch)
    )
    if still:
        table = torch.cat([torch.zeros_like(table[:1]), table])
        cameras = cameras[[0, *range(len(chosen))]]
    files = (
        []
        if latents is None
        else [latent_files.load(file, model) for file in latent_files.find(latents)]
    )
    heads = [*seed_latents(model, seeds, trunc), *files]
    rows = []
    with progress("Drawing", len(heads) * len(table), "images") as bar:
        for head in heads:
            rows.append([])
            for image in head_images(model, head, table, cameras, pixels, motion=way):
                rows[-1].append(to_uint8(image))
                bar.advance()
    film = (
        []
        if still
        else [
            [*_filmed_images(source, chosen[index], options.shown), *(row[index] for row in rows)]
            for index in range(len(chosen))
        ]
    )
    _write(output, film, rows, options.fps or source.fps or 25.0)


def _write(
    output: Path, film: "list[list[np.ndarray]]", rows: "list[list[np.ndarray]]", fps: float
) -> None:
    """A .png of ``rows`` of images, or a video of the images of ``film`` side by side."""
    import numpy as np

    from gghead.figures import beside, write_png
    from gghead.torch_utils.progress import progress
    from gghead.video import save_video

    with progress(f"Writing {output}"):
        if output.suffix.lower() == ".png":
            write_png(output, np.concatenate([beside(row) for row in rows]))
        else:
            save_video([beside(frame) for frame in film], output, fps)


def _choose(
    options: AnimateOptions, output: Path, source: "Drive", default: str
) -> tuple[list[int], str]:
    """The frames that are drawn, and the cameras' name."""
    drive = options.drive or "--weights"
    chosen = list(range(len(source.expression))) if options.frames is None else list(options.frames)
    if max(chosen) >= len(source.expression):
        raise UserError(
            f"--only-frames asks for frame {max(chosen)}, but {drive} has {len(source.expression)}"
            " frames."
        )
    camera = options.camera or ("still" if source.frames is None else default)
    if source.frames is None and (camera == "tracked" or options.shown):
        raise UserError(
            f"{drive} is a table and has neither cameras nor images; leave out --camera=tracked"
            " and --beside."
        )
    if output.suffix.lower() == ".png" and len(chosen) > _IMAGES:
        raise UserError(
            f"{output} would show {len(chosen)} frames; choose up to {_IMAGES} of them"
            " with --only-frames."
        )
    return chosen, camera


def _filmed_images(source: "Drive", index: int, shown: bool | None) -> "list[np.ndarray]":
    """What was filmed, where it is to be shown."""
    from gghead.figures import to_uint8

    return [] if source.frames is None or shown is False else [to_uint8(source.frames.over(index))]
