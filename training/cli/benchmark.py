"""``gghead benchmark``: the options of every benchmark.

Each prints a table; ``--json`` writes its figures. What they measure:
``gghead.training.benchmarks``.
"""

import json
from pathlib import Path

import click

from gghead.models.avatar_config import CompressionPlan
from gghead.torch_utils import cli
from gghead.torch_utils.cli import FloatList, IntRangeList
from gghead.torch_utils.cli_groups import LazyGroup
from gghead.torch_utils.errors import UserError
from gghead.training.benchmarks.formats import FORMATS
from gghead.training.encoder.config import PRESETS as ENCODER_PRESETS
from gghead.training.gan.config import PRESETS as GAN_PRESETS

FORMS = ("dense", "compressed")

_json = click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the figures to this file",
)
_busy = click.option(
    "--busy",
    "beside",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Also time it beside N busy processes, with one, all and chosen threads",
)
_device = cli.device(threads="fixed")
_BESIDE = {"--beside": "--busy"}


def _repeats(count: int = 9):
    return click.option(
        "--repeats",
        type=click.IntRange(1),
        default=count,
        show_default=True,
        help="Timed rounds; the median counts",
    )


def _avatar(data: str):
    """``--avatar``, ``--data`` and ``--split``."""
    options = [
        click.option(
            "--avatar",
            "network",
            required=True,
            metavar="FILE|RUN",
            help="Avatar, or run folder (its newest)",
        ),
        click.option("--data", metavar="DIR|ZIP", help=f"{data}  [default: the run's]"),
        click.option("--split", default="test", show_default=True, help="Its frames to take"),
    ]

    def add(function):
        for option in reversed(options):
            function = option(function)
        return function

    return add


def _check_json(path: Path | None) -> None:
    if path is not None:
        cli.check_writable(path, "--json")


def _write(path: Path | None, report: dict) -> None:
    """Write ``report`` to ``--json``, where it was given, and say so."""
    if path is not None:
        path.write_text(json.dumps(report, indent=2) + "\n")
        click.echo(f"wrote {path}")


@cli.command()
@click.option(
    "--gaussians",
    type=IntRangeList(),
    default="16384,65536",
    show_default=True,
    help="Gaussians per image (list)",
)
@click.option(
    "--size", type=IntRangeList(), default="128,256", show_default=True, help="Image sizes (list)"
)
@click.option(
    "--images", type=click.IntRange(1), default=1, show_default=True, help="Images per call"
)
@click.option(
    "--channels",
    type=IntRangeList(),
    default="3,6",
    show_default=True,
    help="Color channels (list)",
)
@click.option(
    "--backends", default="all", show_default=True, help="Comma list, or all that work here"
)
@_device
@_repeats()
@cli.seed("Of the scene")
@cli.switch(
    "--memory",
    default=False,
    help="Also the peak memory of forward + backward, each in a process of its own",
)
@_json
def raster(json_path: Path | None, **chosen) -> None:
    """Time the rasterizer backends on a head-like scene, forward and with gradients, taking turns.

    For the native backend also its stages, and how far it stands above the floor: the vector
    instructions that the blocks with something to show need at least, at the measured rate of
    multiply-adds, plus the memory traffic.
    """
    _check_json(json_path)
    from gghead.training.benchmarks.raster import measure

    _write(json_path, measure(**chosen))


@cli.command(renamed=_BESIDE)
@click.option(
    "--preset",
    type=click.Choice(list(GAN_PRESETS)),
    default="tiny",
    show_default=True,
    help="What to train",
)
@click.option("--batch", type=click.IntRange(1), help="Images per step  [default: the preset's]")
@click.option(
    "--steps",
    type=click.IntRange(1),
    default=16,
    show_default=True,
    help="Timed steps after two of warm-up",
)
@click.option(
    "--warmup",
    type=click.IntRange(0),
    default=2,
    show_default=True,
    help="Steps before the timed ones",
)
@click.option(
    "--stage",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Stage of the schedule to time",
)
@click.option(
    "--precision",
    type=click.Choice(["bf16", "tf32", "fp32"]),
    help="Of convolutions  [default: as train.py chooses]",
)
@_device
@click.option(
    "--profile",
    type=click.IntRange(0),
    default=12,
    show_default=True,
    help="Rows of the operator table",
)
@cli.switch(
    "--compare", default=False, help="Also time a plain step: fp32, torch rasterizer, fresh fakes"
)
@_busy
@_json
def train(preset: str, stage: int, json_path: Path | None, **chosen) -> None:
    """Time training steps on random images: seconds per kimg, peak memory, and where the time goes.

    Every 16th step also computes the gradient penalty; time a multiple of 16 steps for figures that
    contain it once in 16. ``--stage`` makes that stage the only one of the run.
    """
    _check_json(json_path)
    last = len(GAN_PRESETS[preset].stages) - 1
    if stage > last:
        raise UserError(f"--stage={stage}: {preset} has the stages 0 to {last}.")
    from gghead.training.benchmarks.train import measure

    _write(json_path, measure(preset=preset, stage=stage, **chosen))


@cli.command()
@click.option(
    "--network",
    default="demo",
    show_default=True,
    metavar="FILE|RUN|demo",
    help="What to sample from",
)
@click.option(
    "--batch",
    type=IntRangeList(),
    default="1,16",
    show_default=True,
    help="Heads or views at once (list)",
)
@click.option(
    "--size", type=click.IntRange(1), help="Pixels per side  [default: the training size]"
)
@_device
@_repeats(15)
@_json
def sample(json_path: Path | None, **chosen) -> None:
    """Time sampling: latent to image, and new cameras for a head that is already there."""
    _check_json(json_path)
    from gghead.training.benchmarks.sample import measure

    _write(json_path, measure(**chosen))


@cli.command(renamed={"--size": "--source-resolution"})
@click.option(
    "--source-resolution",
    "size",
    type=cli.Resolution(square=True, smallest=8),
    default="512",
    show_default=True,
    help="Of the files",
)
@click.option(
    "--resolution",
    type=cli.Resolution(square=True),
    default="64",
    show_default=True,
    help="Of the images that the loader gives",
)
@click.option(
    "--workers", type=IntRangeList(), default="1,2", show_default=True, help="Loader threads (list)"
)
@click.option(
    "--images",
    type=click.IntRange(16),
    default=256,
    show_default=True,
    help="Images per loader figure",
)
@click.option(
    "--formats", default="all", show_default=True, help="Comma list, e.g. 'png level 1,jpeg q95'"
)
@click.option(
    "--step-ms", type=click.IntRange(1), help="Also the time that steps so long wait for 16 images"
)
@_repeats()
@_json
def data(formats: str, json_path: Path | None, **chosen) -> None:
    """Time decoding (one thread, ms per image) and the whole loader (images per second).

    Nothing is cached, and masks are read.

    The images are noise with the spectrum of photos. Compare the loader with the images/s of
    ``train``; "auto" takes as many threads as are needed so that nobody waits.
    """
    _check_json(json_path)
    names = list(FORMATS) if formats == "all" else formats.split(",")
    if unknown := set(names) - set(FORMATS):
        raise UserError(
            f"--formats: there is no '{unknown.pop()}'; choose from {', '.join(FORMATS)}."
        )
    from gghead.training.benchmarks.data import measure

    _write(json_path, measure(formats=names, **chosen))


@cli.command(renamed={"--size": "--resolution"})
@click.option(
    "--network", metavar="FILE|RUN", help="A reconstructor  [default: an untrained one of --preset]"
)
@click.option(
    "--preset",
    type=click.Choice(list(ENCODER_PRESETS)),
    default="tiny",
    show_default=True,
    help="Without --network",
)
@click.option(
    "--views",
    type=IntRangeList(),
    default="1,2,4,8,16",
    show_default=True,
    help="Input views (list)",
)
@click.option(
    "--resolution",
    "size",
    type=cli.Resolution(square=True, smallest=16),
    help="Of the views  [default: that of training]",
)
@_device
@_repeats()
@cli.switch("--memory", default=False, help="Also measure peak memory, in a fresh process per row")
@_json
def encode(json_path: Path | None, **chosen) -> None:
    """Time encoding (views to latent) and decoding (latent to Gaussians).

    The peak memory of both together is measured too.
    """
    _check_json(json_path)
    from gghead.training.benchmarks.encode import measure

    _write(json_path, measure(**chosen))


@cli.command()
@_avatar("Sequence with the splits train and test")
@click.option(
    "--rank",
    type=IntRangeList(),
    default="16,32,64,128,256",
    show_default=True,
    help="Movements (list)",
)
@click.option(
    "--bits",
    type=IntRangeList(),
    default="8,16",
    show_default=True,
    help="Bits per number (list of 8, 16, 32)",
)
@click.option(
    "--prune", type=FloatList(), default="0.1", show_default=True, help="Share left out (list)"
)
@click.option(
    "--combinations",
    type=click.IntRange(1),
    default=CompressionPlan().combinations,
    show_default=True,
    help="Combinations of the coefficients",
)
@click.option(
    "--every", type=click.IntRange(1), default=1, show_default=True, help="Score each n-th frame"
)
@_json
def compression(bits: list[int], json_path: Path | None, **chosen) -> None:
    """Compress an avatar in all ways asked for.

    Print sizes and what is lost on frames it was not trained on.
    """
    _check_json(json_path)
    if unknown := set(bits) - {8, 16, 32}:
        raise UserError(f"--bits: a number has 8, 16 or 32 bits, not {unknown.pop()}.")
    from gghead.training.benchmarks.compression import measure

    _write(json_path, measure(bits=bits, **chosen))


@cli.command(renamed=_BESIDE)
@_avatar("Sequence that drives it")
@click.option(
    "--gaussians",
    type=IntRangeList(),
    default="10000,25000,50000",
    show_default=True,
    help="How many to bring the avatar to (list)",
)
@click.option(
    "--size", type=IntRangeList(), default="256,512", show_default=True, help="Image sizes (list)"
)
@click.option(
    "--forms", default=",".join(FORMS), show_default=True, help="As trained, compressed, or both"
)
@_device
@_repeats(30)
@cli.seed("Of the copies")
@_busy
@_json
def avatar(forms: str, json_path: Path | None, **chosen) -> None:
    """Time an avatar that a sequence drives.

    Whole frames, and blend, network and rasterizer apart, taking turns.
    """
    _check_json(json_path)
    names = forms.split(",")
    if unknown := set(names) - set(FORMS):
        raise UserError(f"--forms knows {' and '.join(FORMS)}, but not '{unknown.pop()}'.")
    from gghead.training.benchmarks.avatar import measure

    _write(json_path, measure(forms=names, **chosen))


_HOME = "gghead.training.cli.benchmark"
main = LazyGroup(
    {
        "raster": (f"{_HOME}:raster", "The rasterisers, forward and with gradients"),
        "train": (f"{_HOME}:train", "Training steps, their memory, and where the time goes"),
        "sample": (f"{_HOME}:sample", "Latent to image, and new cameras for a head"),
        "data": (f"{_HOME}:data", "Decoding of images, and the whole loader"),
        "encode": (f"{_HOME}:encode", "Views to latent, and latent to Gaussians"),
        "compression": (f"{_HOME}:compression", "Sizes of a compressed avatar, and what is lost"),
        "avatar": (f"{_HOME}:avatar", "Frames per second of an avatar that a sequence drives"),
    },
    help="Time parts of the system on this machine.",
)
