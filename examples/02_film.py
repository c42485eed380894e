"""A film of one head.

What one sees in ``out/examples/02_film.webp`` (any browser plays it): a camera that swings to and
fro in front of a head, the alpha channel beside it. Where alpha is white, no background shines
through. The shipped network saw faces from the front only, so the camera stays there;
``gghead.Cameras.turntable`` goes all the way round.
"""

from pathlib import Path

import torch

import gghead
from gghead.figures import beside, to_uint8
from gghead.video import save_video


@torch.no_grad()
def main(out: Path = Path("out/examples"), size: int = 192, frames: int = 40) -> None:
    model = gghead.load("demo")
    head = model.sample(seed=6, psi=0.7)
    film = []
    for camera in gghead.Cameras.sweep(frames, yaw_range=0.7, pitch=0.1):
        drawn = model.render(head, camera, size)
        alpha = drawn.alpha[0, 0].expand(3, size, size)
        film.append(beside([to_uint8(drawn.color[0, 0]), to_uint8(alpha)]))
    save_video(film, out / "02_film.webp", fps=20)
    print(out / "02_film.webp")


if __name__ == "__main__":
    main()
