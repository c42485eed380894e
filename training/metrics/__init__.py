"""Distances between sets of generated and real images.

``frechet`` compares Gaussian fits of features, ``features`` supplies them, ``swd`` compares patches
directly, and ``evaluate`` runs metrics by their ``names`` for a data set and a ``sampler``, with
the work ``shared`` by processes. What is heavy loads on first use.
"""

import importlib
from typing import TYPE_CHECKING

from gghead.training.metrics.names import check_feature_net, parse_metric, parse_metrics

if TYPE_CHECKING:
    from gghead.training.metrics.evaluate import MetricSet, write_metric

__all__ = ["MetricSet", "check_feature_net", "parse_metric", "parse_metrics", "write_metric"]


def __getattr__(name: str):
    if name in ("MetricSet", "write_metric"):
        return getattr(importlib.import_module("gghead.training.metrics.evaluate"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
