"""``render``: Gaussians and cameras in, images out.

A whole batch of heads and cameras goes through one call of the rasterizer.
"""

import operator
from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import Tensor

from gghead import sh
from gghead.cameras import Cameras
from gghead.gaussians import Gaussians
from gghead.rendering.rasterization import RasterizeMode, rasterization

LOW_PASS = 0.3
"""Variance in square pixels of the rasterizer's low-pass filter (3DGS, gsplat)."""


@dataclass
class RenderOutput:
    """Images of ``B`` heads from ``C`` cameras each."""

    color: Tensor  # [B, C, 3, H, W] in [0, 1] over the background
    alpha: Tensor  # [B, C, 1, H, W] in [0, 1]
    # [B, C, 1, H, W] expected camera-space z of what is seen, world units; 0 where alpha is 0
    depth: Tensor | None
    uv: Tensor | None  # [B, C, 2, H, W] sum of weight * uv, not divided by alpha
    features: Tensor | None  # [B, C, F, H, W] sum of weight * feature, not divided by alpha
    backend: str  # what rendered it


class RenderOptions(TypedDict, total=False):
    """The options of ``render`` that do not say what is drawn, from where, or before what."""

    uv: bool
    features: bool
    depth: bool
    eps2d: float | None
    backend: str
    rasterize_mode: RasterizeMode


def render(
    gaussians: Gaussians,  # batch shape (B,), or () for one head
    # batch shape (B, C), or (C,) for the same ones on every head; None = frontal
    cameras: Cameras | None = None,
    size: int | tuple[int, int] = 256,  # pixels: square, or (width, height)
    *,
    # broadcastable to [B, C, 3], in [0, 1]; None = none (as black)
    background: Tensor | float | None = 1.0,
    uv: bool = False,
    features: bool = False,
    depth: bool = True,
    # variance in square pixels added to every projected Gaussian; None: see below
    eps2d: float | None = None,
    backend: str = "auto",
    rasterize_mode: RasterizeMode = "classic",
) -> RenderOutput:
    """Render; differentiable with respect to the Gaussians, the cameras' poses and the background.

    Color, uv, features and depth ride along as channels of one rasterization.

    Raises ``ValueError`` where the batch shapes do not fit or where uv or features are asked for
    and the Gaussians have none, ``TypeError`` for arguments of other types.
    """
    if not isinstance(gaussians, Gaussians):
        raise TypeError(
            "render draws Gaussians, such as those of model.sample(seed=0), not"
            f" {_describe(gaussians)}."
        )
    cameras = Cameras.orbit(0.0) if cameras is None else cameras
    if not isinstance(cameras, Cameras):
        raise TypeError(
            "The second argument of render is Cameras, such as Cameras.orbit(yaw=0.4), not "
            f"{_describe(cameras)}."
        )
    width, height = _pixels(size)
    gaussians = gaussians if gaussians.shape else gaussians[None]
    cameras = _match(cameras, gaussians)
    batch, count = gaussians.shape, cameras.shape[-1]
    extras: list[Tensor] = []
    for name, wanted in (("uv", uv), ("features", features)):
        value: Tensor | None = getattr(gaussians, name) if wanted else None
        if value is not None:
            extras.append(value)
        elif wanted:
            raise ValueError(
                f"These Gaussians have no {name} to render; call render with {name}=False."
            )

    viewmats, colors = cameras.viewmats, gaussians.colors
    if gaussians.sh_degree is not None:
        directions = sh.directions(gaussians.means, viewmats)
        colors = sh.evaluate(gaussians.sh_degree, directions, colors.unsqueeze(-4))  # [B, C, N, 3]
    if extras and gaussians.sh_degree is not None:
        extras = [value.unsqueeze(-3).expand(*colors.shape[:-1], -1) for value in extras]
    channels = torch.cat([colors, *extras], -1) if extras else colors

    backgrounds = None
    if background is not None:
        rgb = torch.as_tensor(background, dtype=gaussians.dtype, device=gaussians.device).expand(
            *batch, count, 3
        )
        backgrounds = torch.nn.functional.pad(rgb, (0, channels.shape[-1] - 3))
    images, alphas, meta = rasterization(
        gaussians.means,
        gaussians.quats,
        gaussians.scales,
        gaussians.opacities,
        channels,
        viewmats,
        cameras.Ks(width, height),
        width,
        height,
        backgrounds=backgrounds,
        eps2d=low_pass(gaussians, max(width, height)) if eps2d is None else eps2d,
        render_mode="RGB+ED" if depth else "RGB",
        rasterize_mode=rasterize_mode,
        backend=backend,
    )
    planes = images.movedim(-1, -3)
    num_features = extras[-1].shape[-1] if features else 0
    parts = planes.split([3, 2 if uv else 0, num_features, 1 if depth else 0], -3)
    return RenderOutput(
        color=parts[0],
        alpha=alphas.movedim(-1, -3),
        depth=parts[3] if depth else None,
        uv=parts[1] if uv else None,
        features=parts[2] if features else None,
        backend=meta["backend"],
    )


def _describe(value: object) -> str:
    return (
        f"{value!r}"
        if isinstance(value, (int, float, str))
        else f"an object of type {type(value).__name__}"
    )


def _pixels(size: int | tuple[int, int]) -> tuple[int, int]:
    """Width and height."""
    pair = size if isinstance(size, (tuple, list)) else (size, size)
    try:
        width, height = (operator.index(value) for value in pair)
    except (TypeError, ValueError):
        raise TypeError(
            f"size is a number of pixels, or (width, height), not {_describe(size)}."
        ) from None
    if min(width, height) < 1:
        raise ValueError(
            f"An image of {width}x{height} pixels cannot be drawn; both must be 1 or more."
        )
    return width, height


def _match(cameras: Cameras, gaussians: Gaussians) -> Cameras:
    """Cameras of batch shape (B, C) on the Gaussians' device."""
    cameras = cameras.to(device=gaussians.device, dtype=gaussians.dtype)
    cameras = cameras if cameras.shape else cameras[None]
    batch = gaussians.shape
    if len(cameras.shape) == 1:
        shape = (*batch, *cameras.shape)
        return Cameras(
            cameras.cam2world.expand(*shape, 4, 4), cameras.intrinsics.expand(*shape, 3, 3)
        )
    if cameras.shape[:-1] != batch:
        raise ValueError(
            f"Gaussians of batch shape {list(batch)} need cameras of batch shape [C] or"
            f" {[*batch, 'C']}, but the cameras have {list(cameras.shape)}."
        )
    return cameras


def low_pass(gaussians: Gaussians, side: int) -> float:
    """The variance in square pixels that ``render`` adds in an image whose longer side is ``side``.

    It is 0.3 up to the Gaussians' training size, and grows with the area of a pixel above it.
    """
    return LOW_PASS * max(1.0, side / (gaussians.training_size or side)) ** 2
