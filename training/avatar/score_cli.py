"""``python scripts/score_avatar.py --avatar=RUN --data=DIR``."""

from pathlib import Path

import click

from torch_utils import cli
from torch_utils.errors import UserError


@cli.command()
@click.option("--avatar", "network", required=True, metavar="FILE|RUN", help="Avatar, or run folder (its newest)")
@click.option("--data", metavar="DIR|ZIP", help="Sequence with the splits train and test  [default: the run's]")
@click.option("--split", default="test", show_default=True, help="Frames to score")
@click.option("--outdir", type=click.Path(path_type=Path), help="Where scores.json and worst.png go  "
              "[default: beside the avatar]")
@click.option("--lpips-net", metavar="SPEC", help="LPIPS by lpips-alex[:FILES], lpips-vgg[:FILES] or a TorchScript "
              "file; see docs/perceptual.md  [default: no LPIPS]")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda|…", help="Where to compute")
def main(network, data, split, outdir, lpips_net, device):
    """Score an avatar on held-out frames, beside the nearest training frame and the mean training image.

    \b
    python scripts/score_avatar.py --avatar=training-runs/00000-avatar-tiny-sequence-128x128

    Prints a table and writes scores.json (all frames) and worst.png (the frames with the lowest PSNR).
    """
    import gghead
    from gghead.animation.drive import read_drive
    from gghead.animation.frames import Frames, read_sequence, split_or_all
    from gghead.checkpoints import latest_snapshot
    from gghead.cli.common import pick_device
    from gghead.perceptual import load_metric
    from training import run_folder
    from training.avatar.config import AvatarTrainConfig
    from training.avatar.score import score, table, write_report, write_worst

    device = pick_device(device)
    path = latest_snapshot(network) if Path(network).is_dir() else Path(network)
    avatar = gghead.load(path, device=device, kind="avatar")
    in_run = (path.parent / run_folder.OPTIONS).is_file()
    run = run_folder.read_options(path.parent, AvatarTrainConfig) if in_run else None
    if data is None and run is None:
        raise UserError(f"{network} lies in no run folder that names its sequence; name one with --data=DIR.")
    data, size = data or run.data, tuple(avatar.config.image_size)
    sequence = read_sequence(data, size, run.extras if run else ())
    test, train = (Frames(split_or_all(sequence, name)) for name in (split, "train"))
    if sequence.width != avatar.config.width:
        read_drive(data, avatar.config)  # says what differs
    lpips = None if lpips_net is None else load_metric(lpips_net, "--lpips-net", device)
    if lpips is not None:
        lpips.check_size(*size)
    means, records = score(avatar, test, train, lpips)
    outdir = outdir or path.parent
    outdir.mkdir(parents=True, exist_ok=True)
    header = {"avatar": path.name, "data": data, "split": split, "size": list(size), "background": "white",
              "gaussians": avatar.num, "lpips_net": lpips.name if lpips else None}
    write_report(outdir, header, means, records)
    write_worst(outdir / "worst.png", avatar, test, records)
    print(f"{len(records)} frames of '{split}' at {size[0]}x{size[1]} over white, {avatar.num} Gaussians")
    print(table(means))
    print(f"lpips: {lpips.name}" if lpips else "no LPIPS, because --lpips-net names no network")
    print(outdir / "scores.json")
