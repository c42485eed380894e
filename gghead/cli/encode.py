"""All heads of captures to latent files, one pass of a multi-view encoder each.

What train_prior.py learns from.
"""

from pathlib import Path

import click

from gghead.cli.common import find_network, listed, pick_device
from gghead.torch_utils import cli
from gghead.torch_utils.errors import UserError

_FILE = "latent-encoder.safetensors"


@cli.command()
@click.option(
    "--network",
    required=True,
    metavar="FILE|RUN",
    help="A reconstructor (scripts/train_encoder.py)",
)
@click.option("--data", required=True, metavar="DIR|ZIP", help="Multi-view captures")
@click.option(
    "--subjects", metavar="LIST", help="Whom to encode: 0-107 or anna,ben  [default: all]"
)
@click.option(
    "--views",
    type=cli.IntRangeList(),
    default="6,8,12",
    show_default=True,
    help=(
        "Numbers of input views; each head is encoded from one of them, drawn from the cameras in"
        " front"
    ),
)
@click.option(
    "--draws",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Times that each head is encoded, from other cameras",
)
@cli.switch("--mirror", default=True, show_default=True, help="Also encode every head mirrored")
@click.option(
    "--resolution",
    type=cli.Resolution(square=True, smallest=16),
    help="Of the views  [default: the network's]",
)
@cli.seed("Of the choice of views")
@cli.outdir(
    "Where OUTDIR/<subject>-<expression>-<draw>/latent-encoder.safetensors go", default="latents"
)
@cli.overwrite("a collection of latents")
@cli.device()
def main(
    network: str,
    data: str,
    subjects: str | None,
    views: list[int],
    draws: int,
    mirror: bool,
    resolution: int | None,
    seed: int,
    outdir: Path,
    overwrite: bool,
    device: str,
) -> None:
    """Encode every head of captures, several times from different cameras.

    \b
    python scripts/encode.py --network=training-runs/00000-encoder --data=CAPTURES \\
        --subjects=0-107 --outdir=latents
    python scripts/train_prior.py --network=training-runs/00000-encoder --latents=latents \\
        --preset=few
    """
    network = find_network(network, "reconstructor")
    if not Path(data).exists():
        raise UserError(f"--data={data} does not exist; name multi-view captures.")
    cli.check_writable(outdir, "--outdir", folder=True)
    if not overwrite and any(outdir.glob(f"*/{_FILE}")):
        raise UserError(
            f"{outdir} holds encoded heads already; choose another --outdir, or replace those of"
            " the same names with --overwrite."
        )
    click.echo(f"Encoding the heads of {data} with {network} into {outdir}")

    import gghead
    from gghead import latent as latent_files
    from gghead.data import formats
    from gghead.data.captures import Captures
    from gghead.reconstruction.collection import CollectionConfig, encoded_heads
    from gghead.torch_utils.progress import progress

    model = gghead.load(network, device=pick_device(device), kind="reconstructor")
    with progress(f"Opening {data}"):
        found = formats.read(data)
        captures = found if isinstance(found, Captures) else found.as_captures()
        captures = captures.resized(resolution or model.generator.config.image_size)
    people = listed(subjects, captures.subjects, "--subjects") if subjects else captures.subjects
    count, own = 0, latent_files.fingerprints(model.generator)
    total = sum(len(captures.expressions_of(subject)) for subject in people) * draws * (1 + mirror)
    with progress("Encoding", total, "heads") as bar:
        for latent in encoded_heads(
            model, captures, people, CollectionConfig(tuple(views), draws, mirror, seed)
        ):
            latent_files.save(outdir / latent.info["target"] / _FILE, latent, model.generator, own)
            count += 1
            bar.advance()
    click.echo(f"{count} latents of {len(people)} people are in {outdir}")
    click.echo(
        "A prior over them: "
        + cli.hint(
            "scripts/train_prior.py", f"--network={network}", f"--latents={outdir}", "--preset=few"
        )
    )
