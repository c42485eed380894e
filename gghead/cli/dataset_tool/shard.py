"""``dataset_tool.py shard``: one large data set into many files."""

from pathlib import Path

import click

from gghead.torch_utils.cli import command


@command()
@click.option("--source", type=click.Path(path_type=Path), required=True, help="Zip or folder with dataset.json.")
@click.option("--dest", type=click.Path(path_type=Path), required=True, help="The folder to make.")
@click.option("--format", "kind", type=click.Choice(["zip", "tar"]), default="zip", show_default=True, help="Of files.")
@click.option("--images-per-shard", type=click.IntRange(min=1), default=1000, show_default=True, help="In each file.")
@click.option("--masks", default="auto", show_default=True, metavar="auto|none|ZIP|DIR", help="Masks of the source.")
def main(source: Path, dest: Path, kind: str, images_per_shard: int, masks: str) -> None:
    """Split a data set into zips or WebDataset-style tar files.

    \b
    python scripts/dataset_tool.py shard --source=ffhq.zip --dest=ffhq-shards --format=tar
    python train.py --data=ffhq-shards
    """
    from gghead.data.shard_writer import write_shards

    count = write_shards(source, dest, kind, images_per_shard, None if masks == "none" else masks,
                         lambda done: click.echo(f"{done} images"))  # fmt: skip
    click.echo(f"{count} shards: {dest}")
