"""What turns views into heads, as the scorer calls it: the encoder, the fit, the bare template."""

from pathlib import Path

import torch

import gghead
from gghead.checkpoints import snapshot_file
from gghead.gaussians import Gaussians
from gghead.models.reconstructor import Reconstructor
from gghead.reconstruction.inputs import InputViews
from gghead.reconstruction.refine import RefineConfig, refine
from gghead.training.encoder.baseline import BaselineConfig, fit, template_head
from gghead.training.encoder.score import Method


def load_encoder(network: str | Path, device: torch.device) -> tuple[Path, Reconstructor]:
    """Load a reconstructor; return its file, too. Raises ``UserError`` as ``gghead.load``."""
    path = snapshot_file(network)
    return path, gghead.load(path, device=device, kind="reconstructor")


def encoder_method(model: Reconstructor, refine_steps: int = 0) -> Method:
    """One pass of the encoder, and so many steps of optimising its latent on the views."""

    def encode(views: InputViews) -> tuple[Gaussians, dict]:
        latent = model.encode(views.rgb[None], views.cameras.reshape(1, len(views)))
        if refine_steps:
            latent = refine(model.generator, latent, views, RefineConfig(steps=refine_steps))
        with torch.no_grad():
            return latent.gaussians(model.generator), {}

    return encode


def baseline_method(config: BaselineConfig) -> Method:
    """Fit every head anew."""

    def fitted(views: InputViews) -> tuple[Gaussians, dict]:
        found = fit(views.rgb, views.alpha, views.cameras, config)
        return found.head, {
            "steps": found.steps,
            "processor_seconds": round(found.processor_seconds, 2),
        }

    return fitted


def template_method(views: InputViews) -> tuple[Gaussians, dict]:
    """The fit's start: what colours alone achieve, and how far the bare template lies from the
    truth."""
    return template_head(views.rgb, views.alpha, views.cameras), {}
