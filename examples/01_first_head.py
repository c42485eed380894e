"""Four heads of the shipped network, each from three sides.

What one sees in ``out/examples/01_first_head.png``: a row per seed. The camera moves from the
subject's left to the right; the head stays the same, because it is a cloud of Gaussians in 3D.
"""

from pathlib import Path

import numpy as np
import torch

import gghead
from gghead.figures import beside, to_uint8, write_png


def main(out: Path = Path("out/examples"), size: int = 256, seeds: int = 4) -> None:
    model = gghead.load("demo")
    cameras = gghead.Cameras.orbit(yaw=torch.tensor([0.5, 0.0, -0.5]))
    rows = []
    for seed in range(seeds):
        head = model.sample(seed, psi=0.7)  # psi < 1: nearer to the average head
        print(f"seed {seed}: {head}")
        color = model.render(head, cameras, size).color  # [1 head, 3 views, 3, H, W]
        rows.append(beside(to_uint8(color[0])))
    write_png(out / "01_first_head.png", np.concatenate(rows))
    print(out / "01_first_head.png")


if __name__ == "__main__":
    main()
