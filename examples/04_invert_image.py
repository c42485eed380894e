"""From one image back to a head: the network's latent that looks like it.

What one sees in ``out/examples/04_invert_image.png``: the image of a synthetic person, the head
that was found, and that head from both sides, which the image does not show. The shipped network
is small; with one of your own and a photo only the first two lines of ``main`` change.
"""

from pathlib import Path

import numpy as np
import torch

import gghead
from gghead.data.synthetic.scenes import Request, draw
from gghead.figures import beside, to_uint8, write_png
from gghead.inversion import InversionConfig
from gghead.inversion.cameras import cameras_of


def main(out: Path = Path("out/examples"), size: int = 192, steps: int = 40) -> None:
    model = gghead.load("demo")
    image, label, _ = draw(Request(num=8, resolution=model.config.image_size, seed=5), 3)
    latent = gghead.invert(
        np.dstack([image.rgb, image.alpha]),
        model,
        method="z",
        camera=gghead.Cameras.from_label(torch.tensor(label, dtype=torch.float32)),
        config=InversionConfig(steps=(steps,) * 4, candidates=32),
        on_stage=lambda result: print(f"{result.stage}: {result.metrics[0]['psnr']:.1f} dB"),
    )
    gghead.latent.save(out / "04_invert_image.safetensors", latent, model)
    cameras = gghead.Cameras.cat(
        [cameras_of(latent), gghead.Cameras.orbit(torch.tensor([0.5, -0.5]))]
    )
    with torch.no_grad():
        color = model.render(latent.gaussians(model), cameras, size).color[0]
    # the image over white, as large as the heads
    target = torch.tensor(np.dstack([image.rgb, image.alpha])).movedim(-1, 0).float() / 255
    target = (target[:3] * target[3:] + 1 - target[3:])[None]
    target = torch.nn.functional.interpolate(target, size=(size, size), mode="nearest")
    write_png(out / "04_invert_image.png", beside(to_uint8(torch.cat([target, color]))))
    print(out / "04_invert_image.png")


if __name__ == "__main__":
    main()
