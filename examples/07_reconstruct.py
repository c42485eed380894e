"""Several views of one head to its latent.

What one sees in ``out/examples/07_reconstruct.png``: above the views of a synthetic person, below
the head from the same cameras, and at the right from one that no view had. The encoder here is new
and answers with the average head, so refining the latent on the views does the work; an encoder
from ``gghead train encoder`` is near after one pass and needs no refining.
"""

from pathlib import Path

import numpy as np
import torch

import gghead
from gghead.data.synthetic.scenes import Request, draw
from gghead.figures import beside, to_uint8, write_png
from gghead.models.reconstructor_config import ReconstructorConfig


def main(out: Path = Path("out/examples"), size: int = 192, steps: int = 60) -> None:
    demo = gghead.load("demo")
    model = gghead.Reconstructor(ReconstructorConfig(demo.config, width=64, layers=1, heads=2))
    model.generator.load_state_dict(demo.state_dict())
    model = model.eval().requires_grad_(False)
    request = Request(num=16, resolution=demo.config.image_size, seed=2, views=4)
    scenes = [draw(request, index) for index in range(4)]  # four views of the first person
    views = [np.dstack([image.rgb, image.alpha]) for image, _, _ in scenes]
    labels = np.stack([label for _, label, _ in scenes])
    cameras = gghead.Cameras.from_label(torch.tensor(labels, dtype=torch.float32))
    latent = gghead.reconstruct(views, cameras, model, refine_steps=steps)
    shown = gghead.Cameras.cat([cameras, gghead.Cameras.orbit(torch.tensor([-0.8]))])
    with torch.no_grad():
        color = demo.render(latent.gaussians(demo), shown, size).color[0]
    truth = torch.tensor(np.stack(views)).movedim(-1, 1).float() / 255
    truth = truth[:, :3] * truth[:, 3:] + 1 - truth[:, 3:]
    truth = torch.nn.functional.interpolate(truth, size=(size, size), mode="nearest")
    blank = torch.ones_like(truth[:1])
    rows = [beside(to_uint8(torch.cat([truth, blank]))), beside(to_uint8(color))]
    write_png(out / "07_reconstruct.png", np.concatenate(rows))
    print(out / "07_reconstruct.png")


if __name__ == "__main__":
    main()
