"""FlashAvatar (Xiang et al. 2024).

``imgs/00001.jpg``, ``alpha/00001.jpg`` and metrical-tracker's ``.frame`` files.

Source: USTC3DV/FlashAvatar-code. Images count from 1 and the tracker's frames from 0: frame 00000
belongs to image
00001. The published folders are ``dataset/<id>`` and ``metrical-tracker/output/<id>/checkpoint``;
here the checkpoint folder may also stand beside ``imgs``. Test frames are the last 500.
"""

from gghead.data.captures import TrackedSequence
from gghead.data.files import Source
from gghead.data.formats.assemble import assemble, by_time
from gghead.data.formats.metrical import rows_of_frames
from gghead.data.formats.parsing import ReadOptions
from gghead.torch_utils.errors import UserError

TEST_FRAMES = 500


def looks_like(names: set[str], content: dict | None) -> bool:
    return any("imgs/" in name for name in names) and any(name.endswith(".frame") for name in names)


def read(source: Source, options: ReadOptions) -> TrackedSequence:
    """Read one person: a folder with ``imgs`` and, below it, one ``checkpoint`` folder."""
    names = source.names()
    folders = sorted({name[: name.rindex("imgs/")] for name in names if "imgs/" in name})
    checkpoints = sorted(
        {name[: name.rindex("/") + 1] for name in names if name.endswith(".frame")}
    )
    if options.subjects:  # the whole published tree, of which one person is wanted
        folders = [f for f in folders if f.rstrip("/").rpartition("/")[2] in options.subjects]
        checkpoints = [c for c in checkpoints if set(c.split("/")) & set(options.subjects)]
    if len(folders) != 1 or len(checkpoints) != 1:
        raise UserError(
            f"{source.path} holds {len(folders)} folders imgs and {len(checkpoints)} folders of"
            " .frame files; name one person with `subjects`, or give the folder of one."
        )
    folder = folders[0]
    rows, _ = rows_of_frames(
        source,
        checkpoints[0],
        lambda number, _: f"{folder}imgs/{number + 1:05d}.jpg",
        lambda number, _: f"{folder}alpha/{number + 1:05d}.jpg",
        options,
    )
    for row in rows:
        row.subject = folder.rstrip("/").rpartition("/")[2] or "0"
    by_time(rows, TEST_FRAMES, options)
    return assemble(
        TrackedSequence, source, rows, options, format="flashavatar", mask_kind="file", fps=25.0
    )
