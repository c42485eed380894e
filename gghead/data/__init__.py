"""Readers and writers of training data."""

from gghead.data.image_dataset import ImageDataset
from gghead.data.loader import BatchLoader
from gghead.data.sampler import EpochSampler
from gghead.data.writer import DatasetWriter

__all__ = ["BatchLoader", "DatasetWriter", "EpochSampler", "ImageDataset"]
