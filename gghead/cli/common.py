"""What the commands share: which network, which device, which people."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from gghead.torch_utils.errors import UserError

if TYPE_CHECKING:
    import torch

RUNS = Path("training-runs")  # where train.py writes unless told otherwise


def pick_device(name: str) -> "torch.device":
    """Return the torch device for ``--device``; ``auto`` takes CUDA where there is one.

    Raises ``UserError`` for a device that this torch does not know or does not have.
    """
    import torch

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


def expand(text: str, names: tuple[str, ...] = ()) -> list[str]:
    """``anna,108-110`` -> names; a range of numbers keeps their leading zeros. What is in ``names`` is no range."""
    found = []
    for part in (part.strip() for part in text.split(",")):
        first, dash, last = part.partition("-")
        if dash and first.isdecimal() and last.isdecimal() and int(first) <= int(last) and part not in names:
            found += [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
        elif part:
            found.append(part)
    return found


def listed(text: str, names: tuple[str, ...], option: str) -> tuple[str, ...]:
    """Names of a list such as ``108-119,7``; raises ``UserError`` for one that does not exist."""
    found = expand(text, names)
    if not found:
        raise UserError(f"{option} names nobody; there are {', '.join(names[:8])}{' …' if len(names) > 8 else ''}.")
    by_number = {int(name): name for name in names if name.isdecimal()}
    known = [name if name in names else by_number.get(int(name) if name.isdecimal() else -1) for name in found]
    if None in known:
        raise UserError(f"{option}={text}: there is no subject {found[known.index(None)]}; there are "
                        f"{', '.join(names[:8])}{' …' if len(names) > 8 else ''}.")
    return tuple(known)
