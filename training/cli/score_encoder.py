"""``python scripts/score_encoder.py --network=RUN --data=CAPTURES``."""

import itertools
from dataclasses import replace
from pathlib import Path

import click

from gghead.torch_utils import cli
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.files import file_part
from gghead.torch_utils.progress import progress


@cli.command(stopped="scores.json holds what was scored so far.")
@click.option("--network", metavar="FILE|RUN", help="A reconstructor, or run folder (its newest)")
@click.option(
    "--data",
    metavar="DIR|ZIP|gan[:SEEDS]",
    required=True,
    help="Multi-view captures; gan or gan:0-15: heads of the network's own generator",
)
@click.option(
    "--subjects",
    metavar="LIST",
    default="108-119",
    show_default=True,
    help="People that it was not shown",
)
@click.option(
    "--expressions", metavar="LIST", help="Names of expressions  [default: all of each subject]"
)
@click.option(
    "--views",
    "counts",
    type=cli.IntRangeList(),
    default="1,2,4,8,16",
    show_default=True,
    help="Numbers of input views (list)",
)
@click.option(
    "--targets",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="Views in front that are held out of every number of inputs",
)
@click.option(
    "--resolution",
    type=click.IntRange(min=16),
    default=128,
    show_default=True,
    help="Pixels a side",
)
@click.option(
    "--geometry", metavar="FILE|none", help="True meshes  [default: geometry.npz beside the data]"
)
@click.option(
    "--refine",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Also score the encoder followed by so many steps on the latent",
)
@click.option(
    "--baseline-seconds",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Also fit Gaussians to the same views for so long each; 0 = not",
)
@click.option(
    "--baseline-steps", type=click.IntRange(min=1), help="So many steps instead of a time"
)
@click.option(
    "--baseline-kind",
    type=click.Choice(["fit", "plain"]),
    default="fit",
    show_default=True,
    help="fit: smooth over the template, with masks; plain: as gsplat's trainer does it",
)
@click.option("--baseline-subjects", metavar="LIST", help="Fit these only  [default: --subjects]")
@click.option(
    "--baseline",
    metavar="FILES",
    help="Take the fits' scores from earlier scores.json instead (list)",
)
@cli.outdir("Where scores.json and sheet-*.png go  [default: beside the network, else out]")
@click.option("--sheets", metavar="LIST", help="Subjects to draw a sheet of  [default: the first]")
@cli.device()
def main(
    network,
    data,
    subjects,
    expressions,
    counts,
    targets,
    resolution,
    geometry,
    refine,
    baseline_seconds,
    baseline_steps,
    baseline_kind,
    baseline_subjects,
    baseline,
    outdir,
    sheets,
    device,
):
    """Score a multi-view encoder on people it has not seen, beside per-subject optimisation.

    \b
    python scripts/score_encoder.py --network=training-runs/00000-encoder --data=CAPTURES

    The views that judge are the same for every number of inputs. Prints a table, writes scores.json
    (every head) and sheets of pictures. Without --network the fits alone are scored.
    """
    fits = bool(baseline_seconds or baseline_steps)
    own_heads = data == "gan" or data.startswith("gan:")
    if not (network or fits):
        raise UserError(
            "There is nothing to score: give --network=RUN, --baseline-seconds=60, or both."
        )
    if own_heads and not network:
        raise UserError(
            "--data=gan scores heads of the network's own generator; name it with --network."
        )
    if outdir is not None:
        cli.check_writable(outdir, "--outdir", folder=True)
    from gghead.cli.common import listed, pick_device
    from gghead.torch_utils.files import make_folder
    from gghead.training.encoder import score as scoring
    from gghead.training.encoder.baseline import BASELINES
    from gghead.training.encoder.data import read_captures
    from gghead.training.encoder.gan_heads import gan_heads
    from gghead.training.encoder.methods import (
        baseline_method,
        encoder_method,
        load_encoder,
        template_method,
    )
    from gghead.training.encoder.score_sheet import ScoreSheet

    device = pick_device(device)
    methods: dict[str, scoring.Method] = {"template": template_method}
    limits, scores, path = {}, scoring.Scores(), None
    if network:
        path, model = load_encoder(network, device)
        methods["encoder"] = encoder_method(model)
        if refine:
            methods["refined"] = encoder_method(model, refine)
    if fits:
        options = {"seconds": baseline_seconds or 60.0, "max_steps": baseline_steps}
        methods[baseline_kind] = baseline_method(replace(BASELINES[baseline_kind], **options))
    moments = expressions.split(",") if expressions else None
    if own_heads:
        numbers = cli.IntRangeList().convert(
            data.removeprefix("gan").removeprefix(":") or "0-15", None, None
        )
        people, moments = tuple(map(str, numbers)), ["0"]
        heads = gan_heads(model.generator, numbers, resolution)
    else:
        with progress(f"Reading {data}"):
            captures = read_captures(data).resized(resolution)
        people = listed(subjects, captures.subjects, "--subjects")
        moments = moments or captures.expressions_of(people[0])
        heads = scoring.capture_heads(
            captures, people, moments, geometry_file(geometry, captures), device
        )
    if fits and baseline_subjects:
        limits[baseline_kind] = listed(baseline_subjects, people, "--baseline-subjects")
    for file in baseline.split(",") if baseline else ():
        scores.records += scoring.read_records(Path(file), tuple(BASELINES))
    outdir = make_folder(outdir or (path.parent if path else Path("out")))
    header = {
        "network": str(path) if path else None,
        "data": str(data),
        "resolution": resolution,
        "views": counts,
        "targets": targets,
        "background": "white",
        "refine": refine,
        "baseline": {"kind": baseline_kind, "seconds": baseline_seconds, "steps": baseline_steps},
    }
    drawn = listed(sheets, people, "--sheets") if sheets else people[:1]
    pictures = [ScoreSheet(person, moment) for person in drawn for moment in moments]

    def seen(record, head, every, choice):
        bar.advance()
        for sheet in pictures if record["method"] != "template" else ():
            sheet.add(record, head, every, choice)
        # an interrupted run keeps what it has
        scoring.write_scores(outdir / "scores.json", header, scores)

    # of one expression with one number of views
    each = sum(len(limits.get(method, people)) for method in methods)
    with progress("Scoring", each * len(moments) * len(counts), "heads made") as bar:
        scoring.score(
            methods, heads, counts, targets=targets, limits=limits, scores=scores, seen=seen
        )
    for sheet in pictures:
        sheet.write(outdir / file_part(f"sheet-{sheet.subject}-{sheet.expression}.png"))
    print(
        f"{len(people)} people of {data} at {resolution} pixels over white; {targets} views"
        " held out"
    )
    print(scoring.table(scores))
    # What spills over the outline shows in the whole picture only.
    for key, name in (("psnr_mask", "PSNR in mask"), ("psnr", "PSNR of the whole picture")):
        for method, opponent in itertools.product(("encoder", "refined"), BASELINES):
            cells = [
                f"N={row['views']} {row['gain']:+.2f} (least {row['least']:+.2f}, {row['heads']}"
                " heads)"
                for row in scores.gains(method, opponent, key)
            ]
            if cells:
                print(f"{method} above {opponent}, {name}, dB: {', '.join(cells)}")
    print(outdir / "scores.json")


def geometry_file(given: str | None, captures) -> Path | None:
    """The file of true meshes, if there is one. Raises ``UserError`` where a given one does not
    exist."""
    if given == "none":
        return None
    path = Path(given) if given else captures.pictures.source.path.parent / "geometry.npz"
    if given and not path.is_file():
        raise UserError(
            f"--geometry={given} does not exist; name geometry.npz of mvheads, or none."
        )
    return path if path.is_file() else None
