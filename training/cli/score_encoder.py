"""``python scripts/score_encoder.py --network=RUN --data=CAPTURES``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gghead.cli.common import reconstructor_option, subjects_option, view_resolution_option
from gghead.reconstruction.config import NO_REFINEMENT, RefineConfig
from gghead.torch_utils import cli
from gghead.torch_utils.config_options import ConfigOptions
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.files import file_part
from gghead.torch_utils.progress import progress

if TYPE_CHECKING:  # torch takes seconds, which --help must not cost
    from gghead.data.captures import Captures

OPTIONS = ConfigOptions(RefineConfig, {"": NO_REFINEMENT})


@cli.command(stopped="scores.json holds what was scored so far.")
@reconstructor_option()
@click.option(
    "--data",
    metavar="DIR|ZIP|gan[:SEEDS]",
    required=True,
    help="Multi-view captures; gan or gan:0-15: heads of the network's own generator",
)
@subjects_option("Who is judged: those held out in training")
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
@view_resolution_option()
@click.option(
    "--geometry", metavar="FILE|none", help="True meshes  [default: geometry.npz beside the data]"
)
@OPTIONS
@cli.outdir("Where scores.json and sheet-*.png go  [default: beside the network]")
@click.option("--sheets", metavar="LIST", help="Subjects to draw a sheet of  [default: the first]")
@cli.device()
def main(
    network: str,
    data: str,
    subjects: str | None,
    expressions: str | None,
    counts: list[int],
    targets: int,
    resolution: int | None,
    geometry: str | None,
    outdir: Path | None,
    sheets: str | None,
    device: str,
    **options: Any,
) -> None:
    """Score a multi-view encoder on people it has not seen.

    \b
    python scripts/score_encoder.py --network=training-runs/00000-encoder --data=CAPTURES \\
        --subjects=108-119

    The views that judge are the same for every number of inputs. Prints a table, writes scores.json
    (every head) and sheets of images.
    """
    refinement = OPTIONS.apply(NO_REFINEMENT, options)
    if outdir is not None:
        cli.check_writable(outdir, "--outdir", folder=True)
    from gghead.cli.common import find_network, parse_names, pick_device
    from gghead.torch_utils.files import make_folder
    from gghead.training.encoder import score as scoring
    from gghead.training.encoder.data import read_captures

    chosen = pick_device(device)
    path, model = scoring.load_encoder(find_network(network, "reconstructor"), chosen)
    side = resolution or model.generator.config.image_size
    methods: dict[str, scoring.Method] = {"encoder": scoring.encoder_method(model)}
    scores, surfaces = scoring.Scores(), None
    if refinement.steps:
        methods["refined"] = scoring.encoder_method(model, refinement)
    moments = expressions.split(",") if expressions else None
    if scoring.are_gan_heads(data):
        numbers = cli.IntRangeList().convert(
            data.removeprefix("gan").removeprefix(":") or "0-15", None, None
        )
        people, moments = tuple(map(str, numbers)), ["0"]
        heads = scoring.gan_heads(model.generator, numbers, side)
    else:
        with progress(f"Reading {data}"):
            captures = read_captures(data).resize(side)
        people = captures.subjects
        if subjects is not None:
            people = parse_names(subjects, people, "--subjects")
        moments = moments or captures.expressions_of(people[0])
        surfaces = geometry_file(geometry, captures)
        heads = scoring.capture_heads(captures, people, moments, surfaces, chosen)
    outdir = make_folder(outdir or path.parent)
    header = {
        "network": str(path),
        "data": str(data),
        "geometry": str(surfaces) if surfaces else None,
        "resolution": side,
        "views": counts,
        "targets": targets,
        "background": "white",
        "refine": refinement.steps,
    }
    drawn = parse_names(sheets, people, "--sheets") if sheets else people[:1]
    images = [scoring.ScoreSheet(person, moment) for person in drawn for moment in moments]

    def record_head(record, head, every, choice):
        bar.advance()
        for sheet in images:
            sheet.add(record, head, every, choice)
        # an interrupted run keeps what it has
        scoring.write_scores(outdir / "scores.json", header, scores)

    total = len(methods) * len(people) * len(moments) * len(counts)
    with progress("Scoring", total, "heads made") as bar:
        scoring.score(methods, heads, counts, targets=targets, scores=scores, seen=record_head)
    for sheet in images:
        sheet.write(outdir / file_part(f"sheet-{sheet.subject}-{sheet.expression}.png"))
    print(
        f"{len(people)} people of {data} at {resolution} pixels over white; {targets} views"
        " held out"
    )
    print(scoring.table(scores))
    print(outdir / "scores.json")


def geometry_file(given: str | None, captures: "Captures") -> Path | None:
    """The file of true meshes, if there is one.

    Raises ``UserError`` where a given one does not exist.
    """
    if given == "none":
        return None
    path = Path(given) if given else captures.images.source.path.parent / "geometry.npz"
    if given and not path.is_file():
        raise UserError(
            f"--geometry={given} does not exist; name geometry.npz of mvheads, or none."
        )
    return path if path.is_file() else None
