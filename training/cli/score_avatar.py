"""``python scripts/score_avatar.py --avatar=RUN --data=DIR``."""

from pathlib import Path

import click

from gghead.cli.common import avatar_option, lpips_option
from gghead.torch_utils import cli


@cli.command()
@avatar_option()
@click.option(
    "--data",
    metavar="DIR|ZIP",
    help="Sequence with the split, and train for the baselines  [default: the run's]",
)
@click.option("--split", default="test", show_default=True, help="Frames to score")
@cli.outdir("Where scores.json and worst.png go  [default: beside the avatar]")
@lpips_option("Column 'lpips' by")
@click.option(
    "--score-net",
    metavar="SPEC",
    help=(
        "Column 'perceptual': any distance of docs/perceptual.md, such as "
        "efficientnet-lite2; another one than the avatar was trained with  [default: none]"
    ),
)
@click.option(
    "--video",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Also a video of truth, avatar and error: .mp4, .webp or .gif",
)
@cli.device()
def main(
    network: str,
    data: str | None,
    split: str,
    outdir: Path | None,
    lpips_net: str | None,
    score_net: str | None,
    video: Path | None,
    device: str,
) -> None:
    """Score an avatar on held-out frames.

    The nearest training frame and the mean training image stand beside it.

    \b
    python scripts/score_avatar.py --avatar=training-runs/00000-avatar-tiny-sequence-128x128

    Prints a table and writes scores.json (all frames) and worst.png (the frames with the lowest
    PSNR).
    """
    if outdir is not None:
        cli.check_writable(outdir, "--outdir", folder=True)
    if video is not None:
        cli.check_writable(video, "--video")
    from gghead.animation.frames import Frames, split_or_all
    from gghead.cli.common import find_network, pick_device
    from gghead.perceptual import load_distance, load_metric
    from gghead.torch_utils.files import make_folder
    from gghead.training.avatar.data import open_avatar
    from gghead.training.avatar.score import score, table, write_report, write_video, write_worst
    from gghead.video import check_writable

    if video is not None:
        check_writable(video)
    chosen = pick_device(device)
    source = open_avatar(find_network(network, "avatar", "--avatar"), data, chosen)
    outdir = make_folder(outdir or source.path.parent)
    avatar, size = source.avatar, tuple(source.avatar.config.image_size)
    test = Frames(split_or_all(source.sequence, split))
    has_train = any(
        source.sequence.split_of(index) == "train" for index in range(len(source.sequence))
    )
    train = Frames(split_or_all(source.sequence, "train")) if has_train else None
    networks = {}
    if lpips_net is not None:
        networks["lpips"] = load_metric(lpips_net, "--lpips-net", chosen)
    if score_net is not None:
        networks["perceptual"] = load_distance(score_net, "--score-net", chosen)
    for measure in networks.values():
        measure.check_size(*size)
    means, records = score(avatar, test, train, networks)
    header = {
        "avatar": source.path.name,
        "data": source.data,
        "split": split,
        "size": list(size),
        "background": "white",
        "gaussians": avatar.num,
        "lpips_net": None,
        **{f"{name}_net": measure.name for name, measure in networks.items()},
    }
    write_report(outdir, header, means, records)
    write_worst(outdir / "worst.png", avatar, test, records)
    print(
        f"{len(records)} frames of '{split}' at {size[0]}x{size[1]} over white, {avatar.num}"
        " Gaussians"
    )
    print(table(means))
    if lpips_net is None:
        print("no LPIPS, because --lpips-net names no network")
    for name, measure in networks.items():
        print(f"{name}: {measure.name}")
    print(outdir / "scores.json")
    if video is not None:
        write_video(video, avatar, test)
        print(video)
