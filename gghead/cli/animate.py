"""Videos of an avatar or of generated heads that a sequence, a table or single weights drive."""

import math
from pathlib import Path

import click
import numpy as np

from gghead.cli.common import default_network, pick_device
from gghead.sheets import beside, to_uint8, write_png
from gghead.torch_utils import cli
from gghead.torch_utils.errors import UserError
from gghead.video import check_writable, save_video

CAMERAS = ("tracked", "still", "turntable", "sweep", "spiral")
_RAMP = 50  # frames of a video of single weights: from neutral to them and back
_PICTURES = 12  # most frames of a .png


@cli.command()
@click.option("--avatar", metavar="FILE|RUN", help="Avatar, or run folder (its newest)")
@click.option("--network", metavar="FILE|RUN|demo",
              help="Instead of an avatar: network of the heads  [default: newest in training-runs, else demo]")
@click.option("--seeds", type=cli.IntRangeList(), default=(), help="Heads of these seeds, such as 0,1,4-6")
@click.option("--latents", metavar="FILE[,FILE…]|DIR", help="Heads of latent files, as scripts/invert.py writes them")
@click.option("--trunc", type=float, default=0.7, show_default=True, help="Truncation psi of the seeds")
@click.option("--motion", default="blendshapes", show_default=True, metavar="blendshapes|FILE|RUN",
              help="How heads move: the template's blendshapes, or a run of scripts/train_expression.py")
@click.option("--drive", metavar="DIR|ZIP|CSV",
              help="Tracked sequence of anyone, or a table: a row per frame, a column per coefficient")
@click.option("--weights", metavar="NAME=X,…", help="Instead of --drive: jawOpen=1,eyeBlinkLeft=0.5")
@click.option("--output", type=click.Path(path_type=Path), required=True,
              help="The video: .mp4, .webp or .gif; or .png: frames side by side (of heads, neutral first)")
@click.option("--split", metavar="NAME", help="Frames of the sequence to use, such as test  [default: all]")
@click.option("--frames", type=cli.IntRangeList(), metavar="LIST", help="Which of these frames: 0-99  [default: all]")
@click.option("--camera", type=click.Choice(CAMERAS),
              help="The sequence's own, the middle one, or a path  [default: tracked, still for tables and heads]")
@click.option("--pitch", type=float, default=0.0, show_default=True, help="Pitch of turntable and sweep, in radians")
@click.option("--beside", "shown", type=cli.BOOL, help="Show the sequence's pictures at the left  [default: 1]")
@click.option("--clamp", type=cli.BOOL, default=True, show_default=True,
              help="Keep an avatar's coefficients in the range seen in training (what moves may go twice as far)")
@click.option("--mapping", metavar="NPY|CSV|names", help="Matrix from the drive's coefficients to those that are "
              "driven; names: by their names in ARKit or ICT-FaceKit")
@click.option("--size", type=click.IntRange(min=8), help="Width in pixels  [default: that of training]")
@click.option("--fps", type=click.FloatRange(min=0, min_open=True),
              help="Frames per second  [default: the sequence's, else 25]")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda|…", help="Where to compute")
def main(avatar, network, seeds, latents, **options):
    """Let an avatar or heads do what a sequence, a table or single weights say.

    \b
    python scripts/animate.py --avatar=RUN --drive=sequence --split=test --output=out/test.mp4
    python scripts/animate.py --network=demo --seeds=0-3 --weights=jawOpen=1,eyeBlinkLeft=1 --output=out/wink.webp
    """
    heads = [name for name, value in (("network", network), ("seeds", seeds), ("latents", latents)) if value]
    if avatar is not None and heads:
        raise UserError(f"--avatar and --{heads[0]} exclude each other: an avatar is one person already.")
    if avatar is None and not seeds and latents is None:
        raise UserError("Nobody to animate: give --avatar=RUN, or heads by --seeds=0-3 or --latents=FILE.")
    if (options["drive"] is None) == (options["weights"] is None):
        raise UserError("Give either --drive=SEQUENCE|TABLE.csv or --weights=jawOpen=1,eyeBlinkLeft=0.5.")
    for name in ("split", "mapping"):
        if options["weights"] is not None and options[name] is not None:
            raise UserError(f"--{name} belongs to what drives the heads; leave it out with --weights.")
    if avatar is not None:
        _animate_avatar(avatar, **options)
    else:
        _animate_heads(network or default_network(), seeds, latents, **options)
    print(options["output"])


def _animate_avatar(network, drive, weights, motion, output, split, frames, camera, pitch, shown, clamp, mapping, size,
                    fps, device, trunc):
    import gghead
    from gghead.animation.drive import read_drive
    from gghead.animation.show import camera_path, pictures
    from gghead.torch_utils.memory import keep_freed_memory

    if weights is not None:
        raise UserError("--weights are for heads; drive an avatar by --drive with a table of its own coefficients.")
    if motion != "blendshapes":
        raise UserError("--motion is for heads; an avatar moves as it has learnt to.")
    device = pick_device(device)
    if device.type == "cpu":
        keep_freed_memory()
    avatar = gghead.load(network, device=device, kind="avatar")
    width, height = avatar.config.image_size
    extent = (width, height) if size is None else (size, max(round(size * height / width), 1))
    source = read_drive(drive, avatar.config, split=split, mapping=mapping, size=extent)
    if source.left_out:
        print(f"The avatar has no {', '.join(source.left_out)}: left out")
    chosen, camera = _choose(drive, source, frames, camera, shown, "tracked")
    cameras = source.frames.cameras[chosen] if camera == "tracked" else camera_path(avatar, camera, len(chosen), pitch)
    still = _is_still(output, chosen)
    drawn = []
    for index, picture in zip(chosen, pictures(avatar, source.expression[chosen], cameras, extent, clamp=clamp),
                              strict=True):
        drawn.append([*_filmed(source, index, shown), to_uint8(picture)])
    if still:  # what was filmed above the avatar
        write_png(output, np.concatenate([beside(row) for row in zip(*drawn, strict=True)]))
        return
    save_video([beside(frame) for frame in drawn], output, fps or source.fps or 25.0)


def _animate_heads(network, seeds, latents, drive, weights, motion, output, split, frames, camera, pitch, shown, clamp,
                   mapping, size, fps, device, trunc):
    import torch

    import gghead
    from gghead.animation.animate import BLENDSHAPES, sliders
    from gghead.animation.drive import Drive, read_drive
    from gghead.animation.show import head_pictures, path_around
    from gghead.cameras import Cameras
    from gghead.cli.gen_samples import seed_latents
    from gghead.inversion import latents as latent_files

    model = gghead.load(network, device=pick_device(device), kind="generator")
    way = BLENDSHAPES if motion == BLENDSHAPES else gghead.load(motion, device=model.device, kind="expression")
    wanted, size, still = sliders(model, way), size or model.config.image_size, output.suffix.lower() == ".png"
    if drive is not None:
        source = read_drive(drive, wanted, split=split, mapping=mapping, size=(size, size))
    else:
        table, left_out = wanted.table(weights)
        ramp = torch.ones(1) if still else (1 - torch.cos(torch.arange(_RAMP) * (2 * math.pi / _RAMP))) / 2
        source = Drive(ramp[:, None] * table, None, None, left_out)
    if source.left_out:
        print(f"No shape for {', '.join(source.left_out)}: left out")
    chosen, camera = _choose(drive or "--weights", source, frames, camera, shown, "still")
    _is_still(output, chosen)
    table = source.expression[chosen]
    cameras = (source.frames.cameras[chosen] if camera == "tracked"
               else path_around(Cameras.orbit(0.0), camera, len(chosen), pitch))
    if still:
        table = torch.cat([torch.zeros_like(table[:1]), table])
        cameras = cameras[[0, *range(len(chosen))]]
    files = [] if latents is None else [latent_files.load(file, model) for file in latent_files.find(latents)]
    heads = [*seed_latents(model, seeds, trunc), *files]
    rows = [[to_uint8(picture) for picture in head_pictures(model, head, table, cameras, size, motion=way)]
            for head in heads]
    if still:
        write_png(output, np.concatenate([beside(row) for row in rows]))
        return
    save_video([beside([*_filmed(source, chosen[index], shown), *(row[index] for row in rows)])
                for index in range(len(chosen))], output, fps or source.fps or 25.0)


def _choose(drive, source, frames, camera, shown, default):
    """The frames that are drawn, and the cameras' name."""
    chosen = list(range(len(source.expression))) if frames is None else frames
    if max(chosen) >= len(source.expression):
        raise UserError(f"--frames asks for frame {max(chosen)}, but {drive} has {len(source.expression)} frames.")
    camera = camera or ("still" if source.frames is None else default)
    if source.frames is None and (camera == "tracked" or shown):
        raise UserError(f"{drive} is a table and has neither cameras nor pictures; leave out --camera=tracked and "
                        "--beside.")
    return chosen, camera


def _is_still(output, chosen):
    """Whether a picture is wanted instead of a video."""
    still = output.suffix.lower() == ".png"
    if still and len(chosen) > _PICTURES:
        raise UserError(f"{output} would show {len(chosen)} frames; choose up to {_PICTURES} of them with --frames.")
    if not still:
        check_writable(output)
    return still


def _filmed(source, index, shown):
    """What was filmed, where it is to be shown."""
    return [] if source.frames is None or shown is False else [to_uint8(source.frames.over(index))]
