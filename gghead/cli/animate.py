"""Videos of an avatar that a sequence or a table of weights drives."""

from pathlib import Path

import click

from gghead.cli.common import pick_device
from gghead.sheets import beside, to_uint8
from torch_utils import cli
from torch_utils.errors import UserError

CAMERAS = ("tracked", "still", "turntable", "sweep", "spiral")


@cli.command()
@click.option("--avatar", "network", required=True, metavar="FILE|RUN", help="Avatar, or run folder (its newest)")
@click.option("--drive", required=True, metavar="DIR|ZIP|CSV",
              help="Tracked sequence of anyone, or a table: a row per frame, a column per coefficient")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="The video: .mp4, .webp or .gif")
@click.option("--split", metavar="NAME", help="Frames of the sequence to use, such as test  [default: all]")
@click.option("--frames", type=cli.IntRangeList(), metavar="LIST", help="Which of these frames: 0-99  [default: all]")
@click.option("--camera", type=click.Choice(CAMERAS),
              help="The sequence's own, the middle one of training, or a path  [default: tracked, still for tables]")
@click.option("--pitch", type=float, default=0.0, show_default=True, help="Pitch of turntable and sweep, in radians")
@click.option("--beside", "shown", type=cli.BOOL, help="Show the sequence's pictures at the left  [default: 1]")
@click.option("--clamp", type=cli.BOOL, default=True, show_default=True,
              help="Keep coefficients in the range seen in training")
@click.option("--mapping", metavar="NPY|CSV", help="Matrix from the drive's coefficients to the avatar's")
@click.option("--size", type=click.IntRange(min=8), help="Width in pixels  [default: that of training]")
@click.option("--fps", type=float, help="Frames per second  [default: the sequence's, else 25]")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda|…", help="Where to compute")
def main(network, drive, output, split, frames, camera, pitch, shown, clamp, mapping, size, fps, device):
    """Let an avatar do what a sequence or a table says.

    \b
    python scripts/animate.py --avatar=RUN --drive=sequence --split=test --output=out/test.mp4
    python scripts/animate.py --avatar=RUN --drive=weights.csv --camera=sweep --output=out/sweep.webp
    """
    import gghead
    from gghead.animation.drive import read_drive
    from gghead.animation.show import camera_path, pictures
    from gghead.video import save_video
    from torch_utils.memory import keep_freed_memory

    device = pick_device(device)
    if device.type == "cpu":
        keep_freed_memory()
    avatar = gghead.load(network, device=device, kind="avatar")
    width, height = avatar.config.image_size
    extent = (width, height) if size is None else (size, max(round(size * height / width), 1))
    source = read_drive(drive, avatar.config, split=split, mapping=mapping, size=extent)
    chosen = list(range(len(source.expression))) if frames is None else frames
    if max(chosen) >= len(source.expression):
        raise UserError(f"--frames asks for frame {max(chosen)}, but {drive} has {len(source.expression)} frames.")
    camera = camera or ("still" if source.frames is None else "tracked")
    if source.frames is None and (camera == "tracked" or shown):
        raise UserError(f"{drive} is a table and has neither cameras nor pictures; leave out --camera=tracked and "
                        "--beside.")
    cameras = source.frames.cameras[chosen] if camera == "tracked" else camera_path(avatar, camera, len(chosen), pitch)
    drawn = []
    for index, picture in zip(chosen, pictures(avatar, source.expression[chosen], cameras, extent, clamp=clamp),
                              strict=True):
        row = [to_uint8(picture)]
        if source.frames is not None and shown is not False:
            row.insert(0, to_uint8(source.frames.over(index)))
        drawn.append(beside(row))
    save_video(drawn, output, fps or source.fps or 25.0)
    print(output)
