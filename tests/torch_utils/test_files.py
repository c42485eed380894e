"""Atomic writing and the cache folder."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from gghead.data.zip_writer import ZipWriter
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.files import by_number, cache_dir, file_part, make_folder, write_atomically
from gghead.video import save_video


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.bin"
    write_atomically(path, lambda file: file.write(b"old"))

    def fail(file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="file.bin could not be written .No space left on device"):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(UserError, match="could not be written"):
        write_atomically(tmp_path / "missing" / "file.bin", lambda file: file.write(b"x"))


def test_folders_are_made_with_those_above_them_or_refused_in_a_sentence(tmp_path):
    assert make_folder(tmp_path / "a/b") == tmp_path / "a/b" and (tmp_path / "a/b").is_dir()
    assert make_folder(str(tmp_path / "a")) == tmp_path / "a"
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="The folder .*file/inside cannot be made"):
        make_folder(tmp_path / "file" / "inside")


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir("texels") == tmp_path / "gghead" / "texels"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir("texels") == Path.home() / ".cache" / "gghead" / "texels"


@pytest.mark.parametrize(
    "name", ["../../x", "/etc/x", "a/b", "..", ".hidden", "a\\b", "a\nb", "a\0b"]
)
def test_a_name_out_of_a_file_is_one_part_of_a_path(name, tmp_path):
    part = file_part(name)
    assert (tmp_path / part).parent == tmp_path and not part.startswith(".") and part.isprintable()
    assert file_part("anne-0-1") == "anne-0-1" and file_part("Zoë v1.2") == "Zoë v1.2"


def test_files_are_ordered_by_number_beyond_a_million():
    names = ["a-000010.pt", "a-975000.pt", "a-1000000.pt", "b-000001.pt", "b.pt"]
    assert [path.name for path in by_number(map(Path, reversed(names)))] == [
        *names[:3],
        "b.pt",
        "b-000001.pt",
    ]


def test_a_disk_that_fills_up_under_torch_save_is_a_sentence(tmp_path):
    """torch.save then raises a RuntimeError ("unexpected pos"), with which training runs ended."""

    class Full:
        def __init__(self, file):
            self.file, self.room = file, 1 << 16

        def write(self, data):
            self.room -= len(data)
            if self.room < 0:
                raise OSError(28, "No space left on device")
            return self.file.write(data)

        def flush(self):
            self.file.flush()

    with pytest.raises(UserError, match="state.pt could not be written .No space left on device"):
        write_atomically(
            tmp_path / "state.pt", lambda file: torch.save({"a": torch.zeros(1 << 18)}, Full(file))
        )
    assert not list(tmp_path.iterdir())

    def fail(file):
        raise RuntimeError("a mistake of ours")

    with pytest.raises(RuntimeError, match="a mistake of ours"):
        write_atomically(tmp_path / "state.pt", fail)


def test_a_file_that_reads_back_as_something_else_is_not_put_in_place(tmp_path):
    path = tmp_path / "file.bin"
    write_atomically(path, lambda file: file.write(b"old"))

    def check(temporary):
        assert temporary.read_bytes() == b"new" and path.read_bytes() == b"old"
        raise UserError("file.bin reads back as something else")

    with pytest.raises(UserError, match="reads back as something else"):
        write_atomically(path, lambda file: file.write(b"new"), check)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(
    not Path("/proc/self/fd").is_dir(), reason="the system does not name open files"
)
def test_content_is_on_the_disk_before_the_name_and_the_name_before_the_end(tmp_path, monkeypatch):
    synced, order = os.fsync, []
    monkeypatch.setattr(
        os,
        "fsync",
        lambda descriptor: (
            order.append(os.readlink(f"/proc/self/fd/{descriptor}")),
            synced(descriptor),
        ),
    )
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *paths: (order.append("renamed"), replace(*paths)))
    write_atomically(tmp_path / "file.bin", lambda file: file.write(b"x"))
    at = order.index("renamed")
    assert (
        all(name.endswith(".tmp") for name in order[:at])
        and at > 0
        and order[at + 1 :] == [str(tmp_path)]
    )


def test_a_disk_that_is_full_only_when_it_is_asked_to_keep_the_file_is_a_sentence(
    tmp_path, monkeypatch
):
    """Network drives and those with delayed allocation take writes and refuse later."""

    def full(descriptor):
        raise OSError(28, "No space left on device")

    (tmp_path / "set.zip").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full)
    frames = np.zeros((2, 8, 8, 3), np.uint8)
    with pytest.raises(
        UserError, match="turn.gif could not be written .No space left on device.; free space"
    ):
        save_video(frames, tmp_path / "turn.gif")
    with pytest.raises(UserError, match="set.zip cannot be written .No space left on device"):
        with ZipWriter(tmp_path / "set.zip") as writer:
            writer.add_file("a", b"1")
    with pytest.raises(UserError, match="file.bin could not be written .No space left on device"):
        write_atomically(tmp_path / "file.bin", lambda file: file.write(b"x"))
    assert [path.name for path in tmp_path.iterdir()] == ["set.zip"]
    assert (tmp_path / "set.zip").read_bytes() == b"old"
