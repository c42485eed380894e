"""``python research/scaling_curves.py --data=CAPTURES``: see research/README.md."""

import sys
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout, from any folder

from results import check_chart

from gghead.torch_utils import cli
from gghead.torch_utils.progress import progress


@cli.command(
    stopped="Everything is kept; the same command goes on, also in the middle of a training."
)
@click.option("--data", metavar="DIR|ZIP", required=True, help="Multi-view captures")
@click.option(
    "--preset",
    type=click.Choice(["quick", "tiny", "small"]),
    default="quick",
    show_default=True,
    help="What every encoder is but for the axis; quick: half of tiny's resolutions",
)
@click.option(
    "--holdout",
    metavar="LIST",
    default="108-119",
    show_default=True,
    help="People that none is trained on",
)
@click.option(
    "--seen",
    metavar="LIST",
    help=(
        "People to score on that all are trained on  [default: the first 12, or "
        "as many as the smallest of --identities]"
    ),
)
@click.option(
    "--identities",
    type=cli.IntRangeList(),
    default="15,30,60,108",
    show_default=True,
    help="First axis",
)
@click.option(
    "--cameras", type=cli.IntRangeList(), default="5,10,20", show_default=True, help="Second axis"
)
@click.option(
    "--widths",
    type=cli.IntRangeList(),
    default="32,64,128,256",
    show_default=True,
    help="Third axis",
)
@click.option(
    "--axes",
    default="identities,width,guided",
    show_default=True,
    help="Which of identities, cameras, width, and guided (with and without it)",
)
@click.option(
    "--views",
    "counts",
    type=cli.IntRangeList(),
    default="1,2,4,8",
    show_default=True,
    help="Input views to score with (list)",
)
@click.option(
    "--steps", type=click.IntRange(min=1), default=600, show_default=True, help="Of every training"
)
@click.option("--batch", type=click.IntRange(min=1), help="Heads per step  [default: the preset's]")
@click.option(
    "--precision",
    type=click.Choice(["bf16", "tf32", "fp32"]),
    help="Of convolutions and attention; tf32: on NVIDIA GPUs  [default: what is faster, timed]",
)
@cli.outdir(
    "Runs and scaling.json; what is there already is not trained again",
    default="training-runs/scaling",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    help="Where the chart goes  [default: OUTDIR/scaling.png]",
)
@cli.seed("Of every training")
@cli.device()
def main(
    data,
    preset,
    holdout,
    seen,
    identities,
    cameras,
    widths,
    axes,
    counts,
    steps,
    batch,
    precision,
    outdir,
    plot,
    seed,
    device,
):
    """Train small encoders along some axes for equally many steps, score them on unseen and on
    training people, draw.

    \b
    python research/scaling_curves.py --data=CAPTURES --plot=scaling.png

    Ctrl-C keeps everything: the same command goes on, also in the middle of a training.
    """
    plot = plot or outdir / "scaling.png"
    cli.check_writable(outdir, "--outdir", folder=True)
    cli.check_writable(plot, "--plot")
    check_chart(plot, "--plot")
    from scaling import BASES, ScalingPlan, config_at, draw, measure, table

    from gghead.cli.common import parse_names, pick_device
    from gghead.torch_utils import config as config_json
    from gghead.training.encoder.data import read_captures
    from gghead.training.run.precision import check_device, choose, encoder_layers

    device = pick_device(device)
    with progress(f"Reading {data}"):
        names = read_captures(data).subjects
    held_out = parse_names(holdout, names, "--holdout")
    trained = tuple(name for name in names if name not in held_out)
    base = BASES[preset]
    stages = [
        {**stage, **({"batch": batch} if batch else {})}
        for stage in config_json.to_dict(base.stages)
    ]
    config = config_json.replace(
        base,
        {
            "data": {"path": str(data), "holdout": list(held_out)},
            "steps": steps,
            "stages": stages,
            "seed": seed,
        },
    )
    check_device(precision, device)
    stage = config.stages[0]
    config = config_json.replace(
        config,
        {
            "precision": (
                precision
                or choose(device, encoder_layers(config.model, stage.batch * max(stage.views)))[0]
            )
        },
    )
    values = {
        "identities": tuple(identities),
        "cameras": tuple(cameras),
        "width": tuple(widths),
        "guided": (0, 1),
    }
    wanted = axes.split(",")
    for axis in wanted:
        # says which axes there are
        config_at(config, axis, values[axis][0] if axis in values else 1)
    least = trained[: min(identities)] if "identities" in wanted else trained
    chosen = parse_names(seen, least, "--seen") if seen else least[:12]
    plan = ScalingPlan({axis: values[axis] for axis in wanted}, held_out, chosen, tuple(counts))
    points = measure(config, plan, outdir, device)
    draw(points, plot)
    print(table(points))
    print(plot)


if __name__ == "__main__":
    main()
