"""``python scripts/calc_metrics.py --network=RUN``: distances between a network's pictures and a
data set."""

import dataclasses
import json

import click

from gghead.torch_utils import cli
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.progress import progress
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
    help="frd2k, frd10k, swd, fid50k_full …",
)
@click.option("--feature-net", metavar="FILE", help="TorchScript Inception, needed for fid metrics")
@click.option(
    "--background",
    type=click.Choice(["white", "image"]),
    help=(
        "Reals over white, or as photographed  [default: as in the run, else white where there are"
        " masks]"
    ),
)
@click.option("--trunc", type=float, default=1.0, show_default=True, help="Truncation psi")
@cli.seed("Seed of latents, cameras and patches")
@click.option(
    "--batch", type=click.IntRange(min=1), default=16, show_default=True, help="Pictures per pass"
)
@cli.device()
def main(network, data, metrics, feature_net, background, trunc, seed, batch, device):
    """Print distances and their floors, one line of JSON each.

    \b
    python scripts/calc_metrics.py --network=training-runs/00000-tiny-heads --metrics=frd2k,swd
    torchrun --nproc-per-node=4 scripts/calc_metrics.py --network=RUN --metrics=fid50k_full \\
        --feature-net=inception.pt

    For a network inside a run folder the lines are also appended to metric-NAME.jsonl there.
    """
    check_feature_net(parse_metrics(metrics), feature_net)  # said before anything is loaded
    import gghead
    from gghead.checkpoints import snapshot_file
    from gghead.cli.common import pick_device
    from gghead.torch_utils import distributed
    from gghead.training.gan.config import DataConfig
    from gghead.training.gan.run import open_dataset, open_full
    from gghead.training.metrics import MetricSet, write_metric
    from gghead.training.metrics.sampler import ModelSampler
    from gghead.training.run import run_folder

    snapshot = snapshot_file(network)
    in_run = (snapshot.parent / run_folder.OPTIONS).is_file()
    trained_on = run_folder.read_options(snapshot.parent).data if in_run else None
    if data is None and trained_on is None:
        raise UserError(
            f"{network} lies in no run folder that names its data set; name one with --data=FILE."
        )
    processes, device = distributed.start(pick_device(device))
    try:
        model = gghead.load(snapshot, device=device, kind="generator")
        config = trained_on if data is None else DataConfig(path=data)
        if background is not None:
            config = dataclasses.replace(config, background=background)
        if in_run:
            cli.check_writable(snapshot.parent, "--network", folder=True)
        with progress(f"Reading {config.path}"):
            dataset = open_dataset(config, model.config.image_size)
            full = open_full(config, dataset, metrics)
        unmasked = data is not None and background is None and not dataset.has_masks
        metric_set = MetricSet(
            dataset,
            metrics,
            full=full,
            feature_net=feature_net,
            seed=seed,
            device=model.device,
            batch=batch,
            processes=processes,
            background=None if unmasked or config.background == "image" else (1.0, 1.0, 1.0),
        )
        records = metric_set.evaluate(
            ModelSampler(model, dataset.labels, seed, trunc), snapshot=snapshot.name
        )
        for record in records if processes.is_first else ():
            print(json.dumps(record))
            if in_run:
                write_metric(record, snapshot.parent)
    finally:
        distributed.stop()
