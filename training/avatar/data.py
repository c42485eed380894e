"""A trained avatar with the sequence it was trained on."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gghead.animation.drive import as_trained, read_drive
from gghead.animation.frames import read_sequence, split_or_all
from gghead.checkpoints import load, snapshot_file
from gghead.data.captures import TrackedSequence
from gghead.models.avatar import AvatarModel
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.progress import progress
from gghead.training.avatar.config import AvatarTrainConfig
from gghead.training.run import run_folder


@dataclass(frozen=True, eq=False)
class AvatarSource:
    """What the commands that judge or change a trained avatar start from."""

    path: Path
    """The avatar's file."""
    avatar: AvatarModel
    """The avatar, for evaluation."""
    data: str
    """Where the sequence was read from."""
    sequence: TrackedSequence
    """The sequence at the avatar's size, with the coefficients that the avatar takes."""

    def coefficients(self, split: str) -> Tensor:  # float32 [T, B]
        """Those of a split, or of all frames where the sequence has no splits."""
        found = split_or_all(self.sequence, split).coefficients
        assert found is not None  # open_avatar takes no sequence without
        return found.float()


def open_avatar(network: str, data: str | None, device: torch.device) -> AvatarSource:
    """``network`` is a file or a run folder (its newest).

    The sequence is ``data``, or what the run names.

    Raises ``UserError`` where no sequence is named, and for one of another expression model.
    """
    path = snapshot_file(network)
    avatar = load(path, device=device, kind="avatar")
    in_run = (path.parent / run_folder.OPTIONS).is_file()
    run = run_folder.read_options(path.parent, AvatarTrainConfig) if in_run else None
    if data is None:
        if run is None:
            raise UserError(
                f"{network} lies in no run folder that names its sequence; name one with"
                " `data=DIR`."
            )
        data = run.data
    config = avatar.config
    with progress(f"Reading {data}"):
        sequence = as_trained(read_sequence(data, tuple(config.image_size)), config)
    if sequence.width != config.width:
        # says what differs, unless names in common would do to drive the avatar
        read_drive(data, config)
        raise UserError(
            f"{data} has {sequence.width} coefficients, but the avatar was trained with"
            f" {config.width}: name a sequence of the same expression model with `data`."
        )
    return AvatarSource(path, avatar, data, sequence)
