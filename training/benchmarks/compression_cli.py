"""The options of ``benchmark.py compression``."""

import click

from gghead.models.avatar_config import CompressionPlan
from gghead.torch_utils import cli
from gghead.torch_utils.cli import FloatList, IntRangeList, command
from gghead.torch_utils.errors import UserError
from gghead.training.benchmarks import options


@command(name="compression")
@click.option(
    "--avatar",
    "network",
    required=True,
    metavar="FILE|RUN",
    help="avatar, or run folder (its newest)",
)
@click.option(
    "--data",
    metavar="DIR|ZIP",
    help="sequence with the splits train and test  [default: the run's]",
)
@click.option(
    "--rank",
    type=IntRangeList(),
    default="16,32,64,128,256",
    show_default=True,
    help="movements (list)",
)
@click.option(
    "--bits",
    type=IntRangeList(),
    default="8,16",
    show_default=True,
    help="bits per number (list of 8, 16, 32)",
)
@click.option(
    "--prune", type=FloatList(), default="0.1", show_default=True, help="share left out (list)"
)
@click.option(
    "--combinations",
    type=click.IntRange(1),
    default=CompressionPlan().combinations,
    show_default=True,
    help="combinations of the coefficients",
)
@click.option("--split", default="test", show_default=True, help="frames to score")
@click.option(
    "--every", type=click.IntRange(1), default=1, show_default=True, help="score each n-th of them"
)
@options.json_path
def main(bits, json_path, **chosen) -> None:
    """Compress an avatar in all ways asked for; print sizes and what is lost on frames it was not
    trained on."""
    if json_path:
        cli.check_writable(json_path, "--json")
    if unknown := set(bits) - {8, 16, 32}:
        raise UserError(f"--bits: a number has 8, 16 or 32 bits, not {unknown.pop()}.")
    from gghead.training.benchmarks.compression import measure

    options.write(json_path, measure(bits=bits, **chosen))
