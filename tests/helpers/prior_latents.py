"""Latents to learn from, and latent files of a small network as inversion leaves them."""

import torch

from gghead import latent as latent_files
from gghead.latent import Latent


def write_latents(folder, model, count=6, seed=0, residual=True):
    """Latent files as an encoder writes them: <target>/latent-encoder.safetensors."""
    random = torch.Generator().manual_seed(seed)
    side = model.config.latent_resolution
    for index in range(count):
        ws = torch.randn(1, model.num_ws, model.config.w_dim, generator=random)
        z = torch.randn(1, model.synthesis.out_channels, side, side, generator=random)
        latent = Latent(
            ws, z if residual else None, info={"target": f"p{index}", "stage": "encoder"}
        )
        latent_files.save(folder / f"p{index}" / "latent-encoder.safetensors", latent, model)
    return folder


def some_latents(count=400, rows=4, residual=True, seed=0):
    random = torch.Generator().manual_seed(seed)
    mixing = torch.randn(8, 8, generator=random)
    ws = torch.randn(count, rows, 8, generator=random) @ mixing + 0.5
    z = (
        torch.randn(count, 6, 4, 4, generator=random)
        * torch.tensor([3.0, 2, 1, 0.5, 0.1, 0])[:, None, None]
        + 1
    )
    return Latent(ws, z if residual else None)
