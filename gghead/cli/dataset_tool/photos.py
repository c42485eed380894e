"""``dataset_tool.py photos``: a folder of photos to a training zip with cameras and masks."""

import time
from pathlib import Path

import click

from gghead.torch_utils import cli
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.progress import progress


@cli.command()
@click.option(
    "--source", type=click.Path(path_type=Path), required=True, help="Folder (or zip) of photos"
)
@cli.dest("The zip to write")
@click.option(
    "--resolution",
    type=cli.Resolution(square=True, smallest=8),
    default="512",
    show_default=True,
    help="Of the images",
)
@cli.switch("--mirror", default=False, help="Add mirrored copies, as EG3D's FFHQ has them")
@cli.workers("Processes; 0 uses none", smallest=0)
@click.option(
    "--faces",
    type=click.Choice(["largest", "all"]),
    default="largest",
    show_default=True,
    help="Which faces of a photo",
)
@click.option(
    "--align",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="Turn crops upright: auto does so where the face leans by more than 10 degrees",
)
@click.option(
    "--landmarker",
    default="mediapipe",
    show_default=True,
    help="mediapipe, FILE.json of landmarks, or a face_landmarker.task file",
)
@click.option(
    "--cameras",
    type=click.Path(path_type=Path),
    help="JSON of ready cameras as EG3D's dataset.json: square photos are not cropped",
)
@click.option(
    "--matte",
    default="selfie",
    show_default=True,
    help="selfie, onnx:PATH (a matting network) or none",
)
@click.option(
    "--masks",
    type=click.Path(path_type=Path),
    help="Folder with masks of the photos, instead of --matte",
)
@cli.switch("--masks-zip", default=False, help="Also write GGHead's separate zip of masks")
@cli.switch(
    "--foreground",
    default=True,
    show_default=True,
    help="Remove the background's colour where masks are partial; 0: leave photos as they are",
)
@click.option("--max-images", type=click.IntRange(min=1), help="Only the first so many photos")
@click.option(
    "--min-scale",
    type=click.FloatRange(min=0),
    help="Skip crops smaller than this share of --resolution",
)
@click.option(
    "--min-sharpness", type=click.FloatRange(min=0), help="Skip faces less sharp than this"
)
@click.option(
    "--max-filled",
    type=click.FloatRange(0, 1),
    help="Skip crops with more than this share made up",
)
@click.option(
    "--max-yaw", type=click.FloatRange(min=0), help="Skip faces turned further to a side (degrees)"
)
@click.option(
    "--max-pitch",
    type=click.FloatRange(min=0),
    help="Skip faces turned further up or down (degrees)",
)
@cli.overwrite("a finished zip")
def main(
    source: Path,
    dest: Path,
    resolution: int,
    mirror: bool,
    workers: int,
    faces: str,
    align: str,
    landmarker: str,
    cameras: Path | None,
    matte: str,
    masks: Path | None,
    masks_zip: bool,
    foreground: bool,
    max_images: int | None,
    overwrite: bool,
    **limits: float | None,
) -> None:
    """Find the faces in photos, estimate their cameras, crop and cut them out as EG3D's FFHQ is.

    Labels follow EG3D (radius 2.7, focal length 4.2647). What is skipped is counted by reason and
    listed in <dest>_report.json. After an interruption the same command continues where it stopped.
    """
    if not source.exists():
        raise UserError(f"--source={source} does not exist; name a folder or zip of photos.")
    for path in _results(dest, "folder" if masks else matte.split(":")[0], masks_zip):
        cli.check_new(path, overwrite)
    from gghead.data.photos.photo import PhotoOptions
    from gghead.data.photos.prepare import prepare, work_folder
    from gghead.data.photos.report import Limits

    options = PhotoOptions(
        resolution=resolution,
        faces=faces,
        align=align,
        landmarker=landmarker,
        matte="none" if masks else matte,
        masks=str(masks) if masks else None,
        foreground=foreground,
        limits=Limits(**{key: value for key, value in limits.items() if value is not None}),
    )
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
