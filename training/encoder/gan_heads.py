"""Heads of a reconstructor's own generator as test heads: what a round trip through pictures loses
of a latent."""

from collections.abc import Iterator, Sequence

import torch

from gghead.cameras import Cameras
from gghead.models.generator import Generator
from gghead.reconstruction.inputs import InputViews
from gghead.torch_utils.errors import UserError
from gghead.training.encoder.score import TestHead

YAWS = (*range(-75, 76, 10), 90, -90, 135, 180)  # degrees; mvheads' cameras without their scatter
PITCHES = (15, -10, 5, 25, 0, -15, 10, 20)  # degrees, in turn
FOCAL = 2.9  # shows the whole head, as mvheads does


@torch.no_grad()
def gan_heads(
    model: Generator, seeds: Sequence[int], size: int, psi: float = 0.7
) -> Iterator[TestHead]:
    """Yield the heads of seeds, truncated to ``psi``, drawn in 8 bits over white from 20 cameras.

    Raises ``UserError`` for a generator that has never made heads of seeds: that of an encoder
    trained on captures alone.
    """
    if not bool(model.mapping.w_avg.any()):
        raise UserError(
            "The generator behind this encoder was not trained as a GAN, so its seeds are no heads;"
            " score an encoder that was trained with --init=GAN."
        )
    yaw = torch.tensor(YAWS, dtype=torch.float32)
    pitch = torch.tensor(
        [PITCHES[index % len(PITCHES)] for index in range(len(YAWS))], dtype=torch.float32
    )
    cameras = Cameras.orbit(torch.deg2rad(yaw), torch.deg2rad(pitch), focal=FOCAL).to(model.device)
    names = tuple(f"{index:02d}" for index in range(len(YAWS)))
    for seed in seeds:
        ws = model.mapping(model.seed_to_z(seed), model.neutral_label(), psi)
        out = model.render(model.gaussians(ws), cameras, size, depth=False)
        rgb, alpha = (
            ((value[0].clamp(0, 1) * 255).round() / 255) for value in (out.color, out.alpha)
        )
        yield TestHead(str(seed), "0", InputViews(rgb, alpha, cameras, names))
