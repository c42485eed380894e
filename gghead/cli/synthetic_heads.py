"""``synthetic_heads``: pictures, masks and cameras of synthetic heads as an EG3D zip."""

import time
from pathlib import Path

import click

from gghead.torch_utils import cli
from gghead.torch_utils.progress import progress


@cli.command(stopped="Nothing was written; the same command starts again.")
@cli.dest("The zip to write")
@click.option(
    "--num", type=click.IntRange(min=1), default=2000, show_default=True, help="Number of images"
)
@click.option(
    "--resolution",
    type=cli.Resolution(square=True, smallest=8, largest=1024),
    default="64",
    show_default=True,
    help="Of the images",
)
@cli.seed("Another seed, other people")
@click.option(
    "--cameras",
    type=click.Choice(["ffhq", "full"]),
    default="ffhq",
    show_default=True,
    help="Poses",
)
@click.option(
    "--views",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Cameras per expression",
)
@click.option(
    "--expressions", type=click.IntRange(min=1), default=1, show_default=True, help="Per subject"
)
@cli.switch(
    "--uv", default=False, show_default=True, help="Also template coordinates per pixel (npy)"
)
@cli.switch(
    "--depth", default=False, show_default=True, help="Also depth per pixel (npy, world units)"
)
@cli.workers("Processes")
@cli.overwrite("a zip")
def main(
    dest: Path,
    num: int,
    resolution: int,
    seed: int,
    cameras: str,
    views: int,
    expressions: int,
    uv: bool,
    depth: bool,
    workers: int,
    overwrite: bool,
) -> None:
    """Make pictures of synthetic heads with masks and cameras, an EG3D zip.

    \b
    python datasets/synthetic_heads.py --dest=heads.zip --num=2000 --resolution=64 --seed=0
    python datasets/synthetic_heads.py --dest=views.zip --num=4000 --views=8 --expressions=2 \\
        --cameras=full

    The pictures depend on the options and the seed alone, not on the number of workers.
    """
    cli.check_new(dest, overwrite)
    from gghead.data.dataset_zip import DatasetWriter, FrameRecord, image_name
    from gghead.data.synthetic.scenes import Request, scenes
    from gghead.data.zip_writer import encode_npy, encode_png

    begin = time.perf_counter()
    request = Request(num, resolution, seed, cameras, views, expressions)
    with DatasetWriter(dest) as writer, progress("Drawing", num, "heads") as bar:
        maps = {"uv": {}, "depth": {}}
        for index, (picture, label, record) in enumerate(scenes(request, workers)):
            name = image_name(index)
            record = FrameRecord.parse({"file": name, **record}, name)
            writer.add(name, encode_png(picture.rgb), label, encode_png(picture.alpha), record)
            for kind, wanted, array in (("uv", uv, picture.uv), ("depth", depth, picture.depth)):
                if wanted:
                    maps[kind][name] = f"{kind}/{Path(name).with_suffix('.npy').as_posix()}"
                    writer.add_file(maps[kind][name], encode_npy(array))
            bar.advance()
        for kind, names in maps.items():
            if names:
                writer.add_table(kind, names)
    click.echo(
        f"{num} heads at {resolution}x{resolution} in {time.perf_counter() - begin:.0f} s: {dest}"
    )
