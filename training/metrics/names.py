"""Names of metrics: ``frd2k``, ``frd10k``, ``swd``, ``fid50k_full``, ``fid50k``."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gghead.torch_utils.errors import UserError

SWD_IMAGES = 2_048


@dataclass(frozen=True)
class Metric:
    """A parsed metric name."""

    name: str
    kind: str
    """frd, fid, fid_full or swd."""
    images: int
    """Generated pictures it needs."""

    @property
    def is_fid(self) -> bool:
        """Whether it needs the user's network."""
        return self.kind.startswith("fid")


def parse_metric(name: str) -> Metric:
    """Parse ``frd2k``, ``frd500``, ``swd``, ``fid50k_full``… .

    Raises ``UserError`` for anything else.
    """
    match = re.fullmatch(r"(frd|fid|swd)(\d+)?(k)?(_full)?", name)
    kind, number, thousands, full = match.groups() if match else (None,) * 4
    if (
        kind is None
        or not (int(number) if number else kind == "swd" and not thousands)
        or (full and kind != "fid")
    ):
        raise UserError(
            f"There is no metric '{name}'; choose from frd2k, frd10k, swd, or fid50k_full with "
            "--feature-net."
        )
    count = int(number) * (1000 if thousands else 1) if number else SWD_IMAGES
    if count < 2:
        raise UserError(f"The metric '{name}' needs at least 2 pictures.")
    return Metric(name, kind + (full or ""), count)


def parse_metrics(names: str | Sequence[str]) -> list[Metric]:
    """Parse a comma list or a sequence of names; ``none`` is the empty list."""
    parts = names.split(",") if isinstance(names, str) else list(names)
    return [parse_metric(part.strip()) for part in parts if part.strip() not in ("", "none")]


def check_feature_net(metrics: Sequence[Metric], feature_net: str | Path | None) -> None:
    """Raise ``UserError`` for a FID without a network to measure it with."""
    if feature_net is None and any(metric.is_fid for metric in metrics):
        raise UserError(
            "A fid metric needs --feature-net=FILE (a TorchScript Inception, such as StyleGAN's "
            "inception-2015-12-05.pt); frd2k needs no download."
        )
