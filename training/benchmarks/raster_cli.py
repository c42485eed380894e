"""The options of ``benchmark.py raster``."""

import click

from gghead.torch_utils import cli
from gghead.torch_utils.cli import IntRangeList, command
from gghead.training.benchmarks import options


@command(name="raster")
@click.option(
    "--gaussians",
    type=IntRangeList(),
    default="16384,65536",
    show_default=True,
    help="Gaussians per image (list)",
)
@click.option(
    "--size", type=IntRangeList(), default="128,256", show_default=True, help="picture sizes (list)"
)
@click.option(
    "--images", type=click.IntRange(1), default=1, show_default=True, help="images per call"
)
@click.option(
    "--channels",
    type=IntRangeList(),
    default="3,6",
    show_default=True,
    help="colour channels (list)",
)
@click.option(
    "--backends", default="all", show_default=True, help="comma list, or all that work here"
)
@cli.device(default="cpu", with_threads=False)
@click.option(
    "--repeats",
    type=click.IntRange(1),
    default=9,
    show_default=True,
    help="timed rounds; the median counts",
)
@options.threads
@cli.seed("seed of the scene")
@cli.switch(
    "--memory",
    default=False,
    help="also the peak memory of forward + backward, each in a process of its own",
)
@options.json_path
def main(json_path, **chosen) -> None:
    """Time the rasteriser backends on a head-like scene, forward and with gradients, taking turns.

    For the native backend also its stages, and how far it stands above the floor: the vector
    instructions that the blocks with something to show need at least, at the measured rate of
    multiply-adds, plus the memory traffic.
    """
    if json_path:
        cli.check_writable(json_path, "--json")
    from gghead.training.benchmarks.raster import measure

    options.write(json_path, measure(**chosen))
