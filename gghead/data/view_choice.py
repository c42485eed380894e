"""Which views of a capture are given to a method and which judge it, chosen alike for every method and head."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gghead.cameras import Cameras
from gghead.torch_utils.errors import UserError

FRONT = math.radians(80.0)  # cameras with less yaw see the face


@dataclass(frozen=True)
class ViewChoice:
    """Names of cameras."""

    targets: tuple[str, ...]
    """In front, never inputs."""
    behind: tuple[str, ...]
    """At the sides and the back; inputs only where those in front do not suffice."""
    inputs: dict[int, tuple[str, ...]]
    """Number of views -> cameras, by yaw."""


def spread(items: Sequence, count: int) -> list:
    """Return ``count`` items at even distances: the middles of ``count`` equal parts of the list."""
    return [items[int((i + 0.5) * len(items) / count)] for i in range(count)]


def choose_views(names: Sequence[str], cameras: Cameras, counts: Sequence[int], targets: int = 4) -> ViewChoice:
    """Hold out ``targets`` evenly spread cameras in front, and spread inputs of each number over the others there.

    More inputs than there are in front take those at the sides and the back as well, nearest the front first. All is
    decided by the cameras' yaw. Raises ``UserError`` where there are too few cameras.
    """
    yaw = {name: float(angle) for name, angle in zip(names, cameras.angles()[0], strict=True)}
    front = sorted((name for name in names if abs(yaw[name]) < FRONT), key=yaw.get)
    behind = sorted((name for name in names if abs(yaw[name]) >= FRONT), key=lambda name: abs(yaw[name]))
    most = len(names) - targets
    if not 0 <= targets <= len(front) or min(counts, default=1) < 1 or max(counts, default=1) > most:
        raise UserError(f"{len(names)} views, {len(front)} of them in front, cannot give {max(counts, default=1)} "
                        f"inputs and {targets} targets; ask for fewer.")
    held_out = spread(front, targets)
    rest = [name for name in front if name not in held_out]
    inputs = {count: spread(rest, count) if count <= len(rest) else rest + behind[: count - len(rest)]
              for count in counts}
    return ViewChoice(tuple(held_out), tuple(sorted(behind)),
                      {count: tuple(sorted(chosen, key=yaw.get)) for count, chosen in inputs.items()})
