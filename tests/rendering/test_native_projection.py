"""The C++ projection against the torch one in float64, and as a citizen of torch.

The rasterizer's own tests compare it with the dense reference; here are its other outputs and its
behavior."""

import pytest
import torch
from torch import library

from gghead.cameras import Cameras
from gghead.rendering import native_backend, projection, rasterization
from gghead.torch_utils.ops import native_build

WORKS, REASON = native_build.available(native_backend.LIBRARY)
pytestmark = pytest.mark.skipif(not WORKS, reason=REASON)
WIDTH, HEIGHT = 40, 30
FIELDS = ("means2d", "depths", "conics", "opacities")


def scene(count=77, batch=2, cameras=3):
    g = torch.Generator().manual_seed(0)
    means = torch.rand(batch, count, 3, generator=g) * 2 - 1
    scales = torch.rand(batch, count, 3, generator=g) * 0.1 + 0.002
    scales[:, ::7] *= torch.tensor([20.0, 0.1, 0.1])
    view = Cameras.orbit(torch.linspace(-0.7, 0.7, batch * cameras).reshape(batch, cameras))
    means[:, 3::11] = view.cam2world[:, 0, :3, 3][:, None]  # at the camera's center
    tensors = (
        means,
        torch.randn(batch, count, 4, generator=g),
        scales,
        torch.rand(batch, count, generator=g),
        view.viewmats.float().contiguous(),
        view.Ks(WIDTH, HEIGHT).float().contiguous(),
    )
    return [t.clone() for t in tensors]


def run(function, inputs, antialiased, dtype):
    leaves = [t.to(dtype).requires_grad_(i < 5) for i, t in enumerate(inputs)]
    out = function(*leaves, WIDTH, HEIGHT, 0.1, 100.0, 0.3, antialiased)
    g = torch.Generator().manual_seed(1)
    seen = (out.radii > 0).all(-1)
    loss = 0.0
    for name in FIELDS:
        value = getattr(out, name)
        weight = torch.randn(value.shape, generator=g).to(dtype)
        loss = (
            loss
            + torch.where(
                seen.reshape(*seen.shape, *[1] * (value.ndim - 3)), weight * value, 0.0
            ).sum()
        )
    return out, torch.autograd.grad(loss, leaves[:5])


def relative(value, truth):
    value, truth = value.detach().double(), truth.detach().double()
    return float((value - truth).norm() / truth.norm().clamp_min(1e-12))


@pytest.mark.parametrize("antialiased", [False, True])
@pytest.mark.parametrize("count", [1, 16, 77, 1100])  # several ranges, and a group that is not full
def test_outputs_and_gradients(count, antialiased):
    inputs = scene(count)
    got, got_gradients = run(native_backend.project, inputs, antialiased, torch.float32)
    want, want_gradients = run(projection.project, inputs, antialiased, torch.float64)
    seen = (want.radii > 0).all(-1)
    if count > 16:
        assert seen.any() and not seen.all()
    assert (got.radii - want.radii).abs().max() <= 1 and torch.equal((got.radii > 0).all(-1), seen)
    for name in FIELDS:
        assert relative(getattr(got, name)[seen], getattr(want, name)[seen]) <= 1e-5, name
    for name, g, w in zip(
        ("means", "quats", "scales", "opacities", "viewmats"),
        got_gradients,
        want_gradients,
        strict=True,
    ):
        assert relative(g, w) <= 1e-4, name


def test_same_bits_for_any_number_of_threads():
    inputs, results = scene(1500), []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            out, gradients = run(native_backend.project, inputs, True, torch.float32)
            results.append([getattr(out, name) for name in FIELDS] + list(gradients))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("which", range(5))
def test_a_gaussian_that_is_not_finite_is_skipped_and_harms_nobody(which, bad):
    """Same image and same gradients of the others as without it, also of the camera; its own
    gradients are zero."""
    means, quats, scales, opacities, viewmats, Ks = (t[:1] for t in scene(40))
    colors = torch.rand(1, 40, 3, generator=torch.Generator().manual_seed(2))
    values = [means, quats, scales, opacities, colors]
    spoiled = [t.clone() for t in values]
    spoiled[which][:, 5] = bad
    hidden = [t.clone() for t in values]
    hidden[3][:, 5] = 0.0

    def render(tensors):
        leaves = [t.requires_grad_() for t in (*tensors, viewmats.clone())]
        out, alphas, meta = rasterization(*leaves, Ks, WIDTH, HEIGHT, backend="native")
        return out, torch.autograd.grad(out.square().sum() + alphas.sum(), leaves), meta

    image, gradients, meta = render(spoiled)
    expected, wanted, clean = render(hidden)
    torch.testing.assert_close(image, expected)
    for got, want in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(got, want)
        assert got.isfinite().all()
    assert int(meta["n_nonfinite"]) == 1 and int(clean["n_nonfinite"]) == 0


def test_is_a_well_behaved_operator():
    inputs = scene(9, 1, 2)
    native_backend.project(*inputs, WIDTH, HEIGHT, 0.1, 100.0, 0.3, False)  # loads the operators
    leaves = [t.requires_grad_(i < 5) for i, t in enumerate(inputs)]
    options = (WIDTH, HEIGHT, 0.1, 100.0, 0.3, True)
    library.opcheck(torch.ops.gghead_splat.project.default, (*leaves, *options))
    with pytest.raises(NotImplementedError, match="second derivative"):
        out = native_backend.project(*leaves, *options)
        first = torch.autograd.grad(out.conics.square().sum(), leaves[0], create_graph=True)[0]
        first.sum().backward()


def test_works_under_compile():
    """The operators stay in the graph; only the choice of the backend interrupts it."""
    inputs = scene(20, 1, 1)
    colors = torch.rand(1, 20, 3)

    def render(means):
        return rasterization(
            means, *inputs[1:4], colors, *inputs[4:], WIDTH, HEIGHT, backend="native"
        )[0]

    def project(means):
        return torch.ops.gghead_splat.project(
            means, *inputs[1:], WIDTH, HEIGHT, 0.1, 100.0, 0.3, False
        )[2]

    with torch.no_grad():
        torch.testing.assert_close(
            torch.compile(render, backend="eager")(inputs[0]), render(inputs[0])
        )
        compiled = torch.compile(project, backend="aot_eager", fullgraph=True)(inputs[0])
        torch.testing.assert_close(compiled, project(inputs[0]))


def test_wrong_inputs_are_refused_in_a_sentence():
    inputs = scene(9)
    with pytest.raises(ValueError, match="quats must be a CPU tensor"):
        native_backend.project(
            inputs[0], inputs[1][:, :4], *inputs[2:], WIDTH, HEIGHT, 0.1, 100.0, 0.3, False
        )
