"""An avatar: one person, moved by expression coefficients.

What one sees in ``out/examples/09_avatar.webp``: frames of a synthetic person that the avatar was
not trained on at the left, the avatar with the same coefficients at the right. After some seconds
of training it is a blurred likeness that opens mouth and eyes; ``gghead train avatar`` goes on for
minutes.
"""

from dataclasses import replace
from pathlib import Path

import gghead
from gghead.animation.drive import read_drive
from gghead.animation.show import avatar_images
from gghead.data.dataset_zip import ZipWriter
from gghead.data.synthetic.sequence import sample_scenes, write
from gghead.figures import beside, to_uint8
from gghead.training import train_avatar
from gghead.training.avatar.config import PRESETS
from gghead.video import save_video


def main(
    out: Path = Path("out/examples"), size: int = 64, frames: int = 40, iterations: int = 250
) -> None:
    data = out / "09_person.zip"
    out.mkdir(parents=True, exist_ok=True)
    with ZipWriter(data) as writer:
        write(
            writer, sample_scenes(frames, size, seed=3, fps=12.0), 12.0, test=frames // 4, workers=1
        )
    config = replace(
        PRESETS["tiny"], data=str(data), resolution=(size, size), iterations=iterations
    )
    folder = train_avatar(config, out / "09_runs")
    avatar = gghead.load(folder, kind="avatar")
    drive = read_drive(str(data), avatar.config, split="test")
    assert drive.frames is not None  # a table of weights has none
    film = []
    for index, drawn in enumerate(avatar_images(avatar, drive.expression, drive.frames.cameras)):
        film.append(beside([to_uint8(drive.frames.over(index)), to_uint8(drawn)]))
    save_video(film, out / "09_avatar.webp", fps=12)
    print(folder, out / "09_avatar.webp")


if __name__ == "__main__":
    main()
