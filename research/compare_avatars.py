"""``python research/compare_avatars.py --data=SEQUENCE``: see research/README.md."""

import sys
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout, from any folder

from results import check_chart

from gghead.torch_utils import cli
from gghead.torch_utils import config as config_json
from gghead.torch_utils.errors import UserError
from gghead.training.avatar.config import PRESETS

_PAPER = "full,no-blending,geometry,everything,no-mlp"


@cli.command(
    stopped="Avatars that are finished are kept; the same command goes on with the others."
)
@click.option(
    "--data",
    required=True,
    metavar="DIR|ZIP",
    help="Tracked sequence with the splits train and test",
)
@click.option(
    "--variants",
    default=_PAPER,
    show_default=True,
    metavar="LIST",
    help=(
        "full, ablations of train_avatar.py, or options: points=1000, feature-dim=8, sh-degree=0,"
        " sh-every=N, max-gaussians=N, init-head=FILE, motion=blendshapes, motion-rate=X,"
        " eyeballs=X, mirrored-grid=N, perceptual=WEIGHT; joined by +. The others are held against"
        " the first"
    ),
)
@click.option(
    "--seeds", type=cli.IntRangeList(), default="0", show_default=True, help="Trainings of each"
)
@click.option(
    "--preset",
    type=click.Choice(["tiny", "headgas"]),
    default="tiny",
    show_default=True,
    help="What every avatar is but for the variant",
)
@click.option("--resolution", type=cli.Resolution(), help="Of the images  [default: the preset's]")
@click.option(
    "--steps",
    "iterations",
    type=click.IntRange(min=1),
    default=3000,
    show_default=True,
    help="Of every training",
)
@click.option(
    "--at",
    type=cli.IntRangeList(),
    default=(),
    metavar="LIST",
    help="Iterations to score at besides the last, such as 0,250,500,1000  [default: none]",
)
@click.option(
    "--perceptual-net",
    metavar="SPEC",
    help=(
        "Adds the perceptual loss to every variant but no-perceptual, "
        "which is only compared with it; see docs/perceptual.md  [default: off]"
    ),
)
@click.option(
    "--perceptual-from",
    type=click.IntRange(min=0),
    help="First iteration with it  [default: a fifth of them, as in the paper]",
)
@click.option(
    "--score-net",
    metavar="SPEC",
    help=(
        "Column 'perceptual' of the table: any distance of docs/perceptual.md, but another one than"
        " is trained with, such as efficientnet-lite2  [default: none]"
    ),
)
@cli.outdir(
    "Avatars and variants.json; what is there already is not trained again",
    default="training-runs/variants",
)
@click.option(
    "--plot", type=click.Path(path_type=Path), help="Chart of PSNR against iterations (with --at)"
)
@click.option(
    "--labels", metavar="LIST", help="Names of the variants in the images  [default: as they are]"
)
@click.option("--title", default="held-out frames", show_default=True, help="Of the chart")
@click.option(
    "--closeups",
    "sheet",
    type=click.Path(path_type=Path),
    help="Image of the avatars beside the truth (.png), those of the first seed",
)
@click.option(
    "--region",
    type=click.Choice(["mouth", "eyes"]),
    default="mouth",
    show_default=True,
    help="What it shows",
)
@click.option(
    "--frames",
    type=cli.IntRangeList(),
    metavar="LIST",
    help="Which of the held-out frames  [default: six]",
)
@cli.device()
def main(
    data,
    variants,
    seeds,
    preset,
    resolution,
    iterations,
    at,
    perceptual_net,
    perceptual_from,
    score_net,
    outdir,
    plot,
    labels,
    title,
    sheet,
    region,
    frames,
    device,
):
    """Train avatars that differ in one thing, score them on held-out frames, print a table of the
    differences.

    \b
    python research/compare_avatars.py --data=SEQUENCE --seeds=0,1
    python research/compare_avatars.py --data=SEQUENCE --variants=full,points=1000 \\
        --at=0,500,1000 --plot=points.png
    """
    names = tuple(variants.split(","))
    labels = labels.split(",") if labels else names
    if len(labels) != len(names):
        raise UserError(f"{len(labels)} labels were given for {len(names)} variants.")
    if len(set(names)) < len(names):
        raise UserError(f"--variants={variants} names a variant twice.")
    weighed = [name for name in names if "perceptual" in name]
    if weighed and perceptual_net is None:
        raise UserError(
            f"The variant {weighed[0]} differs from full only with a network; name one with "
            "--perceptual-net (docs/perceptual.md)."
        )
    cli.check_writable(outdir, "--outdir", folder=True)
    for path, option in ((plot, "--plot"), (sheet, "--closeups")):
        if path is not None:
            cli.check_writable(path, option)
    if plot is not None:
        check_chart(plot, "--plot")
    from variant_tables import closeup_sheet, draw, table
    from variants import VariantPlan, measure

    from gghead.cli.common import pick_device
    from gghead.perceptual import load_distance
    from gghead.torch_utils.machine import keep_freed_memory

    device = pick_device(device)
    if device.type == "cpu":
        keep_freed_memory()
    # the paper's, unless a variant's
    changes = {"data": str(data), "iterations": iterations, "motion": "features"}
    if resolution:
        changes["resolution"] = list(resolution)
    if perceptual_net:
        start = iterations // 5 if perceptual_from is None else perceptual_from
        changes["loss"] = {"perceptual_net": perceptual_net, "perceptual_from": start}
    plan = VariantPlan(names, tuple(seeds), tuple(at))
    config = config_json.replace(PRESETS[preset], changes)
    network = None if score_net is None else load_distance(score_net, "--score-net", device)
    rows = measure(config, plan, outdir, device, network=network)
    print(table(rows, names))
    if network is not None:
        print(f"perceptual: {network.name}")
    if plot is not None:
        draw(rows, names, plot, labels, title)
        print(plot)
    if sheet is not None:
        closeup_sheet(config, plan, outdir, sheet, region, frames, labels)
        print(sheet)


if __name__ == "__main__":
    main()
