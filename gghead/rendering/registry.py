"""Which code rasterizes: the backends by name, and the choice among them with its reason.

A backend either *composites* (it blends what the shared torch code, or a function of its own, has
projected) or *replaces* the whole rasterization. The seams are the functions of the types
``Composite``, ``Project`` and ``Rasterize``.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from gghead.rendering.projection import Projection, RasterizeMode, RenderMode
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.skip_compile import skip_compile

ENVIRONMENT_VARIABLE = "GGHEAD_RASTERIZER"


class Composite(Protocol):
    """Blends projected Gaussians; ``I`` counts all images.

    Differentiable with respect to ``means2d``, ``conics``, ``opacities``, ``colors`` and
    ``backgrounds``. All tensors are contiguous, of one floating-point type and on one device. A
    culled Gaussian may hold any finite numbers. The results are those of ``torch_backend.py``, the
    specification.
    """

    def __call__(
        self,
        means2d: Tensor,  # [I, N, 2] pixels; pixel centers are at +0.5
        conics: Tensor,  # [I, N, 3] inverse 2D covariance: xx, xy, yy
        opacities: Tensor,  # [I, N] in [0, 1], antialiasing already applied
        colors: Tensor,  # [I, N, D] any number of channels D >= 1
        depths: Tensor,  # [I, N] camera-space z, orders the Gaussians; gets no gradient
        radii: Tensor,  # [I, N, 2] int32 half-widths in pixels; <= 0 in either: culled
        backgrounds: Tensor | None,  # [I, D]
        width: int,
        height: int,
        /,
    ) -> tuple[Tensor, Tensor]:
        """Colors [I, H, W, D] and alphas [I, H, W, 1]."""
        ...


class Project(Protocol):
    """Projects Gaussians into cameras as ``projection.project`` does."""

    def __call__(
        self,
        means: Tensor,  # [B, N, 3]
        quats: Tensor,  # [B, N, 4]
        scales: Tensor,  # [B, N, 3]
        opacities: Tensor,  # [B, N]
        viewmats: Tensor,  # [B, C, 4, 4]
        Ks: Tensor,  # [B, C, 3, 3]
        width: int,
        height: int,
        near_plane: float,
        far_plane: float,
        eps2d: float,
        antialiased: bool,
        /,
    ) -> Projection: ...


class Rasterize(Protocol):
    """``rasterization`` with shapes already checked, but for its argument ``backend``."""

    def __call__(
        self,
        means: Tensor,  # [..., N, 3]
        quats: Tensor,  # [..., N, 4]
        scales: Tensor,  # [..., N, 3]
        opacities: Tensor,  # [..., N]
        colors: Tensor,  # [..., (C,) N, D] or [..., (C,) N, K, 3]
        viewmats: Tensor,  # [..., C, 4, 4]
        Ks: Tensor,  # [..., C, 3, 3]
        width: int,
        height: int,
        /,
        *,
        near_plane: float,
        far_plane: float,
        eps2d: float,
        sh_degree: int | None,
        backgrounds: Tensor | None,  # [..., C, D]
        render_mode: RenderMode,
        rasterize_mode: RasterizeMode,
    ) -> tuple[Tensor, Tensor, dict[str, Any]]: ...


@dataclass(frozen=True)
class Backend:
    """A rasterizer; exactly one of ``composite`` and ``rasterize`` is set."""

    name: str
    available: Callable[[torch.device, torch.dtype], tuple[bool, str]]
    """Whether it works for a device and type, and the reason in a few words (no sentence, no full
    stop)."""
    composite: Composite | None = None
    project: Project | None = None
    """A compositing backend's own ``projection.project``; None: the shared torch code."""
    rasterize: Rasterize | None = None


@dataclass(frozen=True)
class Choice:
    """A backend that was chosen, and why."""

    backend: Backend
    reason: str

    def __str__(self) -> str:
        return f"{self.backend.name} ({self.reason})"


_backends: dict[str, Backend] = {}


def register(backend: Backend) -> None:
    """Make ``backend`` known.

    The automatic choice tries backends in the order of their registration.
    """
    if (backend.composite is None) == (backend.rasterize is None):
        raise ValueError(f"The rasterizer '{backend.name}' must set either composite or rasterize.")
    _backends[backend.name] = backend


def names() -> tuple[str, ...]:
    """The registered names in the order in which the automatic choice tries them."""
    return tuple(_backends)


def available_names(
    device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[str, ...]:
    """The names of the backends that work here for ``device`` and ``dtype``."""
    return tuple(
        name
        for name, backend in _backends.items()
        if backend.available(torch.device(device), dtype)[0]
    )


@skip_compile
def resolve(
    name: str = "auto", device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Choice:
    """Choose the backend for tensors on ``device`` of ``dtype``.

    ``"auto"`` means the environment variable ``GGHEAD_RASTERIZER`` where it is set, otherwise the
    first backend that works. Raises ``UserError`` for an unknown name and for a named backend that
    does not work here.
    """
    device = torch.device(device)
    wanted_by = "asked for"
    if name == "auto" and os.environ.get(ENVIRONMENT_VARIABLE, "auto") != "auto":
        name, wanted_by = os.environ[ENVIRONMENT_VARIABLE], f"{ENVIRONMENT_VARIABLE} is set"
    if name != "auto":
        if name not in _backends:
            raise UserError(
                f"There is no rasterizer '{name}'; choose one of auto, {', '.join(_backends)}."
            )
        works, reason = _backends[name].available(device, dtype)
        if not works:
            raise UserError(
                f"The rasterizer '{name}' cannot be used here ({reason}); use auto or torch."
            )
        return Choice(_backends[name], wanted_by)
    rejected = []
    for backend in _backends.values():
        works, reason = backend.available(device, dtype)
        if works:
            return Choice(backend, "; ".join([reason, *rejected]))
        rejected.append(f"not {backend.name}: {reason}")
    raise UserError(f"No rasterizer works on {device} with {dtype}: {'; '.join(rejected)}.")


# -------------------------------------------------------------------------------- built-in backends
# The modules are imported on first use: gsplat and the native extension cost time that `import
# gghead` must not take.
def _gsplat_available(device: torch.device, dtype: torch.dtype) -> tuple[bool, str]:
    from gghead.rendering import gsplat_backend

    return gsplat_backend.available(device, dtype)


def _gsplat_rasterize(*args: Any, **options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    from gghead.rendering import gsplat_backend

    return gsplat_backend.rasterize(*args, **options)


def _native_available(device: torch.device, dtype: torch.dtype) -> tuple[bool, str]:
    if device.type != "cpu":
        return False, "tensors are not on the CPU"
    if dtype != torch.float32:
        return False, f"it works in float32, not {dtype}"
    from gghead.rendering import native_backend

    return native_backend.available()


def _native_project(*args: Any) -> Projection:
    from gghead.rendering import native_backend

    return native_backend.project(*args)


def _native_composite(*args: Any) -> tuple[Tensor, Tensor]:
    from gghead.rendering import native_backend

    return native_backend.composite(*args)


def _torch_available(device: torch.device, dtype: torch.dtype) -> tuple[bool, str]:
    return True, "works everywhere"


def _torch_composite(*args: Any) -> tuple[Tensor, Tensor]:
    from gghead.rendering import torch_backend

    return torch_backend.composite(*args)


register(Backend("gsplat", _gsplat_available, rasterize=_gsplat_rasterize))
register(Backend("native", _native_available, composite=_native_composite, project=_native_project))
register(Backend("torch", _torch_available, composite=_torch_composite))
