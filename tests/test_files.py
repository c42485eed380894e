"""Atomic writing and the cache folder."""

from pathlib import Path

import pytest
import torch

from gghead.torch_utils.errors import UserError
from gghead.torch_utils.files import by_number, cache_dir, make_folder, write_atomically


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


def test_files_are_ordered_by_number_beyond_a_million():
    names = ["a-000010.pt", "a-975000.pt", "a-1000000.pt", "b-000001.pt", "b.pt"]
    assert [path.name for path in by_number(map(Path, reversed(names)))] == [*names[:3], "b.pt", "b-000001.pt"]


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
        write_atomically(tmp_path / "state.pt", lambda file: torch.save({"a": torch.zeros(1 << 18)}, Full(file)))
    assert not list(tmp_path.iterdir())

    def fail(file):
        raise RuntimeError("a mistake of ours")

    with pytest.raises(RuntimeError, match="a mistake of ours"):
        write_atomically(tmp_path / "state.pt", fail)
