"""The options of ``benchmark.py train``."""

import click

from gghead.torch_utils import cli
from gghead.torch_utils.cli import command
from gghead.torch_utils.errors import UserError
from gghead.training.benchmarks import options
from gghead.training.gan.config import PRESETS


@command(name="train")
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    default="tiny",
    show_default=True,
    help="what to train",
)
@click.option("--batch", type=click.IntRange(1), help="images per step  [default: the preset's]")
@click.option(
    "--steps",
    type=click.IntRange(1),
    default=16,
    show_default=True,
    help="timed steps after two of warm-up",
)
@click.option(
    "--warmup",
    type=click.IntRange(0),
    default=2,
    show_default=True,
    help="steps before the timed ones",
)
@click.option(
    "--stage",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="stage of the schedule to time",
)
@click.option(
    "--precision",
    type=click.Choice(["bf16", "tf32", "fp32"]),
    help="[default: as train.py chooses]",
)
@cli.device(default="cpu", with_threads=False)
@options.threads
@click.option(
    "--profile",
    type=click.IntRange(0),
    default=12,
    show_default=True,
    help="rows of the operator table",
)
@cli.switch(
    "--compare", default=False, help="also time a plain step: fp32, torch rasteriser, fresh fakes"
)
@options.beside
@options.json_path
def main(preset, stage, json_path, **chosen) -> None:
    """Time training steps on random images: seconds per kimg, peak memory, and where the time goes.

    Every 16th step also computes the gradient penalty; time a multiple of 16 steps for figures that
    contain it once in 16. ``--stage`` makes that stage the only one of the run.
    """
    if json_path:
        cli.check_writable(json_path, "--json")
    last = len(PRESETS[preset].stages) - 1
    if stage > last:
        raise UserError(f"--stage={stage}: {preset} has the stages 0 to {last}.")
    from gghead.training.benchmarks.train import measure

    options.write(json_path, measure(preset=preset, stage=stage, **chosen))
