"""``python scripts/score_expression.py --network=RUN --data=captures.zip``."""

from pathlib import Path

import click

from gghead.cli.common import reconstructor_option, subjects_option, view_resolution_option
from gghead.torch_utils import cli
from gghead.torch_utils.progress import progress


@cli.command(renamed={"--size": "--resolution"})
@reconstructor_option()
@click.option(
    "--data",
    required=True,
    metavar="DIR|ZIP",
    help="Multi-view captures with expression coefficients",
)
@subjects_option("Who is judged: those held out in training")
@click.option("--motion", metavar="FILE|RUN", help="Expression transformer that is compared too")
@click.option(
    "--views",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Cameras that the neutral head is encoded from; the others are compared with",
)
@view_resolution_option()
@cli.outdir("Where scores.json and sheet.png go", default="out/expression")
@cli.device()
def main(
    network: str,
    data: str,
    subjects: str | None,
    motion: str | None,
    views: int,
    resolution: int | None,
    outdir: Path,
    device: str,
) -> None:
    """Compare ways of animating with captured expressions.

    They are neutral as it is, blendshapes and transformer.

    \b
    python scripts/score_expression.py --network=RUN --data=CAPTURES --subjects=108-119 \\
        --motion=RUN2
    """
    cli.check_writable(outdir, "--outdir", folder=True)
    import gghead
    from gghead.cli.common import find_network, parse_names, pick_device
    from gghead.torch_utils.files import make_folder
    from gghead.training.encoder.data import read_captures
    from gghead.training.expression.score import means, score, table, write_report

    chosen = pick_device(device)
    model = gghead.load(find_network(network, "reconstructor"), chosen, kind="reconstructor")
    way = None if motion is None else gghead.load(motion, chosen, kind="expression")
    with progress(f"Reading {data}"):
        captures = read_captures(data)
    if subjects is not None:
        people = parse_names(subjects, captures.subjects, "--subjects")
        captures = captures.select(subjects=people)
    make_folder(outdir)
    trials = score(captures, model, way, views, resolution)
    write_report(
        outdir,
        {"network": str(network), "data": str(data), "motion": motion, "views": views},
        trials,
    )
    print(
        f"{len(trials)} expressions, {views} input views; PSNR in dB inside the masks (mouth, eyes:"
        " in boxes around them), better: share of expressions that are closer than the neutral"
        " head"
    )
    print(table(means(trials)))
    print(outdir / "scores.json")
    print(outdir / "sheet.png")
