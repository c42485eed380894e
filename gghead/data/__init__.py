"""Readers and writers of training data."""

from gghead.data.captures import Captures, TrackedSequence
from gghead.data.dataset import ImageDataset
from gghead.data.dataset_zip import DatasetWriter
from gghead.data.loader import BatchLoader
from gghead.data.sampler import EpochSampler

__all__ = [
    "BatchLoader",
    "Captures",
    "DatasetWriter",
    "EpochSampler",
    "ImageDataset",
    "TrackedSequence",
]
