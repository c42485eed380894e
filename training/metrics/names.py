"""Names of metrics: ``frd2k``, ``frd10k``, ``swd``, ``fid50k``."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gghead.torch_utils.errors import UserError

SWD_IMAGES = 2_048


@dataclass(frozen=True)
class Metric:
    """A parsed metric name."""

    name: str
    kind: str
    """frd, fid or swd."""
    images: int
    """Generated pictures it needs."""


def parse_metric(name: str) -> Metric:
    """Parse ``frd2k``, ``frd500``, ``swd``, ``fid50k``… ; raises ``UserError`` for anything else."""
    match = re.fullmatch(r"(frd|fid|swd)(\d+)?(k)?", name)
    if not match or (match[2] is None and (match[1] != "swd" or match[3])) or (match[2] and int(match[2]) == 0):
        raise UserError(f"There is no metric '{name}'; choose from frd2k, frd10k, swd, or fid50k with --feature-net.")
    count = int(match[2]) * (1000 if match[3] else 1) if match[2] else SWD_IMAGES
    if count < 2:
        raise UserError(f"The metric '{name}' needs at least 2 pictures.")
    return Metric(name, match[1], count)


def parse_metrics(names: str | Sequence[str]) -> list[Metric]:
    """Parse a comma list or a sequence of names; ``none`` is the empty list."""
    parts = names.split(",") if isinstance(names, str) else list(names)
    return [parse_metric(part.strip()) for part in parts if part.strip() not in ("", "none")]
