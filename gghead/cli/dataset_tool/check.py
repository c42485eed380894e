"""``dataset_tool.py check``: what is wrong with a data set, why, and an image that shows it."""

import json
import time
from pathlib import Path

import click

from gghead.torch_utils import cli
from gghead.torch_utils.cli_words import in_flags
from gghead.torch_utils.progress import progress


@cli.command(stopped="Nothing was written.")
@click.argument("data", type=click.Path(path_type=Path), metavar="ZIP|DIR")
@cli.outdir("Folder of sheet and report  [default: beside DATA]")
@click.option(
    "--sheet",
    type=click.Path(path_type=Path),
    help="Contact sheet  [default: OUTDIR/NAME_check.png]",
)
@click.option(
    "--report", type=click.Path(path_type=Path), help="JSON  [default: OUTDIR/NAME_check.json]"
)
@click.option(
    "--masks",
    default="auto",
    show_default=True,
    metavar="auto|none|ZIP|DIR",
    help="Where the masks are",
)
@cli.switch(
    "--fast", default=False, show_default=True, help="Decode nothing but what the sheet shows"
)
@cli.workers("Threads that decode")
def main(
    data: Path,
    outdir: Path | None,
    sheet: Path | None,
    report: Path | None,
    masks: str,
    fast: bool,
    workers: int,
) -> None:
    """Check a data set: files, images, masks and cameras.

    \b
    python scripts/dataset_tool.py check heads.zip
    python scripts/dataset_tool.py check ffhq.zip --fast=1 --outdir=checks

    Names every fault with its likely cause and remedy, and writes a contact sheet with the head
    template drawn over each photo by its camera. Ends with status 0 if training may start, 1 if
    there are errors.
    """
    folder = outdir or data.resolve().parent
    sheet = sheet or folder / f"{data.stem}_check.png"
    report = report or folder / f"{data.stem}_check.json"
    for path, option in ((sheet, "--sheet"), (report, "--report")):
        cli.check_writable(path, option)
    from gghead.data.check import check_dataset
    from gghead.data.check.sheet import contact_sheet
    from gghead.torch_utils.files import make_folder, write_atomically

    begin = time.monotonic()
    with progress("Reading", unit="images") as bar:

        def show(done: int, total: int, what: str) -> None:
            bar.text, bar.total = what, total
            bar.update(done)

        result = check_dataset(data, None if masks == "none" else masks, fast, workers, show)
    text = json.dumps(result.as_dict(), indent=2) + "\n"
    with progress("Drawing the contact sheet"):
        image = contact_sheet(result) if result.names else None
    for path, write in (
        (sheet, image and (lambda file: image.save(file, "png"))),
        (report, lambda file: file.write(text.encode())),
    ):
        if write:
            make_folder(path.parent)
            write_atomically(path, write)
    result.close()
    for found in result.findings:
        click.echo(in_flags(f"{found.severity} {found.sentence()}"))
    for gap in result.not_checked:
        click.echo(in_flags(f"not checked: {gap}"))
    _figures(result.statistics())
    click.echo(f"{sheet if image else 'no sheet'}, {report}; {time.monotonic() - begin:.1f} s")
    errors = sum(found.severity == "error" for found in result.findings)
    click.echo(
        "Training may start."
        if result.ok
        else f"{errors} kinds of errors: mend them before training."
    )
    raise SystemExit(0 if result.ok else 1)


def _figures(figures: dict) -> None:
    click.echo(f"{figures['images']} images, {figures['masks']} masks")
    for key, unit in (
        ("yaw_deg", "degrees"),
        ("pitch_deg", "degrees"),
        ("roll_deg", "degrees"),
        ("radius", "units"),
        ("focal", "image widths"),
    ):
        if key in figures:
            value = figures[key]
            click.echo(
                f"  {key.removesuffix('_deg'):7s} median {value['median']:g}, 90 % within"
                f" {value['p5']:g} and {value['p95']:g} {unit}"
            )
    if "silhouette_iou" in figures:
        value = figures["silhouette_iou"]
        click.echo(
            f"  overlap of masks and template: median {value['median']:.2f} ({value['compared']}"
            " compared)"
        )
