"""Rewrite a snapshot, usually in half precision.

It makes a small file to ship or to share.
"""

from pathlib import Path

import click

from gghead.torch_utils import cli
from gghead.torch_utils.errors import UserError

DTYPES = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}


@cli.command()
@click.option(
    "--network",
    required=True,
    metavar="FILE|RUN|demo",
    help="Snapshot, run folder or shipped network",
)
@cli.dest("File to write")
@click.option(
    "--dtype",
    type=click.Choice(list(DTYPES)),
    default="fp16",
    show_default=True,
    help="Type of the weights",
)
@cli.overwrite("a file")
def main(network: str, dest: Path, dtype: str, overwrite: bool) -> None:
    """Write a snapshot's weights in another precision, with its config and provenance.

    \b
    python scripts/convert_network.py --network=RUN --dest=small.safetensors
    """
    if dest.suffix != ".safetensors":
        heads = cli.hint("gen_samples.py", f"--network={network}", "--shapes=1")
        raise UserError(
            f"--dest={dest} must end in .safetensors, the format of networks. For heads as .ply:"
            f" {heads}"
        )
    cli.check_new(dest, overwrite)
    import torch

    from gghead import checkpoints
    from gghead.cli.common import find_network
    from gghead.torch_utils.files import make_folder

    network = find_network(network, "generator")
    info = checkpoints.read_info(network)
    model = checkpoints.load(network, kind="generator")
    make_folder(dest.parent)
    checkpoints.save(
        model, dest, done=info.kimg, provenance=info.provenance, dtype=getattr(torch, DTYPES[dtype])
    )
    print(f"{dest}: {dest.stat().st_size / 2**20:.1f} MiB, {info.kimg:g} kimg, {dtype}")
