"""A few seconds of GAN training, as a call.

What one sees in ``out/examples/08_train_gan.png``: heads of the shipped network above, the same
seeds below after a few more steps on a few synthetic images. The discriminator is new, so the rate
of the generator is low and little changes. The run folder that is printed holds images, numbers
(``stats.jsonl``) and snapshots of the run.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

import gghead
from gghead.data.dataset_zip import DatasetWriter, encode_png, image_name
from gghead.data.synthetic.scenes import Request, scenes
from gghead.figures import beside, to_uint8, write_png
from gghead.training import train_gan
from gghead.training.gan.config import PRESETS


def main(out: Path = Path("out/examples"), size: int = 128, images: int = 32) -> None:
    data = out / "08_heads.zip"
    out.mkdir(parents=True, exist_ok=True)
    with DatasetWriter(data) as writer:
        for index, (image, label, _) in enumerate(scenes(Request(images, 128, seed=1))):
            mask = encode_png(image.alpha)
            writer.add(image_name(index), encode_png(image.rgb), label, mask)
    tiny, shipped = PRESETS["tiny"], gghead.load("demo").config
    config = replace(
        tiny,
        generator=shipped,
        stages=(replace(tiny.stages[0], image_size=shipped.image_size, grid=shipped.grid),),
        data=replace(tiny.data, path=str(data)),
        optimizer=replace(tiny.optimizer, g_lr=tiny.optimizer.g_lr / 20, ema_kimg=0.02),
        kimg=0.002 * images,  # every image twice
        tick_kimg=0.001 * images,
    )
    folder = train_gan(config, out / "08_runs", init="demo")
    camera, rows = gghead.Cameras.orbit(0.2), []
    assert folder is not None  # None is for further processes of a run
    for model in (gghead.load("demo"), gghead.load(folder, kind="generator")):
        heads = model.sample(range(5), psi=0.7)
        rows.append(beside(to_uint8(model.render(heads, camera, size).color[:, 0])))
    write_png(out / "08_train_gan.png", np.concatenate(rows))
    print(folder, out / "08_train_gan.png")


if __name__ == "__main__":
    main()
