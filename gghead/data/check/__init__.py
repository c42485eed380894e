"""Checking a data set before it is trained on.

Every fault by name, its likely cause and its remedy.
"""

from gghead.data.check.cameras import check_cameras
from gghead.data.check.findings import FAULTS, Finding
from gghead.data.check.report import CheckReport, check_dataset

__all__ = ["FAULTS", "Finding", "CheckReport", "check_cameras", "check_dataset"]
