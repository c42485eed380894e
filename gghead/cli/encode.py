"""All heads of captures to latent files, one pass of a multi-view encoder each.

What train_prior.py learns from.
"""

from pathlib import Path
from typing import Any

import click

from gghead.cli.common import (
    find_network,
    parse_names,
    pick_device,
    reconstructor_option,
    subjects_option,
    view_resolution_option,
)
from gghead.reconstruction.config import CollectionConfig
from gghead.torch_utils import cli
from gghead.torch_utils.config_options import ConfigOptions
from gghead.torch_utils.errors import UserError

OPTIONS = ConfigOptions(CollectionConfig)
_FILE = "latent-encoder.safetensors"


@cli.command()
@reconstructor_option()
@click.option("--data", required=True, metavar="DIR|ZIP", help="Multi-view captures")
@subjects_option("Whom to encode")
@OPTIONS
@view_resolution_option()
@cli.outdir(
    "Where OUTDIR/<subject>-<expression>-<draw>/latent-encoder.safetensors go", default="latents"
)
@cli.overwrite("a collection of latents")
@cli.device()
def main(
    network: str,
    data: str,
    subjects: str | None,
    resolution: int | None,
    outdir: Path,
    overwrite: bool,
    device: str,
    **options: Any,
) -> None:
    """Encode every head of captures, several times from different cameras.

    \b
    python scripts/encode.py --network=training-runs/00000-encoder --data=CAPTURES \\
        --subjects=0-107 --outdir=latents
    python scripts/train_prior.py --network=training-runs/00000-encoder --latents=latents \\
        --preset=few
    """
    config = OPTIONS.apply(CollectionConfig(), options)
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
    from gghead.reconstruction.collection import encode_heads
    from gghead.torch_utils.progress import progress

    model = gghead.load(network, device=pick_device(device), kind="reconstructor")
    with progress(f"Opening {data}"):
        found = formats.read(data)
        captures = found if isinstance(found, Captures) else found.as_captures()
        captures = captures.resize(resolution or model.generator.config.image_size)
    people = (
        parse_names(subjects, captures.subjects, "--subjects") if subjects else captures.subjects
    )
    count, own = 0, latent_files.fingerprints(model.generator)
    total = sum(len(captures.expressions_of(subject)) for subject in people)
    total *= config.draws * (1 + config.mirror)
    with progress("Encoding", total, "heads") as bar:
        for latent in encode_heads(model, captures, people, config):
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
