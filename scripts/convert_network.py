"""Rewrites a snapshot, usually in half precision: a small file to ship or to share."""

import sys
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch  # noqa: E402

from gghead import checkpoints  # noqa: E402
from gghead.torch_utils import cli  # noqa: E402

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


@cli.command()
@click.option("--network", required=True, metavar="FILE|RUN|demo", help="Snapshot, run folder or shipped network")
@click.option("--dest", type=click.Path(path_type=Path, dir_okay=False), required=True, help="File to write")
@click.option("--dtype", type=click.Choice(list(DTYPES)), default="fp16", show_default=True, help="Type of the weights")
def main(network: str, dest: Path, dtype: str) -> None:
    """Write a snapshot's weights in another precision, with its config and provenance."""
    info = checkpoints.read_info(network)
    model = checkpoints.load(network, kind="generator")
    checkpoints.save(model, dest, kimg=info.kimg, provenance=info.provenance, dtype=DTYPES[dtype])
    print(f"{dest}: {dest.stat().st_size / 2**20:.1f} MiB, {info.kimg:g} kimg, {dtype}")


if __name__ == "__main__":
    main()
