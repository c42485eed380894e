"""Frames of videos by number."""

import pickle
import sys

import numpy as np
import pytest

from gghead.data import video_frames
from gghead.data.files import FolderSource
from gghead.data.video_frames import VideoFrames, is_video_frame
from gghead.torch_utils.errors import UserError

av = pytest.importorskip("av", reason="PyAV is not installed")
COUNT = 5


def write(path, container=None):
    """Frame i is a gray of 40 i."""
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        for index in range(COUNT):
            pixels = np.full((16, 32, 3), 40 * index, np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode())


def gray(frames, name):
    image = frames.read(name)
    assert image.shape == (16, 32, 3) and image.dtype == np.uint8
    return round(image.mean() / 40)


@pytest.fixture
def frames(tmp_path):
    write(tmp_path / "a.mp4")
    return VideoFrames(FolderSource(tmp_path))


def test_frames_are_read_in_any_order(frames):
    assert [gray(frames, f"a.mp4#{index}") for index in (3, 0, 1, 4, 4)] == [3, 0, 1, 4, 4]


@pytest.mark.parametrize(("name", "container"), [("b.mp4", "mp4"), ("b.mkv", "matroska")])
def test_frames_are_counted_even_if_the_file_does_not_say_how_many(
    frames, tmp_path, name, container
):
    """Matroska has no field for their number."""
    write(tmp_path / name, container)
    assert gray(frames, f"{name}#2") == 2
    assert frames.count(name) == COUNT
    assert gray(frames, f"{name}#1") == 1


def test_a_frame_after_the_end_is_named(frames):
    with pytest.raises(UserError, match=r"a.mp4 in .* ends or is damaged at frame 5, but frame 7"):
        frames.read("a.mp4#7")
    assert gray(frames, "a.mp4#1") == 1


def test_few_videos_are_open_at_a_time(frames, tmp_path, monkeypatch):
    monkeypatch.setattr(video_frames, "_OPEN", 2)
    for name in ("b.mp4", "c.mp4"):
        write(tmp_path / name)
    first = frames._decoder("a.mp4")
    for name in ("b.mp4", "a.mp4", "c.mp4"):
        assert gray(frames, f"{name}#1") == 1
    assert list(frames._local.decoders) == ["a.mp4", "c.mp4"]
    assert frames._decoder("a.mp4") is first and not first.file.closed


def test_a_pickled_reader_opens_the_videos_again(frames):
    assert gray(frames, "a.mp4#2") == 2
    assert gray(pickle.loads(pickle.dumps(frames)), "a.mp4#2") == 2


def test_without_pyav_there_is_a_remedy(frames, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match="a.mp4 in .* needs PyAV.*: pip install av, or extract"):
        frames.read("a.mp4#0")


def test_names_of_frames_end_in_a_number_after_the_video():
    assert is_video_frame("a/b.MP4#17") and is_video_frame("a#b.webm#0")
    assert not is_video_frame("b.mp4") and not is_video_frame("b.png#1")
