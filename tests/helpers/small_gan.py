"""A GAN that trains within a second: options, a data set of six images, a config and batches."""

import json
from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from gghead.cameras import Cameras
from gghead.models.config import DiscriminatorConfig, GeneratorConfig
from gghead.training.gan.augment import AugmentConfig
from gghead.training.gan.config import DataConfig, LossConfig, OptimizerConfig, Stage, TrainConfig

SMALL = [
    "--set=generator.plane_resolution=16",
    "--set=generator.latent_resolution=8",
    "--set=generator.template=sphere",
    "--set=stages.image_size=32",
    "--set=stages.grid=16",
    "--cbase=128",
    "--cmax=8",
    "--batch=4",
    "--tick=0.008",
    "--snap=1",
    "--device=cpu",
    "--fp32=1",
]
SIZE, BATCH = 16, 8


def write_dataset(folder, count=6, size=32, masks=True):
    random = np.random.RandomState(0)
    labels = Cameras.orbit(torch.linspace(-0.4, 0.4, count)).label().tolist()
    names = [f"img{i}.png" for i in range(count)]
    folder.mkdir()
    for name in names:
        Image.fromarray(random.randint(0, 256, (size, size, 3), dtype=np.uint8)).save(folder / name)
    content = {"labels": [list(pair) for pair in zip(names, labels, strict=True)]}
    if masks:
        (folder / "masks").mkdir()
        content["masks"] = {name: f"masks/{name}" for name in names}
        for name in names:
            Image.fromarray(random.randint(100, 256, (size, size), dtype=np.uint8)).save(
                folder / "masks" / name
            )
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def tiny_config(**changes):
    config = TrainConfig(
        data=DataConfig(background="random"),
        generator=GeneratorConfig(
            z_dim=8,
            w_dim=8,
            template="sphere",
            plane_resolution=16,
            latent_resolution=8,
            cbase=128,
            cmax=8,
            grid=16,
            image_size=SIZE,
        ),
        discriminator=DiscriminatorConfig(cbase=128, cmax=8, map_depth=1),
        loss=LossConfig(r1_interval=2, blur_sigma=1.5, blur_fade_kimg=0.05),
        optimizer=OptimizerConfig(ema_kimg=0.05),
        augment=AugmentConfig(mode="ada", initial_p=0.3, interval=2, kimg=0.1),
        stages=(Stage(image_size=SIZE, grid=16, lambda_tv=1.0, lambda_beta=0.1),),
        batch=BATCH,
        kimg=1,
    )
    return replace(config, **changes)


def labels(count=5):
    return Cameras.orbit(torch.linspace(-0.5, 0.5, count)).label()


def batch_at(step, size=SIZE, count=BATCH):
    source = torch.Generator().manual_seed(step)
    return {
        "image": torch.randint(0, 256, (count, 3, size, size), generator=source, dtype=torch.uint8),
        "alpha": torch.randint(0, 256, (count, 1, size, size), generator=source, dtype=torch.uint8),
        "label": labels(count),
    }
