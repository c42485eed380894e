"""A tracked sequence of one synthetic person, which an avatar is trained on."""

import time
from pathlib import Path

import click

from gghead.torch_utils import cli
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.progress import progress


@cli.command(stopped="Nothing was written; the same command starts again.")
@cli.dest("The zip to write")
@click.option(
    "--frames", type=click.IntRange(min=1), help="How many  [default: 600, or all of the drive's]"
)
@click.option(
    "--test-frames",
    type=click.IntRange(min=0),
    help="Of them, the last ones are the split test  [default: a quarter, all of a drive's]",
)
@click.option(
    "--resolution",
    type=cli.Resolution(square=True, smallest=8, largest=1024),
    default="128",
    show_default=True,
    help="Of the images",
)
@cli.seed("Another seed, another person")
@cli.fps(default=25.0)
@click.option(
    "--drive", metavar="DIR|ZIP", help="Tracked sequence whose expressions and cameras are taken"
)
@click.option("--split", metavar="NAME", help="Frames of the drive to take  [default: all]")
@cli.workers("Processes")
@cli.overwrite("a zip")
def main(
    dest: Path,
    frames: int | None,
    test_frames: int | None,
    resolution: int,
    seed: int,
    fps: float,
    drive: str | None,
    split: str | None,
    workers: int,
    overwrite: bool,
) -> None:
    """Make a tracked sequence of one synthetic person, as avatars are made of.

    The person talks, smiles, blinks and turns.

    \b
    python datasets/synthetic_sequence.py --dest=person.zip --frames=600 --resolution=128 --seed=3
    python datasets/synthetic_sequence.py --dest=truth.zip --seed=3 --drive=SEQUENCE --split=test \\
        --resolution=128

    The second form lets the same person do what somebody else did, seen by the same cameras: the
    truth for a transfer.
    """
    if drive is None and split is not None:
        raise UserError(
            "--split chooses frames of --drive; leave it out, or name a sequence with --drive."
        )
    cli.check_new(dest, overwrite)
    from gghead.animation.drive import read_drive
    from gghead.data.synthetic.sequence import Scenes, sample_scenes, write
    from gghead.data.zip_writer import ZipWriter
    from gghead.template import load_template
    from gghead.template.sliders import Sliders

    begin = time.perf_counter()
    if drive is None:
        scenes = sample_scenes(frames or 600, resolution, seed, fps)
    else:
        names = tuple(load_template("head").blendshapes)
        source = read_drive(drive, Sliders(names, owner="the synthetic head"), split=split)
        if source.frames is None:
            raise UserError(f"{drive} is a table and has no cameras; name a tracked sequence.")
        if source.left_out:
            click.echo(f"No shape for {', '.join(source.left_out)}: left out")
        taken = slice(frames)
        scenes = Scenes(
            resolution,
            seed,
            names,
            source.expression[taken].double().numpy(),
            source.frames.cameras[taken].label().double().numpy(),
        )
        fps = source.fps or fps
    count = len(scenes.weights)
    test = test_frames if test_frames is not None else (count // 4 if drive is None else count)

    with ZipWriter(dest) as writer, progress("Drawing", count, "frames") as bar:
        write(writer, scenes, fps, test, workers, lambda index: bar.update(index + 1))
    click.echo(
        f"{count} frames at {resolution}x{resolution} in {time.perf_counter() - begin:.0f} s:"
        f" {dest}"
    )
