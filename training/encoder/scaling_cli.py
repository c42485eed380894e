"""``python scripts/scaling_curves.py --data=mvheads --steps=1500``."""

from pathlib import Path

import click

from torch_utils import cli


@cli.command()
@click.option("--data", metavar="DIR|ZIP", required=True, help="Multi-view captures")
@click.option("--preset", type=click.Choice(["tiny", "small"]), default="tiny", show_default=True,
              help="What every encoder is but for the axis")
@click.option("--holdout", metavar="LIST", default="108-119", show_default=True, help="People that none is trained on")
@click.option("--subjects", metavar="LIST", help="Of these, whom to score on  [default: all]")
@click.option("--identities", type=cli.IntRangeList(), default="15,30,60,108", show_default=True, help="First axis")
@click.option("--cameras", type=cli.IntRangeList(), default="3,5,10,20", show_default=True, help="Second axis")
@click.option("--widths", type=cli.IntRangeList(), default="32,64,128,256", show_default=True, help="Third axis")
@click.option("--axes", default="identities,cameras,width", show_default=True, help="Which of them")
@click.option("--views", "counts", type=cli.IntRangeList(), default="1,4", show_default=True,
              help="Input views to score with (list)")
@click.option("--steps", type=click.IntRange(min=1), default=1500, show_default=True, help="Of every training")
@click.option("--batch", type=click.IntRange(min=1), help="Heads per step  [default: the preset's]")
@click.option("--precision", type=click.Choice(["bf16", "fp32"]), help="[default: bf16 where it is fast]")
@click.option("--outdir", type=click.Path(path_type=Path), default="training-runs/scaling", show_default=True,
              help="Runs and scaling.json; what is there already is not trained again")
@click.option("--plot", type=click.Path(path_type=Path), help="Where the picture goes  [default: OUTDIR/scaling.png]")
@click.option("--seed", type=int, default=0, show_default=True, help="Of every training")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda|…", help="Where to compute")
def main(data, preset, holdout, subjects, identities, cameras, widths, axes, counts, steps, batch, precision, outdir,
         plot, seed, device):
    """Train small encoders along three axes for equally many steps, score them on held-out people, draw the curves.

    \b
    python scripts/scaling_curves.py --data=../shared/data/mvheads --plot=docs/images/scaling_curves.png
    """
    from gghead.cli.common import pick_device
    from torch_utils import config as config_json
    from training.cli import bf16_reason
    from training.encoder.config import PRESETS
    from training.encoder.data import read_captures
    from training.encoder.scaling import ScalingPlan, config_at, draw, measure
    from training.encoder.score_cli import listed

    device = pick_device(device)
    names = read_captures(data).subjects
    held_out = listed(holdout, names, "--holdout")
    chosen = listed(subjects, held_out, "--subjects") if subjects else held_out
    stages = [{"batch": batch} if batch else {} for _ in PRESETS[preset].stages]
    stages = [{**config_json.to_dict(stage), **change} for stage, change in zip(PRESETS[preset].stages, stages,
                                                                                 strict=True)]
    config = config_json.replace(PRESETS[preset], {
        "data": {"path": str(data), "holdout": list(held_out)}, "steps": steps, "stages": stages, "seed": seed,
        "precision": precision or ("bf16" if bf16_reason(device)[0] else "fp32")})
    values = {"identities": tuple(identities), "cameras": tuple(cameras), "width": tuple(widths)}
    wanted = axes.split(",")
    for axis in wanted:
        config_at(config, axis, values[axis][0] if axis in values else 1)  # says which axes there are
    plan = ScalingPlan({axis: values[axis] for axis in wanted}, chosen, tuple(counts))
    points = measure(config, plan, outdir, device)
    plot = plot or outdir / "scaling.png"
    draw(points, plot)
    print(plot)
