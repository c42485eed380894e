"""Every foreign format with the function that writes a small example of it, and a way to damage
one."""

import json

import helpers.foreign_captures as captures_of
import helpers.foreign_sequences as sequences_of

# name -> (writer, options to read it with: the examples are shorter than the authors' test splits)
SEQUENCES = {
    "insta": (sequences_of.insta, {"test_frames": 2}),
    "metrical": (sequences_of.metrical, {"test_frames": 2}),
    "flashavatar": (sequences_of.flashavatar, {"test_frames": 2}),
    "imavatar": (sequences_of.imavatar, {}),
    "vhap": (sequences_of.vhap, {}),
    "nerfblendshape": (sequences_of.nerfblendshape, {"test_frames": 2}),
}

CAPTURES = {
    "nerfstudio": captures_of.nerfstudio,
    "facelift": captures_of.facelift,
    "facescape": captures_of.facescape,
    "ava256": captures_of.ava256,
    "nersemble": lambda folder: captures_of.nersemble(folder, tracked=False),
}


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
