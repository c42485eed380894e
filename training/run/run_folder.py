"""The folder of one run: its name, its options, its resumable states."""

import contextlib
import dataclasses
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from gghead.torch_utils import config as config_json
from gghead.torch_utils.cli import hint
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.files import by_number, write_atomically
from gghead.torch_utils.seal import archive_is_whole, write_archive
from gghead.training.gan.config import TrainConfig
from gghead.training.run.health import broken_tensors

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

OPTIONS = "training_options.json"
FROM_CAPTURES = {"stage": "decoder"}
"""What the snapshot of a generator says that has learned from captures and met no GAN yet."""
_KEEP_STATES = 2
_MARKS = {
    "optimizer": "train.py",
    "densify": "scripts/train_avatar.py",
    "style_noise": "scripts/train_decoder.py",
    "init": "scripts/train_encoder.py",
    "latents": "scripts/train_prior.py",
    "ema_steps": "scripts/train_expression.py",
}
"""Option that only the runs of one command have -> the command."""
Config = TypeVar("Config", bound="DataclassInstance")


def new_run_folder(
    outdir: str | os.PathLike, config: TrainConfig, world_size: int, desc: str | None = None
) -> Path:
    """Make a folder named by run, preset, data and batch, with the next free number.

    It is ``<outdir>/00003-<preset>-<dataset>-gpus1-batch16-gamma0.05[-desc]``.
    """
    parts = [
        config.preset,
        Path(config.data.path).stem,
        f"gpus{world_size}",
        f"batch{config.batch}",
        f"gamma{config.loss.r1_gamma:g}",
        *([desc] if desc else []),
    ]
    return numbered_folder(outdir, parts)


def numbered_folder(outdir: str | os.PathLike, parts: Sequence[str]) -> Path:
    """Make ``<outdir>/00003-<parts joined by ->`` with the next free number."""
    outdir = Path(outdir)
    try:
        outdir.mkdir(parents=True, exist_ok=True)
        while True:
            taken = [
                int(match[1])
                for entry in outdir.iterdir()
                if (match := re.match(r"(\d+)-", entry.name))
            ]
            folder = outdir / "-".join([f"{max(taken, default=-1) + 1:05d}", *parts])
            with contextlib.suppress(FileExistsError):  # another run was started at the same moment
                folder.mkdir()
                return folder
    except OSError as error:
        raise UserError(
            f"No run folder can be made in {outdir} ({error.strerror or error}); choose another "
            "`outdir`."
        ) from error


def write_options(folder: Path, config: "DataclassInstance") -> None:
    """Write the resolved config, a dataclass."""
    text = json.dumps(config_json.to_dict(config), indent=2) + "\n"
    write_atomically(folder / OPTIONS, lambda file: file.write(text.encode()))


def read_options(
    folder: str | os.PathLike, kind: type[Config] = TrainConfig, changes: dict | None = None
) -> Config:
    """Read the config of a run and put ``changes`` (nested dicts) over it.

    Raises ``UserError`` for a folder that is no run or an option this version lacks.
    """
    path = Path(folder) / OPTIONS
    try:
        values = json.loads(path.read_text())
    except OSError as error:
        raise UserError(
            f"{folder} is no training run: it holds no {OPTIONS}; name the folder of a run."
        ) from error
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}); restore it from a copy.") from error
    _check_kind(folder, values, kind)
    config = config_json.from_dict(kind, values, str(path))
    return config_json.replace(config, changes) if changes else config


def provenance(preset: str, data: str, yaws: tuple[float, float] | None = None) -> dict:
    """What a snapshot says of its making: data set, preset, command and versions.

    ``yaws`` are those that the data show heads from, as ``seen_yaws`` returns them.
    """
    root = Path(__file__).resolve().parents[2]
    try:
        command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
        commit = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError:  # a machine without git
        commit = ""
    return {
        "dataset": Path(data).name,
        "preset": preset,
        "command": " ".join(sys.argv),
        "git": commit or "unknown",
        "torch": torch.__version__,
        "python": platform.python_version(),
        **({} if yaws is None else {"yaw": list(yaws)}),
    }


def _check_kind(folder: str | os.PathLike, values: dict[str, Any], kind: type) -> None:
    """Raise ``UserError`` for a run of another command.

    An unknown option would say it less clearly.
    """
    own = {field.name for field in dataclasses.fields(kind)}
    others = [script for key, script in _MARKS.items() if key in values and key not in own]
    if others:
        wanted = next((script for key, script in _MARKS.items() if key in own), "another command")
        raise UserError(
            f"{folder} is a run of {others[0]}, but one of {wanted} is needed here. To continue it:"
            f" {hint(others[0], f'--resume={folder}')}"
        )


def save_state(folder: Path, kimg: float, state: dict) -> None:
    """Write ``training-state-<kimg>.pt``, read it back, and drop older states.

    Kept are the last two and one from longer ago, in case a run goes wrong slowly: the last one
    from before the greatest power of two that the second newest has reached.
    """
    path = folder / f"training-state-{int(kimg):06d}.pt"
    write_archive(path, lambda file: torch.save(state, file))
    states = _states(folder)
    # those beyond cannot be read, or the run would go on from them
    states = states[: states.index(path) + 1]
    before = _number(states[-2]) if len(states) > 1 else 0
    reached = 1 << (before.bit_length() - 1) if before else 0
    older = [old for old in states if _number(old) < reached][-1:]
    for old in states[:-_KEEP_STATES]:
        if old not in older:
            with contextlib.suppress(OSError):  # one state too many is no reason to end a run
                old.unlink()


def load_state(folder: str | os.PathLike) -> dict:
    """Load the newest whole and sound training state.

    Others are passed over with a printed sentence.

    Raises ``UserError`` if there is none. Only tensors and plain values are ever unpickled
    (``weights_only``).
    """
    for path in reversed(_states(Path(folder))):
        try:
            damage = None if archive_is_whole(path) else "it does not match the hash at its end"
            if damage is None:
                state = torch.load(path, map_location="cpu", weights_only=True)
                broken = broken_tensors(state)
                if not broken:
                    return state
                damage = f"{broken[0]} holds numbers that are not finite"
        # torch.load raises many kinds for a damaged file, all with the same remedy
        except Exception as error:
            damage = f"{type(error).__name__} when it is read"
        print(f"{path} is damaged: {damage}; trying the state before it.")
    raise UserError(
        f"{folder} holds no readable training-state-*.pt, so it cannot be continued; start a new"
        " run."
    )


def newest_state(folder: Path) -> Path | None:
    """The newest training state in ``folder``, by its name."""
    return next(reversed(_states(folder)), None)


def snapshot_path(folder: Path, kimg: float) -> Path:
    """Where the snapshot at ``kimg`` goes."""
    return folder / f"network-snapshot-{int(kimg):06d}.safetensors"


def _states(folder: Path) -> list[Path]:
    return by_number(folder.glob("training-state-*.pt"))


def _number(path: Path) -> int:
    return int(path.stem.rsplit("-", 1)[1])
