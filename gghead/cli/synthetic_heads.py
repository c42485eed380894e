"""``synthetic_heads``: images, masks and cameras of synthetic heads as an EG3D zip."""

import time
from pathlib import Path
from typing import Any

import click

from gghead.data.synthetic.config import Request
from gghead.torch_utils import cli
from gghead.torch_utils.config_options import ConfigOptions
from gghead.torch_utils.progress import progress

OPTIONS = ConfigOptions(Request)


@cli.command(stopped="Nothing was written; the same command starts again.")
@cli.dest("The zip to write")
@OPTIONS
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
    uv: bool,
    depth: bool,
    workers: int,
    overwrite: bool,
    **options: Any,
) -> None:
    """Make images of synthetic heads with masks and cameras, an EG3D zip.

    \b
    python datasets/synthetic_heads.py --dest=heads.zip --num=2000 --resolution=64 --seed=0
    python datasets/synthetic_heads.py --dest=views.zip --num=4000 --views=8 --expressions=2 \\
        --cameras=full

    The images depend on the options and the seed alone, not on the number of workers.
    """
    request = OPTIONS.apply(Request(), options)
    cli.check_new(dest, overwrite)
    from gghead.data.dataset_zip import DatasetWriter, FrameRecord, image_name
    from gghead.data.synthetic.scenes import scenes
    from gghead.data.zip_writer import encode_npy, encode_png

    begin = time.perf_counter()
    with DatasetWriter(dest) as writer, progress("Drawing", request.num, "heads") as bar:
        maps = {"uv": {}, "depth": {}}
        for index, (image, label, record) in enumerate(scenes(request, workers)):
            name = image_name(index)
            record = FrameRecord.parse({"file": name, **record}, name)
            writer.add(name, encode_png(image.rgb), label, encode_png(image.alpha), record)
            for kind, wanted, array in (("uv", uv, image.uv), ("depth", depth, image.depth)):
                if wanted:
                    maps[kind][name] = f"{kind}/{Path(name).with_suffix('.npy').as_posix()}"
                    writer.add_file(maps[kind][name], encode_npy(array))
            bar.advance()
        for kind, names in maps.items():
            if names:
                writer.add_table(kind, names)
    click.echo(
        f"{request.num} heads at {request.resolution}x{request.resolution} in"
        f" {time.perf_counter() - begin:.0f} s: {dest}"
    )
