"""The way from one head to another, through the space of styles.

What one sees in ``out/examples/03_interpolate.png``: the head of one seed at the left, that of
another at the right, and heads between them that are heads as well, not two images faded over each
other. The second row goes on from the average head (psi 0) to the first head (psi 1).
"""

from pathlib import Path

import numpy as np
import torch

import gghead
from gghead.editing import between
from gghead.figures import beside, to_uint8, write_png
from gghead.sampling import seed_latents


@torch.no_grad()
def main(out: Path = Path("out/examples"), size: int = 192, steps: int = 6) -> None:
    model = gghead.load("demo")
    first, second = seed_latents(model, [1, 9], truncation_psi=0.8)
    shares = np.linspace(0, 1, steps)
    rows = [
        [between(first, second, float(share)) for share in shares],
        [first.truncate(model, float(share)) for share in shares],
    ]
    camera = gghead.Cameras.orbit(0.3)

    def draw(latent: gghead.Latent) -> np.ndarray:
        return to_uint8(model.render(latent.gaussians(model), camera, size).color[0, 0])

    sheet = np.concatenate([beside([draw(latent) for latent in row]) for row in rows])
    write_png(out / "03_interpolate.png", sheet)
    print(out / "03_interpolate.png")


if __name__ == "__main__":
    main()
