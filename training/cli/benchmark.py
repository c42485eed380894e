"""``gghead benchmark``: the options of every benchmark.

Each prints a table; ``--json`` writes its figures. What they measure:
``gghead.training.benchmarks``.
"""

import functools
import importlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from gghead.cli.common import avatar_option
from gghead.models.avatar_config import CompressionPlan
from gghead.torch_utils import cli
from gghead.torch_utils.cli import FloatList, IntRangeList
from gghead.torch_utils.cli_groups import LazyGroup
from gghead.torch_utils.config_options import ConfigOptions
from gghead.torch_utils.errors import UserError
from gghead.training.benchmarks.formats import FORMATS
from gghead.training.encoder.config import PRESETS as ENCODER_PRESETS
from gghead.training.encoder.config import EncoderTrainConfig
from gghead.training.gan.config import PRESETS as GAN_PRESETS
from gghead.training.gan.config import TrainConfig

FORMS = ("dense", "compressed")
GAN_OPTIONS = ConfigOptions(TrainConfig, GAN_PRESETS, "tiny", only=("preset", "batch", "precision"))
ENCODER_OPTIONS = ConfigOptions(EncoderTrainConfig, ENCODER_PRESETS, "tiny", only=("preset",))
PLAN_OPTIONS = ConfigOptions(CompressionPlan, only=("combinations",))


def _benchmark(**settings: Any) -> Callable[[Callable[..., dict]], click.Command]:
    """A command with ``--json``.

    The function turns the options into what ``measure`` of the module of its name in
    ``gghead.training.benchmarks`` takes, or says what is wrong with them.
    """

    def decorate(function: Callable[..., dict]) -> click.Command:
        @cli.command(**settings)
        @functools.wraps(function)
        def run(json_path: Path | None, **options: Any) -> None:
            if json_path is not None:
                cli.check_writable(json_path, "--json")
            arguments = function(**options)
            home = f"gghead.training.benchmarks.{function.__name__}"
            report = importlib.import_module(home).measure(**arguments)
            if json_path is not None:
                json_path.write_text(json.dumps(report, indent=2) + "\n")
                click.echo(f"wrote {json_path}")

        run.params.append(
            click.Option(
                ["--json", "json_path"],
                type=click.Path(dir_okay=False, path_type=Path),
                help="Write the figures to this file",
            )
        )
        return run

    return decorate


def _count(name: str, default: int | None, text: str, smallest: int = 1, **more: Any) -> Callable:
    """An option that is a whole number."""
    return click.option(
        name,
        type=click.IntRange(smallest),
        default=default,
        show_default=default is not None,
        help=text,
        **more,
    )


def _list(name: str, default: str, text: str, kind: click.ParamType | None = None) -> Callable:
    """An option that is a list of numbers, each of which is timed."""
    return click.option(
        name, type=kind or IntRangeList(), default=default, show_default=True, help=f"{text} (list)"
    )


def _repeats(count: int = 9) -> Callable:
    return _count("--repeats", count, "Timed rounds; the median counts")


def _words(name: str, default: str, text: str) -> Callable:
    """An option that is a list of names."""
    return click.option(name, default=default, show_default=True, help=text)


def _parse_names(option: str, text: str, known: Iterable[str]) -> list[str]:
    """The names of a list; raises ``UserError`` for one that is not ``known``."""
    known = list(known)
    names = known if text == "all" else text.split(",")
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"{option}: there is no '{unknown[0]}'; choose from {', '.join(known)}.")
    return names


_device = cli.device(threads="fixed")
_busy = click.option(
    "--busy",
    "beside",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Also time it beside N busy processes, with one, all and chosen threads",
)
_split = click.option("--split", default="test", show_default=True, help="Its frames to take")
_BESIDE = {"--beside": "--busy"}


def _data(text: str) -> Callable:
    return click.option("--data", metavar="DIR|ZIP", help=f"{text}  [default: the run's]")


@_benchmark()
@_list("--gaussians", "16384,65536", "Gaussians per image")
@_list("--size", "128,256", "Image sizes")
@_count("--images", 1, "Images per call")
@_list("--channels", "3,6", "Color channels")
@_words("--backends", "all", "Comma list, or all that work here")
@_device
@_repeats()
@cli.seed("Of the scene")
@cli.switch(
    "--memory",
    default=False,
    help="Also the peak memory of forward + backward, each in a process of its own",
)
def raster(**options: Any) -> dict:
    """Time the rasterizer backends on a head-like scene, forward and with gradients, taking turns.

    For the native backend also its stages, and how far it stands above the floor: the vector
    instructions that the blocks with something to show need at least, at the measured rate of
    multiply-adds, plus the memory traffic.
    """
    return options


@_benchmark(renamed=_BESIDE)
@GAN_OPTIONS
@_count("--steps", 16, "Timed steps after those of the warm-up")
@_count("--warmup", 2, "Steps before the timed ones", 0)
@_count("--stage", 0, "Stage of the schedule to time", 0)
@_device
@_count("--profile", 12, "Rows of the operator table", 0)
@cli.switch(
    "--compare", default=False, help="Also time a plain step: fp32, torch rasterizer, fresh fakes"
)
@_busy
def train(stage: int, preset: str | None, **options: Any) -> dict:
    """Time training steps on random images: seconds per kimg, peak memory, and where the time goes.

    Every 16th step also computes the gradient penalty; time a multiple of 16 steps for figures that
    contain it once in 16. ``--stage`` makes that stage the only one of the run.
    """
    config = GAN_OPTIONS.start({"preset": preset})
    if stage >= len(config.stages):
        raise UserError(
            f"--stage={stage}: {config.preset} has the stages 0 to {len(config.stages) - 1}."
        )
    return {"preset": config.preset, "stage": stage, **options}


@_benchmark()
@click.option(
    "--network",
    default="demo",
    show_default=True,
    metavar="FILE|RUN|demo",
    help="What to sample from",
)
@_list("--batch", "1,16", "Heads or views at once")
@_count("--size", None, "Pixels per side  [default: the training size]")
@_device
@_repeats(15)
def sample(**options: Any) -> dict:
    """Time sampling: latent to image, and new cameras for a head that is already there."""
    return options


@_benchmark(renamed={"--size": "--source-resolution"})
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
@_list("--workers", "1,2", "Loader threads")
@_count("--images", 256, "Images per loader figure", 16)
@_words("--formats", "all", "Comma list, e.g. 'png level 1,jpeg q95'")
@_count("--step-ms", None, "Also the time that steps so long wait for 16 images")
@_repeats()
def data(formats: str, **options: Any) -> dict:
    """Time decoding (one thread, ms per image) and the whole loader (images per second).

    Nothing is cached, and masks are read.

    The images are noise with the spectrum of photos. Compare the loader with the images/s of
    ``train``; "auto" takes as many threads as are needed so that nobody waits.
    """
    return {"formats": _parse_names("--formats", formats, FORMATS), **options}


@_benchmark(renamed={"--size": "--resolution"})
@click.option(
    "--network", metavar="FILE|RUN", help="A reconstructor  [default: an untrained one of --preset]"
)
@ENCODER_OPTIONS
@_list("--views", "1,2,4,8,16", "Input views")
@click.option(
    "--resolution",
    "size",
    type=cli.Resolution(square=True, smallest=16),
    help="Of the views  [default: that of training]",
)
@_device
@_repeats()
@cli.switch("--memory", default=False, help="Also measure peak memory, in a fresh process per row")
def encode(preset: str | None, **options: Any) -> dict:
    """Time encoding (views to latent) and decoding (latent to Gaussians).

    The peak memory of both together is measured too.
    """
    return {"preset": ENCODER_OPTIONS.start({"preset": preset}).preset, **options}


@_benchmark()
@avatar_option()
@_data("Sequence with the splits train and test")
@_split
@_list("--rank", "16,32,64,128,256", "Movements")
@_list("--bits", "8,16", "Bits per number, 8, 16 or 32")
@_list("--prune", "0.1", "Share left out", FloatList())
@PLAN_OPTIONS
@_count("--every", 1, "Score each n-th frame")
def compression(bits: list[int], combinations: int | None, **options: Any) -> dict:
    """Compress an avatar in all ways asked for.

    Print sizes and what is lost on frames it was not trained on.
    """
    if unknown := set(bits) - {8, 16, 32}:
        raise UserError(f"--bits: a number has 8, 16 or 32 bits, not {unknown.pop()}.")
    plan = PLAN_OPTIONS.apply(CompressionPlan(), {"combinations": combinations})
    return {"bits": bits, "combinations": plan.combinations, **options}


@_benchmark(renamed=_BESIDE)
@avatar_option()
@_data("Sequence that drives it")
@_split
@_list("--gaussians", "10000,25000,50000", "How many to bring the avatar to")
@_list("--size", "256,512", "Image sizes")
@_words("--forms", ",".join(FORMS), "As trained, compressed, or both")
@_device
@_repeats(30)
@cli.seed("Of the copies")
@_busy
def avatar(forms: str, **options: Any) -> dict:
    """Time an avatar that a sequence drives.

    Whole frames, and blend, network and rasterizer apart, taking turns.
    """
    return {"forms": _parse_names("--forms", forms, FORMS), **options}


_HOME = "gghead.training.cli.benchmark"
main = LazyGroup(
    {
        "raster": (f"{_HOME}:raster", "The rasterizers, forward and with gradients"),
        "train": (f"{_HOME}:train", "Training steps, their memory, and where the time goes"),
        "sample": (f"{_HOME}:sample", "Latent to image, and new cameras for a head"),
        "data": (f"{_HOME}:data", "Decoding of images, and the whole loader"),
        "encode": (f"{_HOME}:encode", "Views to latent, and latent to Gaussians"),
        "compression": (f"{_HOME}:compression", "Sizes of a compressed avatar, and what is lost"),
        "avatar": (f"{_HOME}:avatar", "Frames per second of an avatar that a sequence drives"),
    },
    help="Time parts of the system on this machine.",
)
