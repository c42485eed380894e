"""gsplat 1.5's CUDA rasteriser behind our signature. gsplat is imported only where a CUDA device is there.

(Where a CUDA compiler but no device exists, using gsplat starts a build that fails.)
"""

import functools
from typing import Any

import torch
from torch import Tensor


@functools.cache
def _import_fault() -> str:
    """Why gsplat cannot be imported, or nothing."""
    try:
        import gsplat
    except ImportError as error:
        return f"gsplat cannot be imported ({error}); pip install gsplat"
    return "" if hasattr(gsplat, "rasterization") else "this gsplat has no rasterization; pip install gsplat==1.5.3"


def available(device: torch.device, dtype: torch.dtype) -> tuple[bool, str]:
    """Whether gsplat can rasterise tensors of ``dtype`` on ``device``, and why."""
    if device.type != "cuda":
        return False, "tensors are not on a CUDA device"
    if not torch.cuda.is_available():
        return False, "torch sees no CUDA device"
    if dtype != torch.float32:
        return False, f"it works in float32, not {dtype}"
    fault = _import_fault()
    return (False, fault) if fault else (True, "tensors are on a CUDA device")


def rasterize(
    means: Tensor,  # [..., N, 3]
    quats: Tensor,  # [..., N, 4]
    scales: Tensor,  # [..., N, 3]
    opacities: Tensor,  # [..., N]
    colors: Tensor,  # [..., (C,) N, D] or [..., (C,) N, K, 3]
    viewmats: Tensor,  # [..., C, 4, 4]
    Ks: Tensor,  # [..., C, 3, 3]
    width: int,
    height: int,
    *,
    near_plane: float,
    far_plane: float,
    eps2d: float,
    sh_degree: int | None,
    backgrounds: Tensor | None,  # [..., C, D]
    render_mode: str,
    rasterize_mode: str,
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """``gsplat.rasterization`` with the arguments that ours has."""
    import gsplat

    # Unpacked: our scenes are seen almost whole by every camera, so packing would cost time and save little memory.
    return gsplat.rasterization(
        means.contiguous(),
        quats.contiguous(),
        scales.contiguous(),
        opacities.contiguous(),
        colors.contiguous(),
        viewmats.contiguous(),
        Ks.contiguous(),
        width,
        height,
        near_plane=near_plane,
        far_plane=far_plane,
        eps2d=eps2d,
        sh_degree=sh_degree,
        packed=False,
        backgrounds=None if backgrounds is None else backgrounds.contiguous(),
        render_mode=render_mode,
        rasterize_mode=rasterize_mode,
    )
