"""Distances between sets of generated and real pictures.

``frechet`` compares Gaussian fits of features, ``features`` supplies them, ``swd`` compares patches directly, and
``evaluate`` runs named metrics for a data set and a sampler.
"""

from gghead.training.metrics.evaluate import MetricSet, parse_metric, parse_metrics, write_metric

__all__ = ["MetricSet", "parse_metric", "parse_metrics", "write_metric"]
