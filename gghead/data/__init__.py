"""Readers and writers of training data."""

from gghead.data.captures import Captures
from gghead.data.image_dataset import ImageDataset
from gghead.data.loader import BatchLoader
from gghead.data.sampler import EpochSampler
from gghead.data.sequences import TrackedSequence
from gghead.data.writer import DatasetWriter

__all__ = ["BatchLoader", "Captures", "DatasetWriter", "EpochSampler", "ImageDataset", "TrackedSequence"]
