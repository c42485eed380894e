"""Readers and writers of training data."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gghead.data.captures import Captures, TrackedSequence
    from gghead.data.dataset import ImageDataset
    from gghead.data.dataset_zip import DatasetWriter
    from gghead.data.loader import BatchLoader
    from gghead.data.sampler import EpochSampler

_HOMES = {
    "BatchLoader": "loader",
    "Captures": "captures",
    "DatasetWriter": "dataset_zip",
    "EpochSampler": "sampler",
    "ImageDataset": "dataset",
    "TrackedSequence": "captures",
}
__all__ = [
    "BatchLoader",
    "Captures",
    "DatasetWriter",
    "EpochSampler",
    "ImageDataset",
    "TrackedSequence",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is used, so that a command's help needs no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
