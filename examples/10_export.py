"""A head as files that other programs open.

What one sees: ``out/examples/10_head.ply`` in any viewer of splats (drag it into
superspl.at/editor), ``10_template.obj`` in Blender, and in ``10_export.png`` the head as it was
beside the same head read back from the .ply.
"""

from pathlib import Path

import torch

import gghead
from gghead.figures import beside, to_uint8, write_png
from gghead.template import save_obj


@torch.no_grad()
def main(out: Path = Path("out/examples"), size: int = 256) -> None:
    model = gghead.load("demo")
    head = model.sample(seed=3, psi=0.7)
    head.save_ply(out / "10_head.ply")  # the layout of 3D Gaussian Splatting, -y up
    again = gghead.Gaussians.load_ply(out / "10_head.ply")[None]  # turned upright again
    camera = gghead.Cameras.orbit(yaw=0.4)
    images = [model.render(one, camera, size) for one in (head, again)]
    difference = (images[0].color - images[1].color).abs().max()
    write_png(out / "10_export.png", beside([to_uint8(image.color[0, 0]) for image in images]))
    save_obj(model.template, out / "10_template.obj")
    print(f"{head.num} Gaussians, largest difference of a pixel {float(difference):.4f}")
    for name in ("10_head.ply", "10_template.obj", "10_export.png"):
        print(out / name)


if __name__ == "__main__":
    main()
