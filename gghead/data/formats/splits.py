"""The splits that a format's authors use."""

import numpy as np

from gghead.data.formats.assemble import Row, natural
from gghead.data.formats.options import ReadOptions
from gghead.data.sequences import last_frames
from gghead.torch_utils.errors import UserError


def by_time(rows: list[Row], test_frames: int, options: ReadOptions) -> None:
    """Mark the last frames as "test", the others as "train"; ``options.test_frames`` replaces the format's number."""
    wanted = test_frames if options.test_frames is None else options.test_frames
    split, names = last_frames(np.array([row.number for row in rows]), wanted)
    for row, code in zip(rows, split, strict=True):
        row.split = names[code]


def by_clip(rows: list[Row], known_test: tuple[str, ...], options: ReadOptions) -> str | None:
    """Mark whole clips as "test": those that the user names, else those that the authors use, else the last of several.

    Returns a note where the choice is a guess.
    """
    clips = sorted({row.clip for row in rows}, key=natural)
    test = set(options.test_clips or ()) or {clip for clip in clips if clip in known_test}
    if unknown := test - set(clips):
        raise UserError(f"There is no clip '{min(unknown)}' to test on; the clips are {', '.join(clips)}.")
    note = None
    if not test and len(clips) > 1:
        test = {clips[-1]}
        note = f"The clip {clips[-1]} is taken for testing; name another by --test-clips."
    for row in rows:
        row.split = "test" if row.clip in test else "train"
    return note
