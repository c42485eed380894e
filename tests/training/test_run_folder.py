"""States: what is kept, and that damage is noticed."""

import os
import subprocess
import sys
import zipfile

import pytest
import torch

from gghead.torch_utils.errors import UserError
from gghead.training.run.run_folder import load_state, save_state
from gghead.training.run.stats import StatsWriter


def numbers(folder):
    return sorted(int(path.stem.rsplit("-", 1)[1]) for path in folder.glob("training-state-*.pt"))


def test_an_older_state_is_kept_beyond_the_last_two(tmp_path):
    """The last one from before the greatest power of two that the second newest has reached."""
    kept = {}
    for step in range(10, 310, 10):
        save_state(tmp_path, step, {"trainer": step})
        kept[step] = numbers(tmp_path)
    assert kept[20] == [10, 20] and kept[40] == [10, 30, 40] and kept[50] == [30, 40, 50]
    assert (
        kept[100] == [60, 90, 100] and kept[130] == [60, 120, 130] and kept[140] == [120, 130, 140]
    )
    assert kept[260] == [120, 250, 260] and kept[300] == [250, 290, 300]
    assert all(len(found) <= 3 for found in kept.values())


def test_any_flipped_bit_of_a_state_is_noticed_or_harmless(tmp_path, capsys):
    """torch ignores an archive's checksums, and one bit of its directory makes it return memory
    nobody has written."""
    state = {"trainer": {"w": torch.arange(20.0)}, "tick": 3}
    save_state(tmp_path, 1, state)
    path = tmp_path / "training-state-000001.pt"
    whole, noticed = path.read_bytes(), 0
    for bit in range(0, 8 * len(whole), 5):
        broken = bytearray(whole)
        broken[bit // 8] ^= 1 << bit % 8
        path.write_bytes(broken)
        try:
            found = load_state(tmp_path)
        except UserError:
            noticed += 1
        else:
            assert (
                torch.equal(found["trainer"]["w"], state["trainer"]["w"]) and found["tick"] == 3
            ), bit
    assert noticed > 0.9 * len(whole) * 8 / 5
    assert (
        "training-state-000001.pt is damaged: it does not match the hash at its end"
        in capsys.readouterr().out
    )


def test_a_damaged_state_is_named_and_the_one_before_is_taken(tmp_path, capsys):
    for step in (1, 2):
        save_state(tmp_path, step, {"trainer": torch.full((1000,), float(step))})
    path = tmp_path / "training-state-000002.pt"
    data = bytearray(path.read_bytes())
    # in the middle of the numbers
    data[data.index(torch.full((4,), 2.0).numpy().tobytes()) + 100] ^= 1
    path.write_bytes(data)
    assert torch.load(path, weights_only=True)["trainer"].shape == (1000,)  # torch does not notice
    assert load_state(tmp_path)["trainer"][0] == 1
    assert f"{path} is damaged" in capsys.readouterr().out
    save_state(tmp_path, 2, {"trainer": torch.zeros(1)})
    assert load_state(tmp_path)["trainer"].shape == (1,) and numbers(tmp_path) == [1, 2]


def test_a_damaged_state_does_not_push_sound_ones_out(tmp_path):
    for step in (1, 2, 9):
        save_state(tmp_path, step, {"trainer": step})
    (tmp_path / "training-state-000009.pt").write_bytes(b"half of it")
    for step in (3, 4):
        save_state(tmp_path, step, {"trainer": step})
    assert {3, 4} <= set(numbers(tmp_path)) and load_state(tmp_path)["trainer"] == 4


def test_a_state_that_is_not_sound_is_passed_over(tmp_path, capsys):
    """Older versions wrote them over the good ones."""
    for step, value in ((1, 1.0), (2, float("nan"))):
        save_state(tmp_path, step, {"trainer": {"G": {"w": torch.tensor([value])}}})
    assert load_state(tmp_path)["trainer"]["G"]["w"] == 1
    assert (
        "000002.pt is damaged: trainer.G.w holds numbers that are not finite; trying"
        in capsys.readouterr().out
    )


def test_states_without_a_hash_are_read(tmp_path):
    torch.save({"trainer": 7}, tmp_path / "training-state-000001.pt")
    assert load_state(tmp_path)["trainer"] == 7


def test_a_state_is_an_archive_that_other_programs_read(tmp_path):
    save_state(tmp_path, 1, {"trainer": torch.ones(3)})
    path = tmp_path / "training-state-000001.pt"
    assert torch.load(path, weights_only=True)["trainer"].tolist() == [1, 1, 1]
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None and archive.comment.startswith(b"gghead blake2b ")


def test_what_a_killed_process_had_half_written_goes_when_the_run_is_resumed(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    half, own = (
        tmp_path / f".training-state-000001.pt.{pid}.tmp" for pid in (gone.pid, os.getpid())
    )
    for path in (half, own, tmp_path / ".notes.tmp"):
        path.write_bytes(b"half")
    StatsWriter(tmp_path, tensorboard=False).close()
    assert half.exists()  # a new run in an old folder is none of our business
    StatsWriter(tmp_path, tensorboard=False, done=3).close()
    assert not half.exists() and own.exists() and (tmp_path / ".notes.tmp").exists()


@pytest.mark.parametrize("size", [0, 1, 30, 200])
def test_truncated_states_are_damaged(tmp_path, size, capsys):
    save_state(tmp_path, 1, {"trainer": torch.ones(3)})
    path = tmp_path / "training-state-000001.pt"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UserError, match="holds no readable training-state"):
        load_state(tmp_path)
    assert "is damaged" in capsys.readouterr().out
