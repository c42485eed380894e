"""``dataset_tool.py photos``: a folder of photos to a training zip with cameras and masks."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from gghead.data.photos.config import PhotoOptions
from gghead.torch_utils import cli
from gghead.torch_utils.config_options import ConfigOptions
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.progress import progress

OPTIONS = ConfigOptions(PhotoOptions)


@cli.command()
@click.option(
    "--source", type=click.Path(path_type=Path), required=True, help="Folder (or zip) of photos"
)
@cli.dest("The zip to write")
@OPTIONS
@cli.switch("--mirror", default=False, help="Add mirrored copies, as EG3D's FFHQ has them")
@cli.workers("Processes; 0 uses none", smallest=0)
@click.option(
    "--cameras",
    type=click.Path(path_type=Path),
    help="JSON of ready cameras as EG3D's dataset.json: square photos are not cropped",
)
@cli.switch("--masks-zip", default=False, help="Also write GGHead's separate zip of masks")
@click.option("--max-images", type=click.IntRange(min=1), help="Only the first so many photos")
@cli.overwrite("a finished zip")
def main(
    source: Path,
    dest: Path,
    mirror: bool,
    workers: int,
    cameras: Path | None,
    masks_zip: bool,
    max_images: int | None,
    overwrite: bool,
    **given: Any,
) -> None:
    """Find the faces in photos, estimate their cameras, crop and cut them out as EG3D's FFHQ is.

    Labels follow EG3D (radius 2.7, focal length 4.2647). What is skipped is counted by reason and
    listed in <dest>_report.json. After an interruption the same command continues where it stopped.
    """
    if not source.exists():
        raise UserError(f"--source={source} does not exist; name a folder or zip of photos.")
    options = OPTIONS.apply(PhotoOptions(), given)
    if options.masks:
        options = replace(options, matte="none")
    matte = "folder" if options.masks else options.matte.partition(":")[0]
    for path in _results(dest, matte, masks_zip):
        cli.check_new(path, overwrite)
    from gghead.data.photos.prepare import prepare, work_folder

    begin = time.perf_counter()
    with progress("Photos", unit="photos") as bar:

        def show(done: int, total: int, kept: int) -> None:
            bar.total = total
            bar.update(done, f"{kept} faces")

        try:
            report = prepare(
                source,
                dest,
                options,
                cameras,
                mirror,
                masks_zip,
                workers,
                max_images,
                show,
            )
        except KeyboardInterrupt:
            kept = (
                f"Finished photos are kept in {work_folder(dest)}; the same command goes on there."
            )
            raise KeyboardInterrupt(kept) from None
    seconds = time.perf_counter() - begin
    for line in report.lines():
        click.echo(line)
    click.echo(
        f"{dest} written in {seconds:.0f} s ({report.photos / seconds:.1f} photos per second)."
    )


def _results(dest: Path, matte: str, masks_zip: bool) -> list[Path]:
    """The files that count as finished data.

    The report alone may be one of photos that could not be used.
    """
    return [dest, *([dest.with_name(f"{dest.stem}_masks_{matte}.zip")] if masks_zip else [])]
