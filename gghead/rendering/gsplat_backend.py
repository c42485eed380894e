"""gsplat 1.5's CUDA rasterizer behind our signature.

gsplat is imported only where a CUDA device is there.

(Where a CUDA compiler but no device exists, using gsplat starts a build that fails.)
"""

import functools
import importlib
import warnings
from typing import Any

import torch
from torch import Tensor

from gghead.finite import hide_gaussians
from gghead.rendering.projection import RasterizeMode, RenderMode
from gghead.torch_utils.files import cache_dir
from gghead.torch_utils.ops import native_build

# pixels of standard deviation; the fourth power, and the width as an integer, must not overflow
MAX_WIDTH = 1e9


@functools.cache
def _import_fault() -> str:
    """Why gsplat cannot be used, or nothing.

    Builds its compiled part, or waits for the process that does.
    """
    fault = _load()
    if fault:
        warnings.warn(
            f"gsplat cannot rasterize here, so that the slower torch rasterizer has to: {fault}.",
            stacklevel=2,
        )
    return fault


def _load() -> str:
    # Whoever imports gsplat's compiled part while another process builds it deletes that one's lock
    # and folder.
    folder = cache_dir("torch_extensions")
    folder.mkdir(parents=True, exist_ok=True)
    with native_build.hold_lock(folder / "gsplat.lock", "builds gsplat's CUDA part"):
        try:
            gsplat = importlib.import_module("gsplat")
            compiled = importlib.import_module("gsplat.cuda._backend")._C
        except ImportError as error:
            return f"gsplat cannot be imported ({error}); pip install gsplat==1.5.3"
        except (AttributeError, OSError, RuntimeError) as error:
            last = (str(error).strip() or type(error).__name__).splitlines()[-1]
            return (
                f"gsplat's CUDA part could not be built or loaded ({last}); look at gsplat's"
                " instructions"
            )
    if compiled is None:
        return (
            "gsplat's CUDA part is not built and there is no CUDA toolkit to build it; install nvcc"
            " of torch's CUDA version, or a gsplat wheel for it"
        )
    return (
        ""
        if hasattr(gsplat, "rasterization")
        else "this gsplat has no rasterization; pip install gsplat==1.5.3"
    )


def available(device: torch.device, dtype: torch.dtype) -> tuple[bool, str]:
    """Whether gsplat can rasterize tensors of ``dtype`` on ``device``, and why."""
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
    render_mode: RenderMode,
    rasterize_mode: RasterizeMode,
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """``gsplat.rasterization`` with the arguments that ours has.

    Without the Gaussians that its numbers cannot hold.
    """
    import gsplat

    per_camera = colors.ndim == means.ndim + 1 + (sh_degree is not None)
    bad, turned = _unusable(
        means, quats, scales, colors if per_camera else None, viewmats, Ks, near_plane, far_plane
    )
    means, quats, scales, opacities = hide_gaussians(bad, means, quats, scales, opacities)
    if per_camera:
        rows = bad.unsqueeze(means.ndim - 2)
        colors = colors.masked_fill(
            rows[..., None] if sh_degree is None else rows[..., None, None], 0.0
        )
    unturned = torch.eye(1, 4, dtype=quats.dtype, device=quats.device)[0]
    quats = torch.where(turned[..., None], quats, unturned)
    # Unpacked: our scenes are seen almost whole by every camera, so packing would cost time and
    # save little memory.
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


@torch.no_grad()
def _unusable(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    colors: Tensor | None,
    viewmats: Tensor,
    Ks: Tensor,
    near_plane: float,
    far_plane: float,
) -> tuple[Tensor, Tensor]:
    """Where [..., N] some camera of the scene cannot draw a Gaussian.

    ``colors`` may be each camera's own. Also returns where its quaternion has a length that can be
    divided by. gsplat would blend NaN as if it were opaque.
    """
    forward, shift = viewmats[..., 2, :3], viewmats[..., 2, 3]
    # [..., C, N]
    depths = (means[..., None, :, :] * forward[..., None, :]).sum(-1) + shift[..., None]
    focal = Ks.diagonal(dim1=-2, dim2=-1)[..., :2].abs().amax(-1)
    widths = focal[..., None] * scales.abs().amax(-1)[..., None, :] / depths
    culled = (depths < near_plane) | (depths > far_plane)
    fine = depths.isfinite() & (culled | (widths <= MAX_WIDTH))
    if colors is not None:
        fine = fine & colors.isfinite().flatten(fine.ndim).all(-1)
    squared = quats.square().sum(-1)
    return ~fine.all(-2), (squared >= torch.finfo(quats.dtype).tiny) & squared.isfinite()
