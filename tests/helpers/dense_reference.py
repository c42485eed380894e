"""Dense float64 rasterization straight from the formulas, to compare the backends with. It shares
no code with them.

Every pixel looks at every Gaussian. Slow, differentiable by autograd in every input.
"""

import math

import torch
from torch import Tensor


def dense_rasterization(
    means,
    quats,
    scales,
    opacities,
    colors,
    viewmats,
    Ks,
    width,
    height,
    *,
    near_plane=0.01,
    far_plane=1e10,
    eps2d=0.3,
    sh_degree=None,
    backgrounds=None,
    render_mode="RGB",
    rasterize_mode="classic",
):
    """As ``gghead.rendering.rasterization``; returns colors and alphas in float64."""
    batch, n, c = means.shape[:-2], means.shape[-2], viewmats.shape[-3]
    b = math.prod(batch)
    harmonic = sh_degree is not None
    per_camera = colors.ndim == len(batch) + 3 + harmonic
    own = colors.shape[-2:] if harmonic else colors.shape[-1:]
    colors = colors.double()
    colors = (
        colors.reshape(b, c, n, *own)
        if per_camera
        else colors.reshape(b, 1, n, *own).expand(b, c, n, *own)
    )
    flat = [
        x.double().reshape(b, *x.shape[len(batch) :])
        for x in (means, quats, scales, opacities, viewmats, Ks)
    ]
    means, quats, scales, opacities, viewmats, Ks = flat
    images, alphas = [], []
    for i in range(b):
        for j in range(c):
            values = _colors(colors[i, j], means[i], viewmats[i, j], sh_degree)
            background = (
                None if backgrounds is None else backgrounds.double().reshape(b, c, -1)[i, j]
            )
            image, alpha = _one_image(
                means[i],
                quats[i],
                scales[i],
                opacities[i],
                values,
                viewmats[i, j],
                Ks[i, j],
                width,
                height,
                near_plane,
                far_plane,
                eps2d,
                background,
                render_mode,
                rasterize_mode,
            )
            images.append(image)
            alphas.append(alpha)
    shape = (*batch, c, height, width, -1)
    return torch.stack(images).reshape(shape), torch.stack(alphas).reshape(shape)


def _colors(colors: Tensor, means: Tensor, viewmat: Tensor, degree: int | None) -> Tensor:
    if degree is None:
        return colors
    center = torch.linalg.inv(viewmat)[:3, 3]
    rays = means - center
    rays = rays / rays.norm(dim=-1, keepdim=True)
    result = 0.5
    index = 0
    for band in range(degree + 1):
        for order in range(-band, band + 1):
            result = result + real_harmonic(band, order, rays)[:, None] * colors[:, index]
            index += 1
    return result.clamp(min=0)


def real_harmonic(band: int, order: int, rays: Tensor) -> Tensor:
    """Real spherical harmonic with the Condon-Shortley phase, from the derivatives of the Legendre
    polynomial."""
    m = abs(order)
    x, y, z = rays.unbind(-1)
    # Rodrigues' formula: d^band/dz^band (z^2 - 1)^band / (2^band band!), differentiated m more
    # times.
    polynomial = {2 * k: math.comb(band, k) * (-1.0) ** (band - k) for k in range(band + 1)}
    for _ in range(band + m):
        polynomial = {
            power - 1: power * factor for power, factor in polynomial.items() if power > 0
        }
    legendre = sum((factor * z**power for power, factor in polynomial.items()), torch.zeros_like(z))
    legendre = legendre / (2**band * math.factorial(band))
    # real and imaginary part of (x + i y)^m
    azimuth_cos, azimuth_sin = torch.ones_like(x), torch.zeros_like(x)
    for _ in range(m):
        azimuth_cos, azimuth_sin = (
            azimuth_cos * x - azimuth_sin * y,
            azimuth_cos * y + azimuth_sin * x,
        )
    norm = math.sqrt(
        (2 * band + 1) / (4 * math.pi) * math.factorial(band - m) / math.factorial(band + m)
    )
    if order == 0:
        return norm * legendre
    return (-1) ** m * math.sqrt(2) * norm * legendre * (azimuth_cos if order > 0 else azimuth_sin)


def _rotation(q: Tensor) -> Tensor:
    w, x, y, z = (q / q.norm()).unbind()
    return torch.stack(
        [
            torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)]),
            torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)]),
            torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]),
        ]
    )


def _one_image(
    means,
    quats,
    scales,
    opacities,
    colors,
    viewmat,
    K,
    width,
    height,
    near,
    far,
    eps2d,
    background,
    render_mode,
    rasterize_mode,
):
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    world_to_camera, shift = viewmat[:3, :3], viewmat[:3, 3]
    centers = means @ world_to_camera.T + shift
    py, px = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels = torch.stack([px, py], -1).double()
    if render_mode != "RGB":
        colors = (
            torch.cat([colors, centers[:, 2:]], -1)
            if render_mode.startswith("RGB")
            else centers[:, 2:]
        )
        if background is not None:
            zero = background.new_zeros(1)
            background = torch.cat([background, zero]) if render_mode.startswith("RGB") else zero
    accumulated = colors.new_zeros(height, width, colors.shape[-1])
    transmittance = colors.new_ones(height, width)
    finished = torch.zeros(height, width, dtype=torch.bool)
    for g in torch.argsort(centers[:, 2].detach(), stable=True).tolist():
        x, y, z = centers[g].unbind()
        if not near <= z <= far:
            continue
        slope_x = torch.clamp(x / z, -(cx + 0.15 * width) / fx, (width - cx + 0.15 * width) / fx)
        slope_y = torch.clamp(y / z, -(cy + 0.15 * height) / fy, (height - cy + 0.15 * height) / fy)
        zero = torch.zeros_like(z)
        jacobian = torch.stack(
            [
                torch.stack([fx / z, zero, -fx * slope_x / z]),
                torch.stack([zero, fy / z, -fy * slope_y / z]),
            ]
        )
        factor = jacobian @ world_to_camera @ _rotation(quats[g]) @ torch.diag(scales[g])
        sharp = factor @ factor.T
        blurred = sharp + eps2d * torch.eye(2, dtype=torch.float64)
        opacity = opacities[g]
        if rasterize_mode == "antialiased":
            opacity = opacity * torch.sqrt(
                torch.linalg.det(sharp).clamp(min=0) / torch.linalg.det(blurred)
            )
        offset = pixels - torch.stack([fx * x / z + cx, fy * y / z + cy])
        sigma = 0.5 * torch.einsum("hwi,ij,hwj->hw", offset, torch.linalg.inv(blurred), offset)
        alpha = (opacity * torch.exp(-sigma)).clamp(max=0.999)
        used = (sigma >= 0) & (alpha >= 1 / 255) & ~finished
        after = transmittance * (1 - alpha)
        finished = finished | (used & (after <= 1e-4))
        used = used & ~finished
        weight = torch.where(used, alpha * transmittance, 0)
        accumulated = accumulated + weight[..., None] * colors[g]
        transmittance = torch.where(used, after, transmittance)
    alpha = (1 - transmittance)[..., None]
    if background is not None:
        accumulated = accumulated + transmittance[..., None] * background
    if render_mode.endswith("ED"):
        accumulated = torch.cat(
            [accumulated[..., :-1], accumulated[..., -1:] / alpha.clamp(min=1e-10)], -1
        )
    return accumulated, alpha
