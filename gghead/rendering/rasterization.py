"""``rasterization``: gsplat's function of that name (1.5), on any device, with any backend."""

import math
import os
from typing import Any

import torch
from torch import Tensor

from gghead import finite, sh
from gghead.finite import find_nonfinite
from gghead.rendering import registry
from gghead.rendering.projection import RasterizeMode, RenderMode, project
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.skip_compile import skip_compile

RENDER_MODES = ("RGB", "D", "ED", "RGB+D", "RGB+ED")
RASTERIZE_MODES = ("classic", "antialiased")

# environment variable for looking for faults; costs a pass over the inputs
CHECK_FINITE = "GGHEAD_CHECK_FINITE"
_MIN_ALPHA_OF_ED = 1e-10  # floor of the division that turns accumulated depth into expected depth

# means, quats, scales, opacities, colors, viewmats, Ks
_Scene = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def rasterization(
    means: Tensor,  # [..., N, 3] world units
    quats: Tensor,  # [..., N, 4] w, x, y, z; normalized inside
    scales: Tensor,  # [..., N, 3] standard deviations, world units
    opacities: Tensor,  # [..., N] in [0, 1]
    colors: Tensor,  # [..., (C,) N, D], or spherical harmonics [..., (C,) N, K, 3] with sh_degree
    viewmats: Tensor,  # [..., C, 4, 4] world to camera, OpenCV axes
    Ks: Tensor,  # [..., C, 3, 3] pixels
    width: int,
    height: int,
    *,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    eps2d: float = 0.3,
    sh_degree: int | None = None,
    backgrounds: Tensor | None = None,  # [..., C, D]
    render_mode: RenderMode = "RGB",
    rasterize_mode: RasterizeMode = "classic",
    backend: str = "auto",
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Render 3D Gaussians as ``gsplat.rasterization`` 1.5 does.

    Names, shapes, numbers and results are the same. ``...`` are any batch dimensions (scenes), each
    with ``C`` cameras. Returns the images [..., C, height, width, X], the opacities [..., C,
    height, width, 1] and a dictionary with ``means2d``, ``radii``, ``depths``, ``conics``,
    ``opacities`` (each [..., C, N, ...]), ``width``, ``height``, ``n_batches``, ``n_cameras``,
    ``backend``; on CPUs also ``n_nonfinite``, a tensor: how many Gaussians hold NaN or infinity. X
    is D, or 1 for "D" (accumulated camera-space z) and "ED" (divided by the opacity), or D + 1 with
    the depth last. Backgrounds color what is left of the transmittance; the depth has none.
    Half-precision inputs are rendered in float32, also under autocast.

    Any numbers are safe. A Gaussian with NaN or infinity is skipped: it draws nothing, gets
    gradients of zero and changes no other one. So is one whose projection float cannot hold (10^12
    pixels wide, or 10^9 with gsplat), in the images that this concerns (gsplat: in all of its
    scene). A camera with NaN or infinity sees nothing. With the environment variable
    ``GGHEAD_CHECK_FINITE=1`` numbers that are not finite are an error.

    Raises ``ValueError`` for shapes, devices, planes or modes that do not fit; ``UserError`` for a
    backend that cannot be used, for images larger than the memory, and for values that are not
    finite where they are checked.
    """
    scene = (means, quats, scales, opacities, colors, viewmats, Ks)
    batch, n, c = _check(*scene, backgrounds, width, height, sh_degree, render_mode, rasterize_mode)
    _check_planes(near_plane, far_plane, eps2d)
    channels = (colors.shape[-1] if render_mode.startswith("RGB") else 0) + render_mode.endswith(
        "D"
    )
    _check_memory(math.prod(batch) * c, width, height, channels + 1, means)
    if os.environ.get(CHECK_FINITE, "0") not in ("", "0"):
        _raise_nonfinite(means, quats, scales, opacities, colors)
    dtype = torch.float64 if means.dtype == torch.float64 else torch.float32
    with torch.autocast(means.device.type, enabled=False):
        scene, bad = _hide_nonfinite(
            means.to(dtype),
            quats.to(dtype),
            scales.to(dtype),
            opacities.to(dtype),
            colors.to(dtype),
            viewmats.to(dtype),
            Ks.to(dtype),
            sh_degree,
        )
        backgrounds = None if backgrounds is None else backgrounds.to(dtype)
        choice = registry.resolve(backend, means.device, dtype)
        if choice.backend.rasterize is not None and n * c * math.prod(batch) > 0:
            images, alphas, meta = choice.backend.rasterize(
                *scene,
                width,
                height,
                near_plane=near_plane,
                far_plane=far_plane,
                eps2d=eps2d,
                sh_degree=sh_degree,
                backgrounds=backgrounds,
                render_mode=render_mode,
                rasterize_mode=rasterize_mode,
            )
        else:
            compositor = (
                choice.backend
                if choice.backend.composite
                else registry.resolve("torch", means.device).backend
            )
            planes = (near_plane, far_plane, eps2d)
            images, alphas, meta = _project_and_composite(
                *scene,
                backgrounds,
                width,
                height,
                batch,
                planes,
                sh_degree,
                render_mode,
                rasterize_mode,
                compositor,
            )
            meta["n_nonfinite"] = torch.zeros((), dtype=torch.int64) if bad is None else bad.sum()
    meta.update(
        width=width,
        height=height,
        n_batches=math.prod(batch),
        n_cameras=c,
        backend=choice.backend.name,
    )
    return images, alphas, meta


def _project_and_composite(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    backgrounds: Tensor | None,
    width: int,
    height: int,
    batch: torch.Size,
    planes: tuple[float, float, float],
    sh_degree: int | None,
    render_mode: str,
    rasterize_mode: str,
    backend: registry.Backend,
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Project, evaluate harmonics and composite, for all backends that only composite.

    The depth channel and the batch dimensions belong to it.
    """
    b, c, n = math.prod(batch), viewmats.shape[-3], means.shape[-2]
    images = b * c
    assert backend.composite is not None, f"{backend.name} does not composite"
    near_plane, far_plane, eps2d = planes
    projection = (backend.project or project)(
        means.reshape(b, n, 3),
        quats.reshape(b, n, 4),
        scales.reshape(b, n, 3),
        opacities.reshape(b, n),
        viewmats.reshape(b, c, 4, 4),
        Ks.reshape(b, c, 3, 3),
        width,
        height,
        near_plane,
        far_plane,
        eps2d,
        rasterize_mode == "antialiased",
    )
    meta = {
        name: getattr(projection, name).reshape(*batch, c, n, *tail)
        for name, tail in (
            ("means2d", [2]),
            ("radii", [2]),
            ("depths", []),
            ("conics", [3]),
            ("opacities", []),
        )
    }
    channels = []
    if render_mode.startswith("RGB"):
        per_camera = colors.ndim == len(batch) + 3 + (sh_degree is not None)
        colors = colors if per_camera else colors.unsqueeze(len(batch))
        if sh_degree is not None:
            colors = sh.evaluate(sh_degree, sh.directions(means, viewmats), colors)
        channels.append(colors.expand(*batch, c, n, colors.shape[-1]))
    if render_mode.endswith("D"):
        channels.append(meta["depths"][..., None])
        if backgrounds is not None:
            kept = backgrounds if render_mode.startswith("RGB") else backgrounds[..., :0]
            backgrounds = torch.nn.functional.pad(kept, (0, 1))
    values = torch.cat(channels, -1) if len(channels) > 1 else channels[0]
    # The flattened views start at the tensors in `meta`, so that gradients of those can be retained
    # as with gsplat.
    rendered, alphas = backend.composite(
        meta["means2d"].reshape(images, n, 2),
        meta["conics"].reshape(images, n, 3),
        meta["opacities"].reshape(images, n).contiguous(),
        values.reshape(images, n, values.shape[-1]).contiguous(),
        meta["depths"].detach().reshape(images, n).contiguous(),
        meta["radii"].reshape(images, n, 2),
        None if backgrounds is None else backgrounds.reshape(images, values.shape[-1]).contiguous(),
        width,
        height,
    )
    if render_mode.endswith("ED"):
        expected = rendered[..., -1:] / alphas.clamp_min(_MIN_ALPHA_OF_ED)
        rendered = torch.cat([rendered[..., :-1], expected], -1)
    shape = (*batch, c, height, width)
    return rendered.reshape(*shape, rendered.shape[-1]), alphas.reshape(*shape, 1), meta


def _hide_nonfinite(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    sh_degree: int | None,
) -> tuple[_Scene, Tensor | None]:
    """The inputs without NaN and infinity, and where [..., N] Gaussians had them.

    What had them draws nothing. The second is None on CPUs: nowhere. Colors per camera are left to
    those who blend them.
    """
    values = [means, quats, scales, opacities[..., None]]
    per_gaussian = colors.ndim == means.ndim + (sh_degree is not None)
    if per_gaussian:
        values.append(colors if sh_degree is None else colors.flatten(-2))
    bad = find_nonfinite(*values)
    if bad is not None:
        means, quats, scales, opacities = finite.hide_gaussians(
            bad, means, quats, scales, opacities
        )
        if per_gaussian:
            colors = colors.masked_fill(
                bad[..., None] if sh_degree is None else bad[..., None, None], 0.0
            )
    blind = find_nonfinite(viewmats.flatten(-2), Ks.flatten(-2))
    if blind is not None:
        viewmats, Ks = finite.hide_cameras(blind, viewmats, Ks)
    return (means, quats, scales, opacities, colors, viewmats, Ks), bad


@skip_compile
@torch.no_grad()
def _raise_nonfinite(
    means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, colors: Tensor
) -> None:
    for name, value in {
        "means": means,
        "quats": quats,
        "scales": scales,
        "opacities": opacities,
        "colors": colors,
    }.items():
        bad = (~value.isfinite()).nonzero()
        if len(bad):
            raise UserError(
                f"{len(bad)} of {value.numel()} numbers of {name} are not finite, the first is"
                f" {name}{bad[0].tolist()} = {float(value[tuple(bad[0])])}; find what made it, or"
                f" unset {CHECK_FINITE} to have such Gaussians skipped."
            )


def _check_planes(near_plane: float, far_plane: float, eps2d: float) -> None:
    if math.isnan(near_plane) or math.isnan(far_plane):
        raise ValueError(
            f"near_plane and far_plane must be numbers, but they are {near_plane} and {far_plane}."
        )
    if not 0 <= eps2d < math.inf:
        raise ValueError(
            f"eps2d must be a finite number of square pixels from 0 on, but it is {eps2d}."
        )


@skip_compile
def _check_memory(images: int, width: int, height: int, planes: int, example: Tensor) -> None:
    """Raise ``UserError`` for images that all the memory of the device cannot hold.

    They are of the example's type.
    """
    if example.device.type == "cuda":
        memory = torch.cuda.get_device_properties(example.device).total_memory
    elif hasattr(os, "sysconf"):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    else:
        return
    needed = images * width * height * planes * max(example.element_size(), 4)
    if needed > memory:
        raise UserError(
            f"{images} images of {width} x {height} pixels take {needed / 2**30:.1f} GiB, but"
            f" there are {memory / 2**30:.1f} GiB of memory; render fewer at a time, or smaller"
            " ones."
        )


def _check(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    backgrounds: Tensor | None,
    width: int,
    height: int,
    sh_degree: int | None,
    render_mode: str,
    rasterize_mode: str,
) -> tuple[torch.Size, int, int]:
    """Batch shape, number of Gaussians and of cameras; ``ValueError`` for what does not fit."""
    if render_mode not in RENDER_MODES:
        raise ValueError(
            f"render_mode must be one of {', '.join(RENDER_MODES)}, but it is '{render_mode}'."
        )
    if rasterize_mode not in RASTERIZE_MODES:
        raise ValueError(
            f"rasterize_mode must be one of {', '.join(RASTERIZE_MODES)}, but it is"
            f" '{rasterize_mode}'."
        )
    if width < 1 or height < 1:
        raise ValueError(
            f"An image must have at least one pixel, but width and height are {width} and {height}."
        )
    if means.ndim < 2 or viewmats.ndim < 3:
        raise ValueError(
            "means must be [..., N, 3] and viewmats [..., C, 4, 4], but they are"
            f" {list(means.shape)} and {list(viewmats.shape)}."
        )
    batch, n, c = means.shape[:-2], means.shape[-2], viewmats.shape[-3]
    wanted = {
        "means": (means, [*batch, n, 3]),
        "quats": (quats, [*batch, n, 4]),
        "scales": (scales, [*batch, n, 3]),
        "opacities": (opacities, [*batch, n]),
        "viewmats": (viewmats, [*batch, c, 4, 4]),
        "Ks": (Ks, [*batch, c, 3, 3]),
    }
    for name, (tensor, shape) in wanted.items():
        if list(tensor.shape) != shape:
            raise ValueError(
                f"{name} must have the shape {shape} to fit the others, but it is"
                f" {list(tensor.shape)}."
            )
        if tensor.device != means.device:
            raise ValueError(
                f"{name} is on {tensor.device} but means on {means.device}; move them to the same"
                " device."
            )
    kind = "[..., (C,) N, D]" if sh_degree is None else "[..., (C,) N, K, 3]"
    tail = 1 if sh_degree is None else 2
    fits = list(colors.shape[:-tail]) in ([*batch, n], [*batch, c, n]) and (
        sh_degree is None or colors.shape[-1] == 3
    )
    if not fits:
        raise ValueError(
            f"colors must have the shape {kind} with N = {n} and C = {c}, but it is"
            f" {list(colors.shape)}."
        )
    if sh_degree is not None and not 0 <= sh_degree <= sh.MAX_DEGREE:
        raise ValueError(f"sh_degree must be between 0 and {sh.MAX_DEGREE}, but it is {sh_degree}.")
    if sh_degree is not None and sh.num_bases(sh_degree) > colors.shape[-2]:
        raise ValueError(
            f"sh_degree {sh_degree} needs {sh.num_bases(sh_degree)} coefficients, but colors has"
            f" {colors.shape[-2]}."
        )
    if backgrounds is not None and list(backgrounds.shape) != [*batch, c, colors.shape[-1]]:
        raise ValueError(
            f"backgrounds must have the shape {[*batch, c, colors.shape[-1]]}, but it is"
            f" {list(backgrounds.shape)}."
        )
    return batch, n, c
