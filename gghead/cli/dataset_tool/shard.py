"""``dataset_tool.py shard``: one large data set into many files."""

from pathlib import Path

import click

from gghead.torch_utils import cli
from gghead.torch_utils.progress import progress


@cli.command(stopped="Nothing was written; the same command starts again.")
@click.option(
    "--source",
    type=click.Path(path_type=Path),
    required=True,
    help="Zip or folder with dataset.json",
)
@cli.dest("The folder to make")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["zip", "tar"]),
    default="zip",
    show_default=True,
    help="Of files",
)
@click.option(
    "--images-per-shard",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="In each file",
)
@click.option(
    "--masks",
    default="auto",
    show_default=True,
    metavar="auto|none|ZIP|DIR",
    help="Masks of the source",
)
@cli.overwrite("shards")
def main(
    source: Path, dest: Path, kind: str, images_per_shard: int, masks: str, overwrite: bool
) -> None:
    """Split a data set into zips or WebDataset-style tar files.

    \b
    python scripts/dataset_tool.py shard --source=ffhq.zip --dest=ffhq-shards --format=tar
    python train.py --data=ffhq-shards
    """
    cli.check_new(dest, overwrite, folder=True)
    from gghead.data.shard_writer import write_shards

    with progress(f"Writing {dest}", unit="images") as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done)

        count = write_shards(
            source,
            dest,
            kind,
            images_per_shard,
            None if masks == "none" else masks,
            show,
            overwrite,
        )
    click.echo(f"{count} shards: {dest}")
