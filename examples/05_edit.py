"""Edits of one head: the directions in which heads differ most, and parts of another head.

What one sees in ``out/examples/05_edit.png``: two rows that move along a principal component of
the styles, from -2 to +2 standard deviations; then a row with the head, another one, the first with
the other's coarse layers (shape), and the first with its fine layers (color).
"""

from pathlib import Path

import numpy as np
import torch

import gghead
from gghead.editing import find_directions, mix_layers
from gghead.figures import beside, to_uint8, write_png
from gghead.sampling import seed_latents


@torch.no_grad()
def main(out: Path = Path("out/examples"), size: int = 192, samples: int = 2000) -> None:
    model = gghead.load("demo")
    head, other = seed_latents(model, [3, 8], truncation_psi=0.7)
    directions = find_directions(model, samples=samples, count=2)
    rows = [
        [directions.move(head, component, sigmas) for sigmas in (-2.0, -0.7, 0.7, 2.0)]
        for component in (0, 1)
    ]
    half = model.num_ws // 2
    coarse, fine = range(half), range(half, model.num_ws)
    rows.append([head, other, mix_layers(model, head, other, coarse)])
    rows[-1].append(mix_layers(model, head, other, fine))
    camera = gghead.Cameras.orbit(0.25)

    def draw(latent: gghead.Latent) -> np.ndarray:
        return to_uint8(model.render(latent.gaussians(model), camera, size).color[0, 0])

    sheet = np.concatenate([beside([draw(latent) for latent in row]) for row in rows])
    write_png(out / "05_edit.png", sheet)
    print(out / "05_edit.png")


if __name__ == "__main__":
    main()
