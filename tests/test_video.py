import shutil
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


@pytest.fixture
def no_encoder(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)  # import av raises ImportError
    monkeypatch.setattr(shutil, "which", lambda name: None)


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


def test_mp4_without_encoder_names_the_ways_out(tmp_path, frames, no_encoder):
    with pytest.raises(UserError, match=r"pip install av.*ffmpeg.*\.webp or \.gif"):
        save_video(frames, tmp_path / "turn.mp4")
    with pytest.raises(UserError, match=r"turn.mp4.*pip install av.*ffmpeg"):
        check_writable(tmp_path / "turn.mp4")  # before the frames are made
    check_writable(tmp_path / "turn.webp")
    assert not list(tmp_path.iterdir())


def test_mp4_through_ffmpeg_program(tmp_path, frames, monkeypatch):
    # A stand-in for ffmpeg that stores its arguments and the raw pixels it was fed.
    program = tmp_path / "ffmpeg"
    program.write_text(
        f"#!{sys.executable}\nimport sys\ndata = sys.stdin.buffer.read()\nopen(sys.argv[-1],"
        " 'wb').write(' '.join(sys.argv).encode() + b'|' + data)\n"
    )
    program.chmod(0o755)
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setattr(shutil, "which", lambda name: str(program))
    save_video(frames, tmp_path / "turn.mp4", fps=25)
    arguments, pixels = (tmp_path / "turn.mp4").read_bytes().split(b"|", 1)
    assert b"-s 48x34 -r 25" in arguments, "H.264 needs even sizes"
    assert np.array_equal(
        np.frombuffer(pixels, np.uint8).reshape(6, 34, 48, 3)[:, :33, :47], frames
    )


def test_failing_ffmpeg_is_one_sentence(tmp_path, frames, monkeypatch):
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\ncat > /dev/null\necho 'Unknown encoder libx264' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setattr(shutil, "which", lambda name: str(program))
    with pytest.raises(UserError, match="Unknown encoder libx264"):
        save_video(frames, tmp_path / "turn.mp4")


def test_mp4_through_pyav(tmp_path, frames):
    av = pytest.importorskip("av", reason="PyAV is not installed (the [video] extra)")
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
