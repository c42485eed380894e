"""What a user may say about a foreign data set when it is read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class ReadOptions:
    """Options of the readers; ``formats.read`` refuses those that a format has no use for."""

    subjects: tuple[str, ...] | None = None
    """Names of the people to read."""
    moments: tuple[str, ...] | None = None
    """Names of the expressions, sequences or clips to read."""
    cameras: tuple[str, ...] | None = None
    """Names of the cameras to read."""
    scale: float | None = None
    """World units per unit of the data; 2.681 (one unit is 0.373 m) for metres."""
    offset: tuple[float, float, float] | None = None
    """Where the data's origin lies in our world."""
    world: tuple[tuple[float, ...], ...] | None = None
    """4x4 similarity from the data's frame to our world; replaces scale and offset."""
    test_frames: int | None = None
    """Last so many time steps are for testing; None = what the format's authors do."""
    test_clips: tuple[str, ...] | None = None
    """Clips for testing, where a format has clips."""
    skip_missing: bool = False
    """Go on without frames whose pictures are absent or whose numbers leave gaps; otherwise they are an error."""
    flame: Path | None = None
    """The user's FLAME model file, from which the joints of the neck are taken."""
    lens: Literal["undistort", "refuse", "ignore"] | None = None
    """What to do with pictures of a lens with distortion; None = undistort, but refuse where its convention is
    unknown."""
    fps: float | None = None
    """Frames per second, where the data do not say."""
