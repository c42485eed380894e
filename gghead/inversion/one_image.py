"""``gghead.invert``: one image to the latent of the head in it."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gghead.cameras import Cameras
from gghead.data.images import resize_image, resize_straight_alpha
from gghead.inversion.config import InversionConfig
from gghead.inversion.stages import Inversion, StageResult
from gghead.inversion.targets import Target, open_targets
from gghead.latent import Latent
from gghead.models.generator import Generator
from gghead.models.reconstructor import Reconstructor
from gghead.perceptual import Distance

Pixels = np.ndarray | Tensor | Image.Image


def invert(
    image: str | os.PathLike | Pixels,
    model: Generator | Reconstructor,
    *,
    method: str = "z",
    camera: Cameras | str | None = None,
    mask: Pixels | None = None,
    config: InversionConfig | None = None,
    perceptual: Distance | None = None,
    on_stage: Callable[[StageResult], None] | None = None,
) -> Latent:
    """Find the latent (batch size 1) that lets ``model`` draw the head in an image.

    >>> latent = gghead.invert("photo.png", gghead.load("demo"))
    >>> gghead.latent.save("latent.safetensors", latent, model)

    Args:
        image: A square image, brought to the network's size: a file; a Pillow image; uint8
            [H, W, 3 or 4]; or a tensor [3 or 4, H, W], uint8 or floats in [0, 1]. A fourth channel
            is the mask.
        model: The network. A reconstructor also gives the start, by its encoder.
        method: The last stage: encoder, w, w+, z or pti; see ``gghead.inversion.stages``.
        camera: Where the image was taken from, batch shape () or (1,). For a file also "label"
            (from the dataset.json beside it), "auto" (found from the face, which is cropped and
            cut out) or "frontal". None: for a file its label, else "auto"; for pixels the frontal
            camera. The search may turn and move it a little, as ``config`` says; ``latent.camera``
            is what it found.
        mask: [H, W] bool, floats in [0, 1] or uint8 up to 255, for pixels without a fourth channel.
            None: the whole image is matched.
        config: Steps, rates and weights of the search; ``method`` replaces its method, and whether
            there is an encoder follows from ``model``.
        perceptual: A further term of the loss, from ``gghead.perceptual.load_distance``.
        on_stage: Is given the result of every stage, with its image and its metrics.

    Raises:
        ValueError: an image that is not square, cannot be read or whose loss is not finite, an
            empty mask, a method that does not go with the model.
        TypeError: an image or a model of another type.
    """
    generator, encoder = _networks(model)
    config = replace(config or InversionConfig(), method=method, encoder=encoder is not None)
    if method == "w":  # an encoder gives more than one style
        config, encoder = replace(config, encoder=False), None
    _ = config.stages  # a method that does not fit is refused before anything is read
    target = _target(image, camera, mask, generator.config.image_size)
    inversion = Inversion(generator, [target], config, perceptual, encoder=encoder)
    result = None
    for result in inversion.run():
        if on_stage is not None:
            on_stage(result)
    if inversion.stopped:
        raise ValueError(
            f"The loss of {target.name} is not finite at {inversion.stopped[0]}; check the image"
            " and its camera, or use smaller learning rates."
        )
    assert result is not None  # every method has a stage
    info = {"target": target.name, "stage": method, "metrics": result.metrics[0]}
    return replace(result.latent, info=info)


def to_pixels(image: Pixels) -> np.ndarray:
    """Return an image as uint8 [H, W, C].

    Raises ``TypeError`` or ``ValueError`` for what is none.
    """
    if isinstance(image, Image.Image):
        return np.asarray(image if image.mode in ("RGB", "RGBA", "L") else image.convert("RGB"))
    if isinstance(image, Tensor):
        image = image[0] if image.ndim == 4 and len(image) == 1 else image
        image = (image[None] if image.ndim == 2 else image).detach().movedim(0, -1).cpu().numpy()
    if not isinstance(image, np.ndarray):
        raise TypeError(
            "An image is a Pillow image, an array [H, W, C] or a tensor [C, H, W], not "
            f"{type(image).__name__}."
        )
    image = image[..., None] if image.ndim == 2 else image
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4):
        raise ValueError(f"An image has 1, 3 or 4 channels, but this one is {list(image.shape)}.")
    if image.dtype == bool:
        return image.astype(np.uint8) * 255
    if image.dtype == np.uint8:
        return image
    if not np.issubdtype(image.dtype, np.floating):
        raise TypeError(f"Pixels are uint8 or floats in [0, 1], but these are {image.dtype}.")
    if not np.isfinite(image).all() or image.min() < -0.01 or image.max() > 1.01:
        raise ValueError("Pixels given as floats must be finite numbers in [0, 1].")
    return (image.clip(0, 1) * 255).round().astype(np.uint8)


def _networks(model: Generator | Reconstructor) -> tuple[Generator, Reconstructor | None]:
    if isinstance(model, Reconstructor):
        return model.generator, model
    if isinstance(model, Generator):
        return model, None
    raise TypeError(
        f"Images are inverted with a Generator or a Reconstructor, not {type(model).__name__}; load"
        " one with gghead.load."
    )


def _target(
    image: str | os.PathLike | Pixels, camera: Cameras | str | None, mask: Pixels | None, size: int
) -> Target:
    if isinstance(image, (str, os.PathLike)):
        if mask is not None:
            raise TypeError(
                "`mask` goes with pixels; a file brings its mask as alpha channel or dataset.json."
            )
        given = "frontal" if isinstance(camera, Cameras) else camera
        reader = open_targets(Path(image), size, given)
        if len(reader) != 1:
            raise ValueError(f"{image} holds {len(reader)} images; name the file of one.")
        target = reader.read(0)
        return replace(target, label=_label(camera)) if isinstance(camera, Cameras) else target
    if isinstance(camera, str) and camera != "frontal":
        raise ValueError(
            f"`camera='{camera}'` is found from a file; for pixels give Cameras, or 'frontal'."
        )
    pixels = to_pixels(image)
    height, width, channels = pixels.shape
    if height != width or channels == 1:
        raise ValueError(
            f"Images to invert are square and in color, but this one is {width}x{height} with"
            f" {channels} channel(s); crop it first."
        )
    alpha = to_pixels(mask)[..., 0] if mask is not None else None
    alpha = pixels[..., 3] if alpha is None and channels == 4 else alpha
    if alpha is None:
        rgb = resize_image(np.ascontiguousarray(pixels[..., :3]), size)
    elif alpha.shape != (height, width):
        raise ValueError(
            f"The mask is {alpha.shape[1]}x{alpha.shape[0]}, but the image is {width}x{height};"
            " they must have one size."
        )
    else:
        rgb, alpha = resize_straight_alpha(np.ascontiguousarray(pixels[..., :3]), alpha, size)
        if not alpha.any():
            raise ValueError("The mask is empty (all zero); mend it, or leave it out.")
    return Target(
        "image",
        torch.from_numpy(rgb.copy()).movedim(-1, 0),
        None if alpha is None else torch.from_numpy(alpha.copy())[None],
        _label(camera if isinstance(camera, Cameras) else Cameras.orbit(0.0)),
    )


def _label(camera: Cameras) -> Tensor:  # [25]
    label = camera.label().reshape(-1, 25)
    if len(label) != 1:
        raise ValueError(f"One image has one camera, but {len(label)} are given.")
    return label[0].detach().cpu().float()
