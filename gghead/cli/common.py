"""What the sampling commands share: which network, which device."""

import re
from pathlib import Path

import torch

from torch_utils.errors import UserError

RUNS = Path("training-runs")  # where train.py writes unless told otherwise


def pick_device(name: str) -> torch.device:
    """Return the torch device for ``--device``; ``auto`` takes CUDA where there is one.

    Raises ``UserError`` for a device that this torch does not know or does not have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device={name} does not work here; use --device=cpu or --device=auto.") from error
    return device


def default_network(root: str | Path = RUNS) -> str | Path:
    """Return the run below ``root`` with the highest number that holds a snapshot, or else "demo", which is shipped."""
    runs = {path.parent for path in Path(root).glob("*/network-snapshot-*.safetensors")}
    numbered = {int(match[1]): run for run in runs if (match := re.match(r"(\d+)-", run.name))}
    return numbered[max(numbered)] if numbered else "demo"
