"""What the sampling commands share: which network, which device, from rendered colours to picture files."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from torch_utils.errors import UserError
from torch_utils.files import write_atomically

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


def to_uint8(color: Tensor) -> np.ndarray:
    """Turn rendered colours [..., 3, H, W] in [0, 1] into uint8 pictures [..., H, W, 3]."""
    return (color.detach().clamp(0, 1) * 255).round().to(torch.uint8).movedim(-3, -1).cpu().numpy()


def beside(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Put pictures [H, W, 3] of one height side by side."""
    return np.concatenate(list(pictures), axis=1)


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write uint8 [H, W, 3] as PNG, making the folder; the file appears whole or not at all.

    Raises ``UserError`` if the system refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"The folder {path.parent} cannot be made ({error.strerror}); choose another one.") from error
    write_atomically(path, lambda file: Image.fromarray(picture).save(file, format="PNG"))
