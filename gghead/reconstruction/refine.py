"""Optimizing an encoded latent on the views it came from.

Styles and the residual on Z, with known cameras.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from gghead.cameras import Cameras
from gghead.inversion.objective import Objective, draw
from gghead.inversion.stages import ramp
from gghead.latent import Latent
from gghead.models.generator import Generator
from gghead.reconstruction.config import RefineConfig
from gghead.reconstruction.inputs import InputViews
from gghead.torch_utils import threads
from gghead.torch_utils.errors import UserError


def refine(
    model: Generator,
    latent: Latent,
    views: InputViews,
    config: RefineConfig,
    progress: Callable[[int, float], None] = lambda step, loss: None,
) -> Latent:
    """Return the best latent (batch size 1) that was met.

    On the views it is never worse than the given one.

    ``views`` must be square. Raises ``UserError`` for others, and where the loss is not finite.
    """
    if views.size[0] != views.size[1]:
        raise UserError(
            f"Refining needs square images, but these are {views.size[0]}x{views.size[1]}."
        )
    objective = Objective(model, views.rgb, views.alpha if views.masked else None, config.objective)
    with torch.no_grad():
        z = model.latent(latent.ws).float()
        residual = torch.zeros_like(z) if latent.residual is None else latent.residual
        unit_ws = latent.ws.square().mean().sqrt().clamp_min(1e-3)
        unit_z = (z + residual).square().mean((2, 3), keepdim=True).sqrt().clamp_min(1e-3)
    raw = [
        torch.zeros_like(latent.ws).requires_grad_(True),
        torch.zeros_like(z).requires_grad_(True),
    ]
    adam = torch.optim.Adam(
        [{"params": [raw[0]], "base": config.rate_ws}, {"params": [raw[1]], "base": config.rate_z}],
        betas=(0.9, 0.99),
    )

    def move() -> Latent:
        return replace(latent, ws=latent.ws + unit_ws * raw[0], residual=residual + unit_z * raw[1])

    best, lowest = latent, float("inf")
    # The last one only looks at where the one before it went.
    for step in threads.steps(range(config.steps + 1), "refine", model.device):
        for group in adam.param_groups:
            group["lr"] = group["base"] * ramp(step / max(config.steps, 1))
        now = move()
        loss = _loss(model, now, views.cameras, objective)
        value = float(loss.detach())
        if value != value or value == float("inf"):
            raise UserError(
                f"The loss is not finite at step {step} of the refinement; use fewer steps or none."
            )
        if value < lowest:
            best, lowest = now.map(Tensor.detach), value
        progress(step, value)
        if step == config.steps:
            break
        prior = config.prior * sum(part.square().mean() for part in raw)
        adam.zero_grad(set_to_none=True)
        (loss + prior).backward(inputs=raw)
        adam.step()
    return best.to_file_precision()


def _loss(model: Generator, latent: Latent, cameras: Cameras, objective: Objective) -> Tensor:
    size = objective.target.shape[-1]
    out = draw(model, latent.gaussians(model), latent.ws, cameras, size)
    return objective(out.color[0], out.alpha[0]).mean()
