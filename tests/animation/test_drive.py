"""Tables that drive heads and avatars: recordings of Live Link Face, spellings, what is left
out."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers.video_frames import frames_of

from gghead.animation.animate import sliders
from gghead.animation.drive import read_drive, read_table
from gghead.cli.animate import main
from gghead.models.avatar_config import AvatarConfig
from gghead.template.sliders import ARKIT, Sliders
from gghead.torch_utils.errors import UserError

CAPITALS = [name[0].upper() + name[1:] for name in ARKIT]
ANGLES = [
    f"{what}{angle}"
    for what in ("Head", "LeftEye", "RightEye")
    for angle in ("Yaw", "Pitch", "Roll")
]


def write_recording(path, frames=150, rate=60, start=(10, 59, 58), **weights):
    """A CSV as Live Link Face writes it, of ``rate`` frames per second; ``weights`` by the app's
    names."""
    rows = [["Timecode", "BlendShapeCount", *CAPITALS, *ANGLES]]
    for index in range(frames):
        hours, minutes, seconds = start
        total = (hours * 3600 + minutes * 60 + seconds + index // rate) % 86400
        clock = f"{total // 3600:02d}:{total // 60 % 60:02d}:{total % 60:02d}"
        code = f"{clock}:{index % rate:02d}.{index % 7:03d}"
        values = [f"{weights.get(name, 0.0) * index / frames:.8f}" for name in CAPITALS]
        rows.append([code, "61", *values, *(f"{0.01 * index:.8f}" for _ in ANGLES)])
    path.write_text("\n".join(",".join(row) for row in rows) + "\n")
    return path


def test_a_recording_of_live_link_face_drives_heads_as_it_is(tmp_path):
    path = write_recording(tmp_path / "take.csv", JawOpen=1.0, EyeBlinkLeft=0.6, MouthPucker=0.3)
    wanted = sliders()
    drive = read_drive(str(path), wanted)
    assert (
        drive.fps == 60 and drive.expression.shape == (150, wanted.width) and drive.frames is None
    )
    at = {name: index for index, name in enumerate(wanted.coefficient_names)}
    last = drive.expression[-1] * 150 / 149
    for name, value in (
        ("jawOpen", 1.0),
        ("eyeBlinkLeft", 0.6),
        ("mouthPucker", 0.3),
        ("eyeBlinkRight", 0.0),
    ):
        assert float(last[at[name]]) == pytest.approx(value, abs=1e-6), name
    assert drive.left_out == tuple(ANGLES)


def test_a_recording_drives_avatars_too_whatever_their_spelling(tmp_path):
    path = write_recording(tmp_path / "take.csv", JawOpen=1.0, EyeBlinkLeft=0.6)
    config = AvatarConfig(width=3, coefficient_names=("eyeBlink_L", "jawOpen", "own"))
    drive = read_drive(str(path), config)
    torch.testing.assert_close(drive.expression[-1] * 150 / 149, torch.tensor([0.6, 1.0, 0.0]))
    assert drive.at_rest == ("own",)


@pytest.mark.parametrize(("rate", "start"), [(30, (0, 0, 0)), (60, (23, 59, 59))])
def test_the_rate_is_that_of_the_timecode_past_midnight_too(tmp_path, rate, start):
    assert (
        read_table(write_recording(tmp_path / "t.csv", frames=3 * rate, rate=rate, start=start)).fps
        == rate
    )


def test_less_than_two_seconds_say_nothing_about_the_rate(tmp_path):
    assert read_table(write_recording(tmp_path / "t.csv", frames=20)).fps is None


def test_the_command_makes_a_video_of_a_recording(tmp_path):
    path = write_recording(tmp_path / "take.csv", JawOpen=1.0)
    out = tmp_path / "out" / "said.gif"
    result = CliRunner().invoke(
        main,
        ["--seeds=1", f"--drive={path}", "--only-frames=0,149", f"--output={out}", "--size=32"],
    )
    assert result.exit_code == 0 and "No shape for HeadYaw" in result.output, result.output
    shown = frames_of(out).astype(int)
    assert len(shown) == 2 and np.abs(shown[0] - shown[1]).max() > 60  # the mouth opens


def test_a_name_in_two_spellings_is_refused(tmp_path):
    (tmp_path / "w.csv").write_text("jawOpen,JawOpen\n0,1\n")
    with pytest.raises(UserError, match="the coefficient 'jawOpen' twice, in one spelling or two"):
        read_drive(str(tmp_path / "w.csv"), Sliders(("jawOpen",)))


def test_a_broken_line_of_a_recording_is_named(tmp_path):
    path = write_recording(tmp_path / "take.csv", frames=3)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], ",".join(lines[2].split(",")[:20])]))
    with pytest.raises(UserError, match="Line 3 of .* has 20 values, but 63 are expected"):
        read_table(path)
    (tmp_path / "only.csv").write_text("Timecode,BlendShapeCount\n10:00:00:00.000,0\n")
    with pytest.raises(UserError, match="holds no weights beside Timecode, BlendShapeCount"):
        read_table(tmp_path / "only.csv")
