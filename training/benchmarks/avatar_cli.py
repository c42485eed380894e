"""The options of ``benchmark.py avatar``."""

import click

from gghead.torch_utils import cli
from gghead.torch_utils.cli import IntRangeList, command
from gghead.torch_utils.errors import UserError
from gghead.training.benchmarks import options

FORMS = ("dense", "compressed")


@command(name="avatar")
@click.option(
    "--avatar",
    "network",
    required=True,
    metavar="FILE|RUN",
    help="avatar, or run folder (its newest)",
)
@click.option("--data", metavar="DIR|ZIP", help="sequence that drives it  [default: the run's]")
@click.option("--split", default="test", show_default=True, help="frames of it")
@click.option(
    "--gaussians",
    type=IntRangeList(),
    default="10000,25000,50000",
    show_default=True,
    help="how many to bring the avatar to (list)",
)
@click.option(
    "--size", type=IntRangeList(), default="256,512", show_default=True, help="picture sizes (list)"
)
@click.option(
    "--forms", default=",".join(FORMS), show_default=True, help="as trained, compressed, or both"
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    help="leave Gaussians that change by less  [default: off]",
)
@cli.device(default="cpu", with_threads=False)
@click.option(
    "--repeats", type=click.IntRange(1), default=30, show_default=True, help="timed rounds"
)
@options.threads
@cli.seed("seed of the copies")
@options.beside
@options.json_path
def main(forms, json_path, **chosen) -> None:
    """Time an avatar that a sequence drives: whole frames, and blend, network and rasteriser apart,
    taking turns."""
    if json_path:
        cli.check_writable(json_path, "--json")
    names = forms.split(",")
    if unknown := set(names) - set(FORMS):
        raise UserError(f"--forms knows {' and '.join(FORMS)}, but not '{unknown.pop()}'.")
    from gghead.training.benchmarks.avatar import measure

    options.write(json_path, measure(forms=names, **chosen))
