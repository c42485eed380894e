"""Latent files of a small network, as inversion leaves them."""

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
