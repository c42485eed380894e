"""Distances between a trained generator's images and a data set."""

import dataclasses
from pathlib import Path
from typing import Literal

import torch

from gghead import checkpoints
from gghead.torch_utils.cli import check_writable
from gghead.torch_utils.distributed import Processes
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.progress import progress
from gghead.training.gan.config import DataConfig
from gghead.training.gan.data import open_dataset, open_full
from gghead.training.metrics import MetricSet, write_metric
from gghead.training.metrics.sampler import ModelSampler
from gghead.training.run import run_folder


def score(
    network: str,
    metrics: str,
    *,
    data: str | None = None,
    background: Literal["white", "image"] | None = None,
    feature_net: str | Path | None = None,
    psi: float = 1.0,
    seed: int = 0,
    batch: int = 16,
    device: torch.device | str = "cpu",
    processes: Processes | None = None,
) -> list[dict]:
    """Measure ``metrics`` ("frd2k,swd") of a snapshot or of a run's newest one.

    One record each, as ``MetricSet.evaluate`` returns them. All processes must call it.

    ``data`` and ``background`` ("white", "image") are those of the run where they are ``None``.
    For a network inside a run folder the first process also appends the records to
    ``metric-NAME.jsonl`` there.

    Raises ``UserError`` for a network that is no generator, for one outside a run folder without
    ``data``, for a folder that cannot be written, and as ``MetricSet``.
    """
    processes = processes or Processes()
    snapshot = checkpoints.snapshot_file(network)
    in_run = (snapshot.parent / run_folder.OPTIONS).is_file()
    config = DataConfig(path=data) if data is not None else None
    if config is None:
        if not in_run:
            raise UserError(
                f"{network} lies in no run folder that names its data set; name one with"
                " `data=FILE`."
            )
        config = run_folder.read_options(snapshot.parent).data
    model = checkpoints.load(snapshot, device=device, kind="generator")
    if background is not None:
        config = dataclasses.replace(config, background=background)
    if in_run:
        check_writable(snapshot.parent, "`network`", folder=True)
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
        ModelSampler(model, dataset.labels, seed, psi), snapshot=snapshot.name
    )
    for record in records if in_run and processes.is_first else ():
        write_metric(record, snapshot.parent)
    return records
