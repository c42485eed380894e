"""``gghead.reconstruct``: views of one head to its latent, in one pass of a multi-view encoder."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from gghead.cameras import Cameras
from gghead.inversion.one_image import Pixels, to_pixels
from gghead.latent import Latent
from gghead.models.reconstructor import Reconstructor
from gghead.reconstruction.config import RefineConfig
from gghead.reconstruction.inputs import InputViews
from gghead.reconstruction.refine import refine


def reconstruct(
    images: InputViews | Tensor | Sequence[Pixels],
    cameras: Cameras | None,
    model: Reconstructor,
    *,
    refine_steps: int = 0,
    refinement: RefineConfig | None = None,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> Latent:
    """Reconstruct a head from V views of it: its latent (batch size 1) for ``model.generator``.

    >>> latent = gghead.reconstruct(images, cameras, model)
    >>> head = latent.gaussians(model.generator)

    Args:
        images: The views, of one size: a tensor [V, 3 or 4, H, W], uint8 or floats in [0, 1]; or
            a list of what ``gghead.invert`` takes as pixels. A fourth channel is the mask: without
            one, what stands behind the head is taken for a part of it. ``InputViews``, as
            ``gghead.reconstruction.read_inputs`` reads them, bring their cameras (``cameras`` is
            None then).
        cameras: Batch shape (V,).
        model: The encoder with its generator.
        refine_steps: Steps of optimizing the latent on the views afterwards; they must be square.
        refinement: Rates and weights of that; ``refine_steps`` replaces its steps.
        on_step: Is given step and loss of the refinement.

    Raises:
        ValueError: no view, views of different sizes, views and cameras that do not fit together,
            numbers that are not finite.
        TypeError: a model that is no reconstructor, pixels of another type.
    """
    if not isinstance(model, Reconstructor):
        raise TypeError(
            f"Views are reconstructed with a Reconstructor, not {type(model).__name__}; load one"
            " with gghead.load, or use gghead.invert for one image and a Generator."
        )
    views = _views(images, cameras, model.device)
    latent = encode_views(model, views)
    if refine_steps:
        settings = replace(refinement or RefineConfig(), steps=refine_steps)
        latent = refine(model.generator, latent, views, settings, on_step)
    return label(latent, views, "head", "refined" if refine_steps else "encoder")


def encode_views(model: Reconstructor, views: InputViews) -> Latent:
    """Return the latent (batch size 1) that the encoder gives for one head's views."""
    return model.encode(views.rgb[None], views.cameras.reshape(1, len(views)))


def label(latent: Latent, views: InputViews, target: str, stage: str) -> Latent:
    """Return the latent with the most frontal camera of the views, and with where it comes from."""
    frontal = int(views.cameras.angles()[0].abs().argmin())
    return replace(
        latent,
        camera=views.cameras.label()[frontal : frontal + 1],
        info={"target": target, "stage": stage, "views": list(views.names)},
    )


def _views(
    images: InputViews | Tensor | Sequence[Pixels],
    cameras: Cameras | None,
    device: torch.device,
) -> InputViews:
    if isinstance(images, InputViews):
        if cameras is not None:
            raise TypeError("InputViews have cameras of their own; give cameras=None with them.")
        return images
    if cameras is None:
        raise TypeError("Every view needs its camera; give Cameras of batch shape (V,).")
    pixels = [to_pixels(image) for image in images]
    if not pixels:
        raise ValueError("There are no views to reconstruct a head from; give at least one.")
    shapes = {image.shape for image in pixels}
    if len(shapes) > 1 or pixels[0].shape[2] == 1:
        raise ValueError(
            "Views must be color images of one size and number of channels, but these are "
            f"{sorted(map(list, shapes))} (height, width, channels)."
        )
    stack = torch.from_numpy(np.stack(pixels)).movedim(-1, 1)
    masked = stack.shape[1] == 4
    alpha = stack[:, 3:] if masked else torch.full_like(stack[:, :1], 255)
    names = [f"{index:02d}" for index in range(len(stack))]
    return InputViews.of(stack[:, :3], alpha, cameras, names, masked, device)
