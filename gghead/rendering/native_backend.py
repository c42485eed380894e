"""Projection and compositing in C++ on the CPU (``csrc/``), registered with torch.

Forward and backward run on torch's thread pool and give the same bits for any number of threads.
Where the library cannot be built, one warning says why and the torch code takes over.
"""

import functools
import warnings
from pathlib import Path
from typing import Any, NoReturn, Protocol

import torch
from torch import Tensor, library

from gghead.rendering import projection
from gghead.rendering.projection import Projection
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.ops import native_build
from gghead.torch_utils.skip_compile import skip_compile

_FOLDER = Path(__file__).parent / "csrc"
LIBRARY = native_build.Library(
    "gghead_splat",
    sources=tuple(_FOLDER / f"splat_{name}.cpp" for name in ("composite", "projection", "probe")),
    headers=tuple(
        _FOLDER / name
        for name in (
            "simd16.h",
            "splat_bins.h",
            "splat_blocks.h",
            "splat_jobs.h",
            "splat_project.h",
        )
    ),
)


MAX_SIDE = 32764  # pixels; kMaxSide in splat_bins.h
MAX_GAUSSIANS = 2**24  # positions in a list are kept as floats


def available() -> tuple[bool, str]:
    """Whether the backend can work here, and the reason in a few words.

    Looks for the tools only, builds nothing.

    After a build that failed it answers False with the failure.
    """
    return (False, _failure[0]) if _failure else _tools()


@functools.cache
def _tools() -> tuple[bool, str]:
    return native_build.available(LIBRARY)


def project(
    means: Tensor,  # [B, N, 3]
    quats: Tensor,  # [B, N, 4]
    scales: Tensor,  # [B, N, 3]
    opacities: Tensor,  # [B, N]
    viewmats: Tensor,  # [B, C, 4, 4]
    Ks: Tensor,  # [B, C, 3, 3], gets no gradient
    width: int,
    height: int,
    near_plane: float,
    far_plane: float,
    eps2d: float,
    antialiased: bool,
) -> Projection:
    """``projection.project`` in C++, float32 on the CPU; same formulas, same units.

    A Gaussian that gets no gradient from its projection has none, even if it holds NaN or infinity.
    What is projected of an unusable one (radii 0) may be NaN or infinity, too.
    """
    if not _load():
        return projection.project(
            means,
            quats,
            scales,
            opacities,
            viewmats,
            Ks,
            width,
            height,
            near_plane,
            far_plane,
            eps2d,
            antialiased,
        )
    means2d, depths, conics, faded, radii = torch.ops.gghead_splat.project(
        means,
        quats,
        scales,
        opacities,
        viewmats,
        Ks,
        width,
        height,
        near_plane,
        far_plane,
        eps2d,
        antialiased,
    )
    return Projection(means2d, depths, conics, faded, radii)


def composite(
    means2d: Tensor,  # [I, N, 2] pixels
    conics: Tensor,  # [I, N, 3]
    opacities: Tensor,  # [I, N]
    colors: Tensor,  # [I, N, D]
    depths: Tensor,  # [I, N]
    radii: Tensor,  # [I, N, 2] int32, <= 0: culled
    backgrounds: Tensor | None,  # [I, D]
    width: int,
    height: int,
) -> tuple[Tensor, Tensor]:
    """Blend projected Gaussians to colors [I, H, W, D] and alphas [I, H, W, 1].

    See the seam in ``registry.py``.

    Float32 tensors on the CPU. Gaussians with a non-finite attribute or a conic that is not
    positive definite are skipped. Raises ``ValueError`` for another type or device and for shapes
    that do not fit together, ``UserError`` for more Gaussians or pixels than it draws.
    """
    if means2d.dtype != torch.float32 or means2d.device.type != "cpu":
        raise ValueError(
            f"The native rasterizer works on float32 tensors on the CPU, not {means2d.dtype} on"
            f" {means2d.device}; convert them or choose the torch rasterizer."
        )
    if max(width, height) > MAX_SIDE or means2d.shape[1] > MAX_GAUSSIANS:
        raise UserError(
            f"The native rasterizer draws up to {MAX_GAUSSIANS} Gaussians on up to {MAX_SIDE}"
            f" pixels a side, not {means2d.shape[1]} on {width} x {height}; render parts, or choose"
            " the torch rasterizer."
        )
    if not _load():
        from gghead.rendering import torch_backend

        return torch_backend.composite(
            means2d, conics, opacities, colors, depths, radii, backgrounds, width, height
        )
    inputs = (means2d, conics, opacities, colors)
    save = torch.is_grad_enabled() and any(
        t is not None and t.requires_grad for t in (*inputs, backgrounds)
    )
    out, alphas, _, _ = torch.ops.gghead_splat.composite(
        *inputs, depths, radii, backgrounds, width, height, save
    )
    return out, alphas


_failure: list[str] = []
"""Why the library could not be built in this process; empty as long as nothing has failed."""


@skip_compile
@functools.cache
def _load() -> bool:
    """Build or load the operators, once per process; whether that worked."""
    try:
        native_build.load(LIBRARY)
    except native_build.BuildError as error:
        _failure.append(f"its library could not be built: {error}")
        warnings.warn(
            "The native rasterizer could not be built, so the slower torch rasterizer is used;"
            " install a working g++ or clang++ and ninja, or set GGHEAD_RASTERIZER=torch to"
            f" silence this ({error}).",
            stacklevel=3,
        )
        return False
    _register()
    return True


@functools.cache
def _register() -> None:
    """Tell torch shapes and derivatives; once per process, a second time would be an override."""
    library.register_fake("gghead_splat::project", _fake_project)
    library.register_fake("gghead_splat::project_backward", _fake_project_backward)
    library.register_autograd(
        "gghead_splat::project", _project_backward, setup_context=_project_context
    )
    library.register_autograd("gghead_splat::project_backward", _double_backward)
    library.register_fake("gghead_splat::composite", _fake_composite)
    library.register_fake("gghead_splat::composite_backward", _fake_backward)
    library.register_autograd("gghead_splat::composite", _backward, setup_context=_setup_context)
    library.register_autograd("gghead_splat::composite_backward", _double_backward)


class _Context(Protocol):
    """What torch keeps between an operator's forward and backward pass, and what we add."""

    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]
    shapes: list[torch.Size]
    options: tuple[int | float | bool, ...]
    count: int

    def save_for_backward(self, *tensors: Tensor) -> None: ...

    def set_materialize_grads(self, value: bool) -> None: ...


def _project_context(ctx: _Context, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:6])
    ctx.options = inputs[6:]
    ctx.shapes = [tensor.shape for tensor in output[:4]]
    ctx.set_materialize_grads(False)


def _project_backward(ctx: _Context, *v_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
    given = v_outputs[:4]  # radii get no gradient
    means = ctx.saved_tensors[0]
    filled = [
        means.new_zeros(shape) if v is None else v
        for v, shape in zip(given, ctx.shapes, strict=True)
    ]
    gradients = torch.ops.gghead_splat.project_backward(
        *filled, *ctx.saved_tensors, *ctx.options, ctx.needs_input_grad[4]
    )
    *of_gaussians, of_views = gradients
    of_views = of_views if ctx.needs_input_grad[4] else None
    return (*of_gaussians, of_views, None, *[None] * len(ctx.options))


def _fake_project(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    *options: int | float | bool,
) -> tuple[Tensor, ...]:
    shape = (means.shape[0], viewmats.shape[1], means.shape[1])
    radii = means.new_empty((*shape, 2), dtype=torch.int32)
    return (*(means.new_empty((*shape, *tail)) for tail in ([2], [], [3], [])), radii)


def _fake_project_backward(
    v_means2d: Tensor,
    v_depths: Tensor,
    v_conics: Tensor,
    v_opacities: Tensor,
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    *options: int | float | bool,
) -> tuple[Tensor, ...]:
    return tuple(t.new_empty(t.shape) for t in (means, quats, scales, opacities, viewmats))


def _setup_context(ctx: _Context, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *_, backgrounds, _width, _height, _save = inputs
    colors, alphas, plan, lists = output
    ctx.count, ctx.shapes = inputs[0].shape[1], [colors.shape, alphas.shape]
    ctx.save_for_backward(plan, lists, backgrounds)
    ctx.set_materialize_grads(False)  # a gradient of the plan would be megabytes of zeros


def _backward(
    ctx: _Context,
    v_colors: Tensor | None,
    v_alphas: Tensor | None,
    _v_plan: Tensor | None,
    _v_lists: Tensor | None,
) -> tuple[Tensor | None, ...]:
    plan, lists, backgrounds = ctx.saved_tensors
    v_colors, v_alphas = (
        # whatever torch's defaults are
        torch.zeros(shape, dtype=torch.float32, device="cpu") if v is None else v
        for v, shape in zip((v_colors, v_alphas), ctx.shapes, strict=True)
    )
    gradients = torch.ops.gghead_splat.composite_backward(
        v_colors, v_alphas, plan, lists, backgrounds, ctx.count
    )
    v_means, v_conics, v_opacities, v_features, v_background = gradients
    v_background = None if backgrounds is None else v_background
    return v_means, v_conics, v_opacities, v_features, None, None, v_background, None, None, None


def _double_backward(ctx: _Context, *gradients: Tensor | None) -> NoReturn:
    raise NotImplementedError(
        "The native rasterizer has no second derivative; use the torch rasterizer for it."
    )


def _fake_composite(
    means2d: Tensor,
    conics: Tensor,
    opacities: Tensor,
    colors: Tensor,
    depths: Tensor,
    radii: Tensor,
    backgrounds: Tensor | None,
    width: int,
    height: int,
    save: bool,
) -> tuple[Tensor, ...]:
    images, channels = colors.shape[0], colors.shape[2]
    saved = [
        colors.new_empty((library.get_ctx().new_dynamic_size() if save else 0,), dtype=torch.int32)
        for _ in range(2)
    ]
    return (
        colors.new_empty((images, height, width, channels)),
        colors.new_empty((images, height, width, 1)),
        *saved,
    )


def _fake_backward(
    v_colors: Tensor,
    v_alphas: Tensor,
    plan: Tensor,
    lists: Tensor,
    backgrounds: Tensor | None,
    count: int,
) -> tuple[Tensor, ...]:
    images, channels = v_colors.shape[0], v_colors.shape[3]
    shapes = (
        (images, count, 2),
        (images, count, 3),
        (images, count),
        (images, count, channels),
        (images, channels),
    )
    return tuple(v_colors.new_empty(shape) for shape in shapes)
