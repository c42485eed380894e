"""The options of ``benchmark.py encode``."""

import click

from gghead.torch_utils import cli
from gghead.torch_utils.cli import IntRangeList, command
from gghead.training.benchmarks import options
from gghead.training.encoder.config import PRESETS


@command(name="encode")
@click.option(
    "--network", metavar="FILE|RUN", help="a reconstructor  [default: an untrained one of --preset]"
)
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    default="tiny",
    show_default=True,
    help="without --network",
)
@click.option(
    "--views",
    type=IntRangeList(),
    default="1,2,4,8,16",
    show_default=True,
    help="input views (list)",
)
@click.option(
    "--size",
    type=click.IntRange(16),
    help="pixels per side of the views  [default: the training size]",
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
@cli.switch("--memory", default=False, help="also measure peak memory, in a fresh process per row")
@options.json_path
def main(json_path, **chosen) -> None:
    """Time encoding (views to latent) and decoding (latent to Gaussians), and the peak memory of
    both together."""
    if json_path:
        cli.check_writable(json_path, "--json")
    from gghead.training.benchmarks.encode import measure

    options.write(json_path, measure(**chosen))
