"""Convert multi-view captures and tracked sequences of other projects to one zip of ours."""

import os
import time
from pathlib import Path
from typing import Literal

import click

from gghead.data.formats import FORMATS
from gghead.torch_utils import cli
from gghead.torch_utils.cli_words import in_flags
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.progress import progress

_SHOWN = 5  # faults listed in full


def names(text: str | None) -> tuple[str, ...] | None:
    """``a,b,3-5`` -> (a, b, 3, 4, 5); leading zeros are kept: ``000-002`` -> (000, 001, 002)."""
    from gghead.cli.common import expand

    return None if text is None else tuple(expand(text))


def world_matrix(text: str | None) -> tuple[tuple[float, ...], ...] | None:
    """Sixteen numbers, row by row, or a text file that holds them."""
    if text is None:
        return None
    # os.path's isfile and not Path's, which fails on a name as long as sixteen numbers in full
    # precision are.
    words = Path(text).read_text().split() if os.path.isfile(text) else text.split(",")
    try:
        values = [float(word.strip(",[]")) for word in words if word.strip(",[]")]
    except ValueError as error:
        raise UserError(
            f"--world={text} is neither a file nor sixteen numbers with commas."
        ) from error
    if len(values) != 16:
        raise UserError(f"--world has {len(values)} numbers, but a 4x4 matrix has 16.")
    return tuple(tuple(values[row : row + 4]) for row in range(0, 16, 4))


@cli.command(stopped="Nothing was written; the same command starts again.")
@click.option(
    "--from",
    "format",
    metavar="FORMAT",
    default="auto",
    show_default=True,
    help=(f"auto, or one of {', '.join(FORMATS)} (archive: own, EG3D's and GGHead's zips)"),
)
@click.option(
    "--source", type=click.Path(path_type=Path), required=True, help="Folder or zip with the data"
)
@cli.dest("The zip to write")
@click.option(
    "--kind", type=click.Choice(["captures", "sequence"]), help="Write it as  [default: what it is]"
)
@click.option(
    "--resolution",
    type=cli.Resolution(),
    help="Crop to this aspect and resize  [default: as it is, files copied]",
)
@click.option("--max-images", type=click.IntRange(min=1), help="Only the first so many")
@click.option("--subjects", metavar="NAMES", help="Only these people: 3,7-9")
@click.option(
    "--expressions", "moments", metavar="NAMES", help="Only these expressions, sequences or clips"
)
@click.option("--cameras", metavar="NAMES", help="Only these cameras")
@click.option(
    "--extras",
    metavar="NAMES",
    help="Append tracked parameters to the expression: jaw,eyelids,eyes,neck",
)
@click.option(
    "--scale",
    type=float,
    help="World units per unit of the data; 2.681 for metres  [default: the format's]",
)
@click.option(
    "--offset",
    type=cli.FloatList(),
    metavar="X,Y,Z",
    help="Where the data's origin lies in our world",
)
@click.option(
    "--world",
    metavar="FILE|16 NUMBERS",
    help="4x4 from the data's frame to our world, instead of both",
)
@click.option(
    "--flame",
    type=click.Path(path_type=Path),
    help="Your FLAME model, for the exact joints of the neck",
)
@click.option(
    "--lens",
    type=click.Choice(["undistort", "refuse", "ignore"]),
    default=None,
    help="Pictures with lens distortion  [default: undistort; refuse for Ava-256]",
)
@click.option(
    "--test-frames",
    type=click.IntRange(min=0),
    help="The last so many are for testing  [default: the format's]",
)
@click.option("--test-clips", metavar="NAMES", help="Clips for testing (IMavatar)")
@cli.switch("--skip-missing", default=False, show_default=True, help="Go on without missing frames")
@cli.fps("Frames per second, where the data do not say")
@click.option(
    "--jpeg-quality",
    type=click.IntRange(1, 100),
    help="JPEG for re-encoded pictures  [default: PNG]",
)
@cli.workers("Threads")
@cli.overwrite("a zip")
def main(
    format: str,
    source: Path,
    dest: Path,
    kind: str | None,
    resolution: tuple[int, int] | None,
    max_images: int | None,
    subjects: str | None,
    moments: str | None,
    cameras: str | None,
    extras: str | None,
    scale: float | None,
    offset: list[float] | None,
    world: str | None,
    flame: Path | None,
    lens: Literal["undistort", "refuse", "ignore"] | None,
    test_frames: int | None,
    test_clips: str | None,
    skip_missing: bool,
    fps: float | None,
    jpeg_quality: int | None,
    workers: int,
    overwrite: bool,
) -> None:
    """Convert captures or a sequence of another project to a zip of ours.

    \b
    python scripts/dataset_tool.py convert --from=insta --source=bala --dest=bala.zip
    """
    if offset is not None and len(offset) != 3:
        raise UserError(f"--offset must be three numbers, but it has {len(offset)}.")
    matrix = world_matrix(world)
    if dest.suffix != ".zip":
        raise UserError(f"--dest={dest} must end in .zip.")
    if not source.exists():
        raise UserError(f"--source={source} does not exist; name a folder or zip with the data.")
    cli.check_new(dest, overwrite)
    from gghead.data.captures import as_kind
    from gghead.data.formats import read
    from gghead.data.formats.parsing import ReadOptions
    from gghead.data.frames_zip import write_archive

    options = ReadOptions(
        names(subjects),
        names(moments),
        names(cameras),
        scale,
        None if offset is None else (offset[0], offset[1], offset[2]),
        matrix,
        test_frames,
        names(test_clips),
        skip_missing,
        flame,
        lens,
        fps,
    )
    begin = time.perf_counter()
    with progress(f"Reading {source}"):
        frames = as_kind(read(source, format, options), kind).first(max_images)
        frames = frames.with_extras(*(names(extras) or ())).resize(resolution)
    for line in frames.describe():
        click.echo(in_flags(line))
    click.echo(f"read in {time.perf_counter() - begin:.1f} s")
    begin = time.perf_counter()
    with progress(f"Writing {dest}", len(frames), "frames") as bar:
        report = write_archive(
            frames, dest, jpeg_quality=jpeg_quality, workers=workers, progress=bar.update
        )
    seconds = time.perf_counter() - begin
    for sentence in report.skipped[:_SHOWN]:
        click.echo(in_flags(f"skipped: {sentence}"))
    if len(report.skipped) > _SHOWN:
        click.echo(f"skipped: {len(report.skipped) - _SHOWN} more")
    click.echo(
        f"{report.written} frames written ({report.copied} copied as they are),"
        f" {len(report.skipped)} skipped, {seconds:.1f} s,"
        f" {report.written / max(seconds, 1e-9):.0f} frames/s: {dest}"
    )
