"""One head with other expressions, by the blendshapes of the head template.

What one sees in ``out/examples/06_expressions.png``: neutral, smile, open mouth, closed eyes,
puffed cheeks, side by side; and in ``06_expressions.webp`` a wink that comes and goes.
"""

import math
from pathlib import Path

import torch

import gghead
from gghead.figures import beside, to_uint8, write_png
from gghead.video import save_video

EXPRESSIONS = (
    {"jawOpen": 0.0},
    {"mouthSmileLeft": 1.0, "mouthSmileRight": 1.0},
    {"jawOpen": 0.8},
    {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0},
    {"cheekPuff": 1.0},
)


@torch.no_grad()
def main(out: Path = Path("out/examples"), size: int = 192, frames: int = 20) -> None:
    model = gghead.load("demo")
    head, camera = model.sample(seed=3, psi=0.7), gghead.Cameras.orbit(0.2)

    def draw(weights: dict) -> list:
        moved = gghead.animate(head, weights, model=model)  # one head per weight [T, N]
        return [to_uint8(model.render(one[None], camera, size).color[0, 0]) for one in moved]

    write_png(out / "06_expressions.png", beside([draw(weights)[0] for weights in EXPRESSIONS]))
    wave = [(1 - math.cos(2 * math.pi * t / frames)) / 2 for t in range(frames)]
    wink = {"eyeBlinkLeft": wave, "mouthSmileLeft": [0.7 * value for value in wave]}
    save_video(draw(wink), out / "06_expressions.webp", fps=20)
    print(out / "06_expressions.png", out / "06_expressions.webp")


if __name__ == "__main__":
    main()
