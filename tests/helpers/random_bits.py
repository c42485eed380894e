"""Calls of the C++ operators with any floats; run by the tests, and under sanitizers by ``make
test-asan``."""

import torch
from torch import Tensor

from gghead.rendering import native_backend

_EXTREMES = (
    0.0,
    -0.0,
    1e-45,
    -1e-45,
    1.1754944e-38,
    3.4028235e38,
    -3.4028235e38,
    1e19,
    1e-19,
    2.0**31,
    -(2.0**31),
    float("inf"),
    -float("inf"),
    float("nan"),
)


def random_floats(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """Random bits read as float32, a quarter of them from a list of extremes: every magnitude,
    subnormals, inf, NaN."""
    bits = torch.randint(-(2**31), 2**31, shape, generator=rng).to(torch.int32).view(torch.float32)
    extremes = torch.tensor(_EXTREMES)[torch.randint(len(_EXTREMES), shape, generator=rng)]
    return torch.where(torch.rand(shape, generator=rng) < 0.25, extremes, bits)


def spoil(value: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """``value`` with a share of its numbers replaced by random floats."""
    return torch.where(
        torch.rand(value.shape, generator=rng) < share, random_floats(value.shape, rng), value
    )


def _pick(choices: tuple, rng: torch.Generator):
    return choices[int(torch.randint(len(choices), (), generator=rng))]


def run_operators(seed: int) -> None:
    """Project and composite once, forward and backward, with arguments that ``seed`` draws; the
    outcome is left alone.

    Each operator gets spoilt numbers of its own, so that the second is not protected by the first.
    """
    rng = torch.Generator().manual_seed(seed)
    share = _pick((0.002, 0.05, 0.3, 1.0), rng)
    batch, cameras, count = (
        _pick((0, 1, 2), rng),
        _pick((0, 1, 3), rng),
        _pick((0, 1, 15, 16, 17, 100, 2100), rng),
    )
    width, height = (_pick((1, 3, 4, 33, 70, 130), rng) for _ in range(2))

    def normal(*shape: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
        return spoil(scale * torch.randn(shape, generator=rng) + shift, share, rng).requires_grad_()

    views = torch.eye(4).expand(batch, cameras, 4, 4)
    intrinsics = torch.tensor([[30.0, 0, width / 2], [0, 30.0, height / 2], [0, 0, 1]]).expand(
        batch, cameras, 3, 3
    )
    planes = random_floats((3,), rng).tolist() if share > 0.2 else [0.01, 1e10, 0.3]
    projected = native_backend.project(
        normal(batch, count, 3, shift=1.0),
        normal(batch, count, 4),
        normal(batch, count, 3, scale=0.3),
        normal(batch, count, shift=0.5),
        spoil(views, share / 10, rng).requires_grad_(),
        spoil(intrinsics, share / 10, rng),
        width,
        height,
        *planes,
        bool(seed % 2),
    )
    outputs = [projected.means2d, projected.depths, projected.conics, projected.opacities]
    torch.autograd.backward(
        outputs, [spoil(torch.ones_like(value), share, rng) for value in outputs]
    )

    images, channels = batch * cameras, _pick((0, 1, 3, 8, 9, 40), rng)
    inverse_widths = torch.randn(images, count, 2, generator=rng).exp()
    conics = torch.stack(
        [inverse_widths[..., 0], 0 * inverse_widths[..., 0], inverse_widths[..., 1]], -1
    )
    radii = torch.randint(-(2**31), 2**31, (images, count, 2), generator=rng).to(torch.int32)
    radii = torch.where(torch.rand(images, count, 1, generator=rng) < 0.9, radii.abs(), radii)
    composited = native_backend.composite(
        normal(images, count, 2, scale=width / 2, shift=width / 2),
        spoil(conics, share, rng).requires_grad_(),
        normal(images, count, shift=0.5),
        normal(images, count, channels),
        normal(images, count).detach(),
        radii,
        _pick((None, normal(images, channels)), rng),
        width,
        height,
    )
    torch.autograd.backward(
        composited, [spoil(torch.ones_like(value), share, rng) for value in composited]
    )
