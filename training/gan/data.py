"""The images of a GAN's run: one data set, opened once, read at every stage's size."""

import dataclasses
from collections.abc import Sequence

from gghead.data import ImageDataset
from gghead.training.gan.config import DataConfig
from gghead.training.metrics.names import parse_metrics


def open_dataset(config: DataConfig, resolution: int | None = None) -> ImageDataset:
    """Open the images of a run at ``resolution`` (pixels a side; None: that of the files).

    Masks are left out where images keep their backgrounds. Raises ``UserError`` as
    ``ImageDataset``.
    """
    masks = None if config.masks in (None, "none") or config.background == "image" else config.masks
    return ImageDataset(
        config.path,
        masks=masks,
        resolution=resolution,
        mirror=config.mirror,
        max_images=config.max_images,
        shards_at_once=config.shards_at_once,
    )


def open_full(
    config: DataConfig, dataset: ImageDataset, metrics: str | Sequence[str]
) -> ImageDataset:
    """All files behind ``dataset`` without mirrored ones, if a metric compares with them.

    Else ``dataset`` itself.
    """
    wanted = any(metric.kind == "fid_full" for metric in parse_metrics(metrics))
    if not wanted or not (config.mirror or config.max_images):
        return dataset
    return open_dataset(
        dataclasses.replace(config, mirror=False, max_images=None), dataset.resolution
    )
