"""Distances between a network's images and a data set.

``python scripts/calc_metrics.py --network=RUN`` calls it.
"""

import json
from typing import Literal

import click

from gghead.cli.common import trunc_option
from gghead.torch_utils import cli
from gghead.training.metrics.names import check_feature_net, parse_metrics


@cli.command()
@click.option(
    "--network",
    required=True,
    metavar="FILE|RUN",
    help="Snapshot or run folder (its newest snapshot)",
)
@click.option(
    "--data",
    metavar="ZIP|DIR",
    help="Data set to compare with  [default: what the run was trained on]",
)
@click.option(
    "--metrics",
    default="frd2k,swd",
    show_default=True,
    metavar="LIST",
    help="frd2k, frd10k, swd, fd2k, fid50k_full …",
)
@click.option(
    "--feature-net",
    metavar="efficientnet-lite2[:FILE]|FILE",
    help="Network of fd metrics; TorchScript Inception, needed for fid metrics",
)
@click.option(
    "--background",
    type=click.Choice(["white", "image"]),
    help=(
        "Reals over white, or as photographed  [default: as in the run, else white where there are"
        " masks]"
    ),
)
@trunc_option("Truncation psi", default=1.0)
@cli.seed("Seed of latents, cameras and patches")
@click.option(
    "--batch", type=click.IntRange(min=1), default=16, show_default=True, help="Images per pass"
)
@cli.device()
def main(
    network: str,
    data: str | None,
    metrics: str,
    feature_net: str | None,
    background: Literal["white", "image"] | None,
    trunc: float,
    seed: int,
    batch: int,
    device: str,
) -> None:
    """Print distances and their floors, one line of JSON each.

    \b
    python scripts/calc_metrics.py --network=training-runs/00000-tiny-heads --metrics=frd2k,swd
    python scripts/calc_metrics.py --network=RUN --metrics=fd2k --feature-net=efficientnet-lite2
    torchrun --nproc-per-node=4 scripts/calc_metrics.py --network=RUN --metrics=fid50k_full \\
        --feature-net=inception.pt

    For a network inside a run folder the lines are also appended to metric-NAME.jsonl there.
    """
    check_feature_net(parse_metrics(metrics), feature_net)  # said before anything is loaded
    from gghead.cli.common import find_network, pick_device
    from gghead.torch_utils import distributed
    from gghead.training.gan.score import score

    processes, chosen = distributed.start(pick_device(device))
    try:
        records = score(
            find_network(network, "generator"),
            metrics,
            data=data,
            background=background,
            feature_net=feature_net,
            psi=trunc,
            seed=seed,
            batch=batch,
            device=chosen,
            processes=processes,
        )
        for record in records if processes.is_first else ():
            print(json.dumps(record))
    finally:
        distributed.stop()
