"""All heads of captures to latent files, one pass of a multi-view encoder each: what train_prior.py learns from."""

from pathlib import Path

import click

from gghead.cli.common import listed, pick_device
from gghead.torch_utils import cli


@cli.command()
@click.option("--network", required=True, metavar="FILE|RUN", help="A reconstructor (scripts/train_encoder.py)")
@click.option("--data", required=True, metavar="DIR|ZIP", help="Multi-view captures")
@click.option("--subjects", metavar="LIST", help="Whom to encode: 0-107 or anna,ben  [default: all]")
@click.option("--views", type=cli.IntRangeList(), default="6,8,12", show_default=True,
              help="Numbers of input views; each head is encoded from one of them, drawn from the cameras in front")
@click.option("--draws", type=click.IntRange(min=1), default=3, show_default=True,
              help="Times that each head is encoded, from other cameras")
@click.option("--mirror", type=cli.BOOL, default=True, show_default=True, help="Also encode every head mirrored")
@click.option("--resolution", type=click.IntRange(min=16), help="Pixels a side of the views  [default: the network's]")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the choice of views")
@click.option("--outdir", type=click.Path(path_type=Path), default="latents", show_default=True,
              help="Where OUTDIR/<subject>-<expression>-<draw>/latent-encoder.safetensors go")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda|…", help="Where to compute")
def main(network, data, subjects, views, draws, mirror, resolution, seed, outdir, device):
    """Encode every head of captures, several times from different cameras.

    \b
    python scripts/encode.py --network=training-runs/00000-encoder --data=CAPTURES --subjects=0-107 --outdir=latents
    python scripts/train_prior.py --network=training-runs/00000-encoder --latents=latents --preset=few
    """
    import gghead
    from gghead.data import formats
    from gghead.data.captures import Captures
    from gghead.inversion import latents as latent_files
    from gghead.reconstruction.collection import CollectionConfig, encoded_heads

    model = gghead.load(network, device=pick_device(device), kind="reconstructor")
    found = formats.read(data)
    captures = found if isinstance(found, Captures) else found.as_captures()
    captures = captures.resized(resolution or model.generator.config.image_size)
    people = listed(subjects, captures.subjects, "--subjects") if subjects else captures.subjects
    count, own = 0, latent_files.fingerprints(model.generator)
    for latent in encoded_heads(model, captures, people, CollectionConfig(tuple(views), draws, mirror, seed)):
        latent_files.save(outdir / latent.info["target"] / "latent-encoder.safetensors", latent, model.generator,
                          own)
        count += 1
    print(f"{count} latents of {len(people)} people are in {outdir}")
