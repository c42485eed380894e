"""``python research/per_subject_fits.py --scores=RUN/scores.json``: see research/README.md."""

import sys
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout, from any folder

from gghead.torch_utils import cli
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.files import file_part
from gghead.torch_utils.progress import progress

_FITS = ("fit", "plain")


@cli.command(
    stopped="scores.json of --outdir holds what was fitted; give it as --scores to go on with it."
)
@click.option(
    "--scores",
    "source",
    metavar="FILE",
    type=click.Path(path_type=Path),
    required=True,
    help="scores.json of score_encoder.py, or of this program to go on: whose heads and views",
)
@click.option(
    "--kind",
    type=click.Choice(_FITS),
    default="fit",
    show_default=True,
    help="fit: smooth over the template, with masks; plain: as gsplat's trainer does it",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="Time for each fit",
)
@click.option("--steps", type=click.IntRange(min=1), help="So many steps instead of a time")
@click.option("--subjects", metavar="LIST", help="Fit these only  [default: all that were scored]")
@cli.outdir("Where scores.json and sheet-*.png go  [default: fits beside --scores]")
@click.option("--sheets", metavar="LIST", help="Subjects to draw a sheet of  [default: the first]")
@cli.device()
def main(source, kind, seconds, steps, subjects, outdir, sheets, device):
    """Fit Gaussians to the views that an encoder was scored with, a head at a time, and compare.

    \b
    python research/per_subject_fits.py --scores=RUN/scores.json --seconds=60

    The fit's start, the template in the colors of the views, is scored as well. Prints a table and
    how far the encoder lies above the fits on the heads that both have; writes scores.json with
    all scores, those of --scores included.
    """
    outdir = outdir or source.parent / "fits"
    cli.check_writable(outdir, "--outdir", folder=True)
    from dataclasses import replace

    from head_fit import BASELINES, fit_method, gain_lines, read_scores, template_method

    from gghead.cli.common import parse_names, pick_device
    from gghead.torch_utils.files import make_folder
    from gghead.training.encoder import score as scoring
    from gghead.training.encoder.data import read_captures

    device = pick_device(device)
    header, scores = read_scores(source)
    data, counts, targets = header["data"], header["views"], header["targets"]
    scored = tuple(dict.fromkeys(record["subject"] for record in scores.records))
    moments = list(dict.fromkeys(record["expression"] for record in scores.records))
    people = parse_names(subjects, scored, "--subjects") if subjects else scored
    drawn = parse_names(sheets, people, "--sheets") if sheets else people[:1]
    config = replace(BASELINES[kind], seconds=seconds, max_steps=steps)
    earlier = header.get("fits", {}).get(kind)
    settings = {"seconds": None if steps else seconds, "steps": steps}
    if earlier not in (None, settings):
        raise UserError(
            f"{source} has a {kind} with seconds={earlier['seconds']}, steps={earlier['steps']};"
            " give the same, or the scores.json of score_encoder.py."
        )
    header["fits"] = {**header.get("fits", {}), kind: settings}
    methods = {"template": template_method, kind: fit_method(config)}
    if scoring.are_gan_heads(data):
        _, model = scoring.load_encoder(header["network"], device)
        heads = scoring.gan_heads(model.generator, list(map(int, people)), header["resolution"])
    else:
        with progress(f"Reading {data}"):
            captures = read_captures(data).resize(header["resolution"])
        geometry = Path(header["geometry"]) if header["geometry"] else None
        heads = scoring.capture_heads(captures, people, moments, geometry, device)
    make_folder(outdir)
    pages = [scoring.ScoreSheet(person, moment) for person in drawn for moment in moments]

    def record_head(record, head, every, choice):
        bar.advance()
        for sheet in pages if record["method"] != "template" else ():
            sheet.add(record, head, every, choice)
        # an interrupted run keeps what it has
        scoring.write_scores(outdir / "scores.json", header, scores)

    total = sum(
        not scores.has(method, count, person, moment)
        for method in methods
        for count in counts
        for person in people
        for moment in moments
    )
    with progress("Fitting", total, "heads made") as bar:
        scoring.score(methods, heads, counts, targets=targets, scores=scores, seen=record_head)
    for sheet in pages:
        sheet.write(outdir / file_part(f"sheet-{sheet.subject}-{sheet.expression}.png"))
    print(scoring.table(scores))
    for line in gain_lines(scores):
        print(line)
    print(outdir / "scores.json")


if __name__ == "__main__":
    main()
