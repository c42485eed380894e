"""The options of ``benchmark.py data``."""

import click

from gghead.torch_utils import cli
from gghead.torch_utils.cli import IntRangeList, command
from gghead.torch_utils.errors import UserError
from gghead.training.benchmarks import options
from gghead.training.benchmarks.formats import FORMATS


@command(name="data")
@click.option(
    "--size",
    type=click.IntRange(8),
    default=512,
    show_default=True,
    help="side of the files in pixels",
)
@click.option(
    "--resolution",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    help="side that the loader gives",
)
@click.option(
    "--workers", type=IntRangeList(), default="1,2", show_default=True, help="loader threads (list)"
)
@click.option(
    "--images",
    type=click.IntRange(16),
    default=256,
    show_default=True,
    help="images per loader figure",
)
@click.option(
    "--formats", default="all", show_default=True, help="comma list, e.g. 'png level 1,jpeg q95'"
)
@click.option(
    "--step-ms", type=click.IntRange(1), help="also the time that steps so long wait for 16 images"
)
@click.option(
    "--repeats",
    type=click.IntRange(1),
    default=9,
    show_default=True,
    help="timed rounds; the median counts",
)
@options.json_path
def main(formats, json_path, **chosen) -> None:
    """Time decoding (one thread, ms per image) and the whole loader (images per second, nothing
    cached, with masks).

    The pictures are noise with the spectrum of photos. Compare the loader with the images/s of
    ``train``; "auto" takes as many threads as are needed so that nobody waits.
    """
    if json_path:
        cli.check_writable(json_path, "--json")
    names = list(FORMATS) if formats == "all" else formats.split(",")
    if unknown := set(names) - set(FORMATS):
        raise UserError(
            f"--formats: there is no '{unknown.pop()}'; choose from {', '.join(FORMATS)}."
        )
    from gghead.training.benchmarks.data import measure

    options.write(json_path, measure(formats=names, **chosen))
