"""Convert multi-view captures and tracked sequences of other projects to one zip of ours."""

import time
from pathlib import Path
from typing import Any

import click

from gghead.data.formats import FORMATS
from gghead.data.formats.parsing import ReadOptions
from gghead.torch_utils import cli
from gghead.torch_utils.cli_words import in_flags
from gghead.torch_utils.config_options import ConfigOptions
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.progress import progress

OPTIONS = ConfigOptions(ReadOptions)
_SHOWN = 5  # faults listed in full


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
@OPTIONS
@click.option(
    "--extras",
    metavar="NAMES",
    help="Append tracked parameters to the expression: jaw,eyelids,eyes,neck",
)
@click.option(
    "--jpeg-quality",
    type=click.IntRange(1, 100),
    help="JPEG for re-encoded images  [default: PNG]",
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
    extras: str | None,
    jpeg_quality: int | None,
    workers: int,
    overwrite: bool,
    **given: Any,
) -> None:
    """Convert captures or a sequence of another project to a zip of ours.

    \b
    python scripts/dataset_tool.py convert --from=insta --source=bala --dest=bala.zip
    """
    options = OPTIONS.apply(ReadOptions(), given)
    if dest.suffix != ".zip":
        raise UserError(f"--dest={dest} must end in .zip.")
    if not source.exists():
        raise UserError(f"--source={source} does not exist; name a folder or zip with the data.")
    cli.check_new(dest, overwrite)
    from gghead.data.captures import as_kind
    from gghead.data.formats import read
    from gghead.data.frames_zip import write_archive

    begin = time.perf_counter()
    with progress(f"Reading {source}"):
        frames = as_kind(read(source, format, options), kind).first(max_images)
        frames = frames.with_extras(*cli.expand(extras or "")).resize(resolution)
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
