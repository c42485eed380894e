"""What is written is sound, whole and read back; what cannot be written is told."""

import shutil

import pytest
import torch

from gghead.torch_utils.cli import hint
from gghead.torch_utils.distributed import Processes
from gghead.torch_utils.errors import UserError
from gghead.training.run import run_folder
from gghead.training.run.saving import Saver

NAN = float("nan")


def saver(folder):
    return Saver(folder, Processes(), "cpu", "train.py", "Lower the rate.")


def state(value=1.0):
    return {"trainer": {"w": torch.tensor([value])}}


def test_a_state_that_is_not_sound_is_not_written_and_the_one_before_is_named(tmp_path):
    made, written = saver(tmp_path), []
    made.save(1, state(), lambda folder: written.append(1), "step 1")
    before = (tmp_path / "training-state-000001.pt").read_bytes()
    with pytest.raises(UserError) as error:
        made.save(1, state(NAN), lambda folder: written.append(2), "step 2")
    assert (
        str(error.value)
        == "The run has diverged: w held numbers that are not finite at step 2. Lower the rate."
        f" The last good state is {tmp_path}/training-state-000001.pt; continue from it with:"
        f" {hint('train.py', f'--resume={tmp_path}')}"
    )
    assert (tmp_path / "training-state-000001.pt").read_bytes() == before and written == [1]


def test_many_broken_tensors_are_counted(tmp_path):
    broken = {"trainer": {name: torch.tensor(NAN) for name in "abcde"}}
    with pytest.raises(
        UserError, match="a, b, c and 2 more held numbers .* No state had been written before\\."
    ):
        saver(tmp_path).save(1, broken, lambda folder: None, "step 1")


def test_a_run_folder_that_is_gone_is_told_and_ends_the_run_with_an_error(tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    made = saver(folder)
    shutil.rmtree(folder)
    made.save(1, state(), lambda folder: None, "step 1")
    assert (
        made.unsaved and "training-state-000001.pt could not be written" in capsys.readouterr().out
    )
    with pytest.raises(
        UserError,
        match=(
            "The run ended at step 1, but what it had learned could not be saved: .*"
            "No such file or directory.*No state had been written before"
        ),
    ):
        made.finish("step 1")
    folder.mkdir()
    made.save(2, state(), lambda folder: None, "step 2")
    made.finish("step 2")
    assert not made.unsaved and run_folder.load_state(folder)["trainer"]["w"] == 1
