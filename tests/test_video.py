import sys

import numpy as np
import pytest
from PIL import Image

from gghead.torch_utils.errors import UserError
from gghead.video import check_writable, save_video


@pytest.fixture
def frames():
    """Six frames, each of one color, of an odd size."""
    levels = np.array(
        [[250, 0, 0], [0, 250, 0], [0, 0, 250], [250, 250, 0], [0, 250, 250], [128, 128, 128]],
        np.uint8,
    )
    return np.broadcast_to(levels[:, None, None, :], (6, 33, 47, 3))


@pytest.mark.parametrize("suffix", [".webp", ".gif"])
def test_animation_keeps_frames_size_colors_and_timing(tmp_path, frames, suffix):
    path = tmp_path / "new" / f"turn{suffix}"
    save_video(frames, path, fps=12)
    with Image.open(path) as image:
        assert (image.size, image.n_frames) == ((47, 33), 6)
        total = 0
        for index in range(6):
            image.seek(index)
            image.load()
            total += image.info["duration"]
            shown = np.asarray(image.convert("RGB"), dtype=float).mean((0, 1))
            assert np.abs(shown - frames[index, 0, 0]).max() < 12, f"frame {index}"
    assert abs(total - 6 * 1000 / 12) <= 5, "milliseconds"
    assert [p.name for p in path.parent.iterdir()] == [path.name], "no temporary file stays"


def test_animation_plays_for_ever(tmp_path, frames):
    save_video(frames, tmp_path / "turn.webp")
    with Image.open(tmp_path / "turn.webp") as image:
        assert image.info["loop"] == 0


def test_mp4_without_pyav_names_the_ways_out(tmp_path, frames, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)  # import av raises ImportError
    said = r"/turn.mp4 needs PyAV, which does not load.*pip install av.*\.webp or \.gif"
    with pytest.raises(UserError, match=said):
        save_video(frames, tmp_path / "turn.mp4")
    with pytest.raises(UserError, match=said):
        check_writable(tmp_path / "turn.mp4")  # before the frames are made
    check_writable(tmp_path / "turn.webp")
    assert not list(tmp_path.iterdir())


def test_mp4_that_pyav_cannot_encode_is_one_sentence(tmp_path, frames, monkeypatch):
    av = pytest.importorskip("av", reason="PyAV is not installed")
    wide = np.zeros((1, 2, 2**14 + 2, 3), np.uint8)  # x264 takes at most 2^14 pixels a row
    with pytest.raises(UserError, match=r"16386x2 pixels as \.mp4 .*write \.webp or \.gif"):
        save_video(wide, tmp_path / "turn.mp4")

    def without_x264(*args, **kwargs):
        raise av.codec.codec.UnknownCodecError("libx264")

    monkeypatch.setattr("av.container.OutputContainer.add_stream", without_x264)
    with pytest.raises(UserError, match=r"\(libx264\): write \.webp or \.gif"):
        save_video(frames, tmp_path / "turn.mp4")
    assert not list(tmp_path.iterdir())


def test_mp4_through_pyav(tmp_path, frames):
    av = pytest.importorskip("av", reason="PyAV is not installed")
    save_video(frames, tmp_path / "turn.mp4", fps=12)
    with av.open(str(tmp_path / "turn.mp4")) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(decoded) == 6 and decoded[0].shape == (34, 48, 3)
    assert (
        np.abs(np.stack(decoded)[:, 8:24, 8:24].astype(float) - frames[:, 8:24, 8:24]).mean() < 12
    )


@pytest.mark.parametrize(
    ("broken", "name", "fps", "message"),
    [
        (np.zeros((2, 4, 4, 3), np.uint8), "turn.avi", 30, "must end in .mp4, .webp, .gif"),
        (np.zeros((2, 4, 4, 3), np.float32), "turn.webp", 30, "uint8"),
        (np.zeros((2, 4, 4), np.uint8), "turn.webp", 30, "one shape"),
        (
            [np.zeros((4, 4, 3), np.uint8), np.zeros((5, 4, 3), np.uint8)],
            "turn.webp",
            30,
            "one shape",
        ),
        ([], "turn.webp", 30, "one shape"),
        (np.zeros((2, 4, 4, 3), np.uint8), "turn.webp", 0, "fps"),
    ],
)
def test_wrong_input_is_one_sentence(tmp_path, broken, name, fps, message):
    with pytest.raises(ValueError, match=message):
        save_video(broken, tmp_path / name, fps)
    assert not list(tmp_path.iterdir())


def test_unwritable_folder_is_one_sentence(tmp_path, frames):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="could not be written"):
        save_video(frames, tmp_path / "file" / "turn.gif")
