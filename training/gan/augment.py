"""Adaptive discriminator augmentation.

Random changes of what the discriminator sees, as often as it needs them.

From the paper "Training Generative Adversarial Networks with Limited Data" (Karras et al. 2020):
every operation is applied to every image independently with probability p, so that as long as p
stays below one the generator cannot profit from copying the changes, and p follows the share of
real images that the discriminator calls real.

Two things differ from the paper because the discriminator here is also told the camera. There is no
mirroring and no large geometry, since both would make the camera label wrong. And the alpha
channel, where there is one, takes part in everything that moves or hides pixels, but not in the
color changes.
"""

import functools
import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gghead.torch_utils.checks import at_least_float32
from gghead.training.gan.config import AugmentConfig


class AugmentPipe(nn.Module):
    """Applies the operations of ``AugmentConfig`` with probability ``self.p``.

    It is differentiable, twice for R1.
    """

    def __init__(self, config: AugmentConfig) -> None:
        super().__init__()
        self.config = config
        self.p = float(config.start_p)  # no tensor: reading it must not wait for a GPU

    def forward(
        self,
        # [B, 3 or 4, H, W] in [-1, 1]; the fourth channel is alpha, in [-1, 1] as well
        images: Tensor,
        generator: torch.Generator,  # any device; numbers are drawn on its device
    ) -> Tensor:  # as images, not clamped
        """Return the augmented images.

        At p = 0 the very tensor that came in, and the generator is left untouched.
        """
        if images.ndim != 4 or images.shape[1] not in (3, 4):
            raise ValueError(
                f"images must be [B, 3 or 4, H, W], but their shape is {tuple(images.shape)}"
            )
        if self.p <= 0.0:
            return images
        config, draw = self.config, _Draws(images.shape[0], self.p, generator)
        if "geometry" in config.groups:
            height, width = images.shape[2:]
            images = warp(images, random_warps(config, draw, height, width).to(images.device))
        if "color" in config.groups:
            images = recolor(images, random_recoloring(config, draw).to(images.device))
        if "noise" in config.groups:
            images = images + random_noise(config, draw, images.shape).to(images)
        if "cutout" in config.groups:
            images = images * random_cutout(config, draw, *images.shape[2:]).to(images)
        return images


class _Draws:
    """Random numbers of one batch.

    Every draw says whether each image is changed at all (probability p).
    """

    def __init__(self, batch: int, p: float, generator: torch.Generator) -> None:
        self.batch, self.p, self.generator, self.device = batch, p, generator, generator.device

    def uniform(self, *shape: int) -> Tensor:  # [batch, *shape] in [0, 1)
        return torch.rand(self.batch, *shape, generator=self.generator, device=self.device)

    def normal(self, *shape: int) -> Tensor:  # [batch, *shape]
        return torch.randn(self.batch, *shape, generator=self.generator, device=self.device)

    def choose(self, values: Tensor, otherwise: float) -> Tensor:
        """Return ``values`` for images the operation is applied to, ``otherwise`` for the rest."""
        gate = (self.uniform() < self.p).reshape(-1, *(1,) * (values.ndim - 1))
        return torch.where(gate, values, torch.full_like(values, otherwise))


# --------------------------------------------------------------------------------------------------
# Geometry


def random_warps(config: AugmentConfig, draw: _Draws, height: int, width: int) -> Tensor:
    """Draw a shift, a change of size and a rotation per image.

    Returns [B, 2, 3]: for a target pixel at (x, y), counted from the image center in pixels, where
    in the source it comes from.
    """
    shift = (draw.uniform(2) * 2 - 1) * config.translation
    size = shift.new_tensor([width, height])
    shift = draw.choose((shift * size).round(), 0.0)  # whole pixels: a shift alone does not blur
    zoom = draw.choose((1 + config.scale) ** (draw.uniform() * 2 - 1), 1.0)
    angle = draw.choose((draw.uniform() * 2 - 1) * math.radians(config.rotation), 0.0)
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    linear = torch.stack([torch.stack([cos, sin], 1), torch.stack([-sin, cos], 1)], 1)  # [B, 2, 2]
    return torch.cat([linear, -(linear @ shift[:, :, None])], 2)


def warp(
    images: Tensor,  # [B, C, H, W]
    matrices: Tensor,  # [B, 2, 3] target pixel -> source pixel, from the image center
) -> Tensor:  # [B, C, H, W]
    """Resample bilinearly; beyond the border the image is reflected.

    Twice differentiable in ``images``.
    """
    height, width = images.shape[2:]
    precise = at_least_float32(images)
    x = torch.arange(width, dtype=precise.dtype, device=images.device) + 0.5 - width / 2
    y = torch.arange(height, dtype=precise.dtype, device=images.device) + 0.5 - height / 2
    m = matrices.to(precise.dtype)[..., None, None]  # [B, 2, 3, 1, 1]
    source_x = m[:, 0, 0] * x + m[:, 0, 1] * y[:, None] + m[:, 0, 2]  # [B, H, W]
    source_y = m[:, 1, 0] * x + m[:, 1, 1] * y[:, None] + m[:, 1, 2]
    # now in pixels: 0 is the middle of the first one
    source_x = _reflect(source_x + (width - 1) / 2, width)
    source_y = _reflect(source_y + (height - 1) / 2, height)
    sample = sample_native if sampler(images.device.type)[0] == "grid_sample" else sample_gather
    with torch.autocast(images.device.type, enabled=False):
        return sample(precise, source_x, source_y).to(images.dtype)


def _reflect(position: Tensor, size: int) -> Tensor:
    """Fold positions beyond the image back into it.

    They are mirrored at the outer edges of the border pixels.
    """
    folded = torch.remainder(position + 0.5, 2 * size)
    return (torch.minimum(folded, 2 * size - folded) - 0.5).clamp(0, size - 1)


def sample_native(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Bilinear samples at pixel positions x, y [B, H, W] by ``grid_sample``."""
    height, width = images.shape[2:]
    grid = torch.stack([(x + 0.5) * (2 / width) - 1, (y + 0.5) * (2 / height) - 1], -1).to(
        images.dtype
    )
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def sample_gather(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The same from plain indexing, which every torch can differentiate twice."""
    batch, channels, height, width = images.shape
    left, top = x.floor().clamp(0, width - 1), y.floor().clamp(0, height - 1)
    fx, fy = (x - left).to(images.dtype)[:, None], (y - top).to(images.dtype)[:, None]
    x0, y0 = left.long(), top.long()
    x1, y1 = (x0 + 1).clamp(max=width - 1), (y0 + 1).clamp(max=height - 1)
    flat = images.flatten(2)

    def pick(row: Tensor, column: Tensor) -> Tensor:
        index = (row * width + column).flatten(1)[:, None].expand(-1, channels, -1)
        return flat.gather(2, index).reshape(batch, channels, *x.shape[1:])

    upper = pick(y0, x0) * (1 - fx) + pick(y0, x1) * fx
    lower = pick(y1, x0) * (1 - fx) + pick(y1, x1) * fx
    return upper * (1 - fy) + lower * fy


@functools.cache
def sampler(device_type: str) -> tuple[Literal["grid_sample", "gather"], str]:
    """Return which bilinear sampler is used on this kind of device, and why; probed once.

    R1 differentiates the discriminator's input gradient again, which ``grid_sample`` allows in
    newer torch only.
    """
    images = torch.ones(1, 1, 2, 2, device=device_type, requires_grad=True)
    center = torch.full((1, 1, 1), 0.5, device=device_type)
    try:
        with torch.enable_grad():
            value = sample_native(images, center, center).square().sum()
            (gradient,) = torch.autograd.grad(value, images, create_graph=True)
            gradient.sum().backward()
    except RuntimeError as error:
        if "not implemented" not in str(error):
            raise
        return (
            "gather",
            f"torch {torch.__version__} cannot differentiate grid_sample twice on {device_type}",
        )
    return (
        "grid_sample",
        f"torch {torch.__version__} differentiates grid_sample twice on {device_type}",
    )


# --------------------------------------------------------------------------------------------------
# Color


def random_recoloring(config: AugmentConfig, draw: _Draws) -> Tensor:
    """Draw one affine map of RGB per image, [B, 3, 4].

    It has brightness, contrast, luma flip, hue and saturation.

    They are composed in this order (paper, section 2 and appendix B). Luma is the gray axis (1, 1,
    1)/sqrt(3).
    """
    identity = torch.eye(3, device=draw.device)
    gray = torch.full((3, 3), 1 / 3, device=draw.device)  # projection on the gray axis
    # cross product with the gray axis: the generator of hue rotations
    turn = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=draw.device) / math.sqrt(3)

    brightness = draw.choose(draw.normal() * config.brightness, 0.0)
    contrast = draw.choose(torch.exp2(draw.normal() * config.contrast), 1.0)
    angle = draw.choose((draw.uniform() * 2 - 1) * math.radians(config.hue), 0.0)
    saturation = draw.choose(torch.exp2(draw.normal() * config.saturation), 1.0)
    flip = (
        draw.choose(torch.where(draw.uniform() < 0.5, -1.0, 1.0), 1.0) if config.luma_flip else 1.0
    )

    # On gray every step is a factor; on the plane across it hue rotates and saturation scales.
    # Contrast scales both.
    across = saturation * contrast
    linear = (
        (contrast * flip)[:, None, None] * gray
        + (across * torch.cos(angle))[:, None, None] * (identity - gray)
        + (across * torch.sin(angle))[:, None, None] * turn
    )
    offset = (brightness * contrast * flip)[:, None, None].expand(-1, 3, 1)
    return torch.cat([linear, offset], 2)


def recolor(
    images: Tensor,  # [B, 3 or 4, H, W]
    matrices: Tensor,  # [B, 3, 4]
) -> Tensor:
    """Apply one affine map per image to RGB; a fourth channel passes unchanged."""
    matrices = matrices.to(images.dtype)
    batch, channels, height, width = images.shape
    color = torch.baddbmm(
        matrices[:, :, 3:], matrices[:, :, :3], images[:, :3].reshape(batch, 3, -1)
    )
    color = color.reshape(batch, 3, height, width)
    return torch.cat([color, images[:, 3:]], 1) if channels > 3 else color


# --------------------------------------------------------------------------------------------------
# Noise and cut-out


def random_noise(config: AugmentConfig, draw: _Draws, shape: torch.Size) -> Tensor:
    """Draw white noise [B, C, H, W] whose strength differs per image (half-normal)."""
    strength = draw.choose(draw.normal().abs() * config.noise, 0.0)
    return draw.normal(*shape[1:]) * strength[:, None, None, None]


def random_cutout(config: AugmentConfig, draw: _Draws, height: int, width: int) -> Tensor:
    """Draw a rectangle per image.

    Returns [B, 1, H, W], zero (mid-gray, half-transparent) inside and one elsewhere.
    """
    size = draw.choose(torch.full((draw.batch,), config.cutout, device=draw.device), 0.0)[:, None]
    center = draw.uniform(2)
    x = (torch.arange(width, device=draw.device) + 0.5) / width
    y = (torch.arange(height, device=draw.device) + 0.5) / height
    outside_x = (x - center[:, :1]).abs() >= size / 2  # [B, W]
    outside_y = (y - center[:, 1:]).abs() >= size / 2  # [B, H]
    return (outside_y[:, :, None] | outside_x[:, None, :]).float()[:, None]


# --------------------------------------------------------------------------------------------------
# The feedback that sets p


class AdaController:
    """Moves p so that the mean sign of the real scores stays near its target.

    This is the paper's section 3, heuristic r_t.
    """

    def __init__(self, config: AugmentConfig) -> None:
        self.config = config
        self.p = config.start_p

    def update(self, sign_mean: float, images: int) -> float:
        """Adjust p and return it; modes other than 'ada' keep it.

        ``sign_mean`` is the mean of sign(D(real)) over all processes since the last call,
        ``images`` the number of images trained on since then. A mean that is not finite changes
        nothing.
        """
        if self.config.mode == "ada" and math.isfinite(sign_mean):
            direction = (sign_mean > self.config.target) - (sign_mean < self.config.target)
            stride = direction * images / (self.config.kimg * 1000)
            self.p = min(max(self.p + stride, 0.0), self.config.max_p)
        return self.p

    def state_dict(self) -> dict[str, float]:
        """Everything ``load_state_dict`` needs, as plain numbers."""
        return {"p": self.p}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Continue from ``state_dict()``."""
        self.p = float(state["p"])
