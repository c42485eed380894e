"""``run`` of the checkout that this folder belongs to, installed or not, from any folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gghead.cli.main import run as run  # noqa: E402
