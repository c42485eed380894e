"""The options of ``benchmark.py sample``."""

import click

from gghead.torch_utils import cli
from gghead.torch_utils.cli import IntRangeList, command
from gghead.training.benchmarks import options


@command(name="sample")
@click.option(
    "--network",
    default="demo",
    show_default=True,
    metavar="FILE|RUN|demo",
    help="what to sample from",
)
@click.option(
    "--batch",
    type=IntRangeList(),
    default="1,16",
    show_default=True,
    help="heads or views at once (list)",
)
@click.option(
    "--size", type=click.IntRange(1), help="pixels per side  [default: the training size]"
)
@cli.device(default="cpu", with_threads=False)
@click.option(
    "--repeats", type=click.IntRange(1), default=15, show_default=True, help="timed rounds"
)
@options.threads
@options.json_path
def main(json_path, **chosen) -> None:
    """Time sampling: latent to picture, and new cameras for a head that is already there."""
    if json_path:
        cli.check_writable(json_path, "--json")
    from gghead.training.benchmarks.sample import measure

    options.write(json_path, measure(**chosen))
