"""Every CPU backend against a dense float64 reference, gsplat's own torch functions and finite
differences."""

import sys
import types

import pytest
import torch
from helpers.dense_reference import dense_rasterization, real_harmonic

from gghead import sh
from gghead.rendering import gsplat_backend, registry, torch_backend
from gghead.rendering.projection import project, quat_to_rotmat
from gghead.rendering.rasterization import RENDER_MODES, rasterization
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.rng import generator

BACKENDS = registry.available_names("cpu", torch.float32)
NAMES = ("means", "quats", "scales", "opacities", "colors", "viewmats", "backgrounds")
WIDTH, HEIGHT = 37, 26  # not divisible by any block size


def views(cameras: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """World-to-camera matrices [C, 4, 4] near the origin that look along +z; Ks with unequal
    focals, shifted center."""
    rng = generator(seed, "views")
    quats = torch.cat([torch.ones(cameras, 1), 0.1 * torch.randn(cameras, 3, generator=rng)], -1)
    viewmats = torch.eye(4).repeat(cameras, 1, 1)
    viewmats[:, :3, :3] = quat_to_rotmat(quats)
    viewmats[:, :3, 3] = 0.1 * torch.randn(cameras, 3, generator=rng)
    K = torch.tensor([[40.0, 0.0, 0.45 * WIDTH], [0.0, 33.0, 0.6 * HEIGHT], [0.0, 0.0, 1.0]])
    return viewmats, K.repeat(cameras, 1, 1)


def scene(
    batch: tuple[int, ...] = (),
    n: int = 60,
    cameras: int = 1,
    seed: int = 0,
    degree: int | None = None,
) -> dict:
    """Gaussians of every awkward kind in front of, beside and behind the cameras."""
    rng = generator(seed, "scene", n)
    rand = lambda *shape: torch.rand(*batch, n, *shape, generator=rng)  # noqa: E731
    kind = torch.arange(n) % 10
    means = (rand(3) - 0.5) * torch.tensor([3.0, 2.4, 2.0]) + torch.tensor([0.0, 0.0, 3.0])
    scales = 0.02 + 0.12 * rand(3)
    scales[..., kind == 1, :] *= torch.tensor([12.0, 0.05, 0.05])  # needle
    scales[..., kind == 2, :] *= torch.tensor([4.0, 4.0, 0.01])  # pancake
    scales[..., kind == 3, :] *= 15.0  # huge
    scales[..., kind == 4, :] *= 0.01  # far smaller than a pixel
    means[..., kind == 5, 2] *= -1.0  # behind the camera
    means[..., kind == 6, :2] *= 2.5  # center outside the image, some of it inside
    scales[..., kind == 6, :] *= 3.0
    means[..., kind == 7, :] *= 0.08  # around the near plane
    opacities = 0.05 + 0.9 * rand()
    extremes = torch.tensor([0.0, 1.0, 0.0039, 0.00395, 0.004, 0.99])
    opacities[..., kind == 8] = extremes.repeat(n)[: int((kind == 8).sum())]
    means[..., kind == 9, 2] = 3.25  # many at one depth: order by index
    colors = rand((degree + 1) ** 2, 3) - 0.3 if degree is not None else rand(4)
    viewmats, Ks = views(cameras, seed)
    channels = colors.shape[-1]
    return {
        "means": means,
        "quats": torch.randn(*batch, n, 4, generator=rng),
        "scales": scales,
        "opacities": opacities,
        "colors": colors,
        "viewmats": viewmats.expand(*batch, cameras, 4, 4).clone(),
        "Ks": Ks.expand(*batch, cameras, 3, 3).clone(),
        "backgrounds": torch.rand(*batch, cameras, channels, generator=rng),
    }


def gradients(function, inputs: dict, seed: int = 1, **options):
    """Outputs, and gradients of a random linear functional of them."""
    inputs = {k: v.clone().requires_grad_(k in NAMES) for k, v in inputs.items()}
    colors, alphas = function(**inputs, width=WIDTH, height=HEIGHT, **options)[:2]
    rng = generator(seed, "weights")
    loss = (colors.double() * torch.randn(colors.shape, generator=rng, dtype=torch.float64)).sum()
    loss = (
        loss
        + (alphas.double() * torch.randn(alphas.shape, generator=rng, dtype=torch.float64)).sum()
    )
    wanted = [inputs[k] for k in NAMES]
    grads = torch.autograd.grad(loss, wanted, allow_unused=True)
    grads = {
        k: torch.zeros_like(x) if g is None else g
        for k, x, g in zip(NAMES, wanted, grads, strict=True)
    }
    return colors, alphas, grads


def relative(got: torch.Tensor, wanted: torch.Tensor) -> float:
    got, wanted = got.detach().double(), wanted.detach().double()
    return float((got - wanted).norm() / wanted.norm().clamp_min(1e-12))


def compare(inputs: dict, backend: str, tolerance: float = 1e-4, **options) -> None:
    want_colors, want_alphas, want = gradients(dense_rasterization, inputs, **options)
    colors, alphas, got = gradients(rasterization, inputs, backend=backend, **options)
    assert colors.shape == want_colors.shape and alphas.shape == want_alphas.shape
    assert relative(colors, want_colors) <= tolerance
    assert relative(alphas, want_alphas) <= tolerance
    for name in NAMES:
        assert got[name].isfinite().all(), name
        assert relative(got[name], want[name]) <= tolerance, (name, relative(got[name], want[name]))


# ---------------------------------------------------------------------------- against the reference
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("rasterize_mode", ["classic", "antialiased"])
@pytest.mark.parametrize("render_mode", RENDER_MODES)
def test_values_and_gradients_in_every_mode(backend, render_mode, rasterize_mode):
    compare(scene(), backend, render_mode=render_mode, rasterize_mode=rasterize_mode)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_batch_dimensions(backend, batch):
    compare(scene(batch, n=20, cameras=2), backend, render_mode="RGB+ED")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("degree", [0, 1, 3])
def test_harmonics(backend, degree):
    compare(scene(n=30, cameras=2, degree=degree), backend, sh_degree=degree)


@pytest.mark.parametrize("backend", BACKENDS)
def test_colors_per_camera_and_lower_degree_than_given(backend):
    inputs = scene(n=20, cameras=2)
    rng = generator(5)
    compare({**inputs, "colors": torch.rand(2, 20, 4, generator=rng)}, backend)
    inputs = scene(n=20, cameras=2, degree=3)
    compare({**inputs, "colors": torch.randn(2, 20, 16, 3, generator=rng)}, backend, sh_degree=1)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "options", [{"near_plane": 2.5, "far_plane": 3.5}, {"eps2d": 0.0}, {"eps2d": 1.0}]
)
def test_planes_and_blur(backend, options):
    inputs = scene(n=40, seed=3)
    # without blur, float32 cannot follow splats that are far thinner than a pixel
    if options.get("eps2d") == 0:
        inputs["scales"] = inputs["scales"].clamp(0.05, 0.5)
    compare(inputs, backend, **options)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("channels", [1, 2, 3, 6, 7, 33])
def test_any_number_of_channels_without_background(backend, channels):
    inputs = scene(n=30, seed=4)
    inputs["colors"] = torch.rand(30, channels, generator=generator(6))
    inputs["backgrounds"] = torch.zeros(1, channels)
    compare(inputs, backend)
    del inputs["backgrounds"]
    options = {"width": WIDTH, "height": HEIGHT, "backend": backend}
    black = rasterization(**inputs, backgrounds=None, **options)[0]
    zeros = rasterization(**inputs, backgrounds=torch.zeros(1, channels), **options)[0]
    assert torch.equal(black, zeros)


@pytest.mark.parametrize("backend", BACKENDS)
def test_many_opaque_layers_stop_at_the_same_place(backend):
    inputs = scene(n=50, seed=7)
    inputs["scales"] = inputs["scales"].clamp(0.2, 0.6)
    inputs["means"][:, 2] = torch.linspace(2, 4, 50)
    inputs["opacities"] = torch.linspace(0.6, 1.0, 50)
    compare(inputs, backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_equal_depths_are_drawn_by_index(backend):
    viewmats, Ks = torch.eye(4)[None], views(1)[1]
    means = torch.tensor([0.0, 0.0, 2.0]).repeat(2, 1)
    arguments = (
        means,
        torch.tensor([[1.0, 0, 0, 0]] * 2),
        torch.full((2, 3), 0.3),
        torch.tensor([0.9, 0.9]),
    )
    colors = torch.eye(2, 3)
    first = rasterization(*arguments, colors, viewmats, Ks, WIDTH, HEIGHT, backend=backend)[0]
    swapped = rasterization(
        *arguments, colors.flip(0), viewmats, Ks, WIDTH, HEIGHT, backend=backend
    )[0]
    assert first[..., 0].max() > 0.8 and first[..., 1].max() < 0.26
    assert torch.equal(first[..., 0], swapped[..., 1])


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_gradient_through_a_clamped_alpha(backend):
    opacity = torch.ones(1, requires_grad=True)
    colors = torch.ones(1, 1, requires_grad=True)
    K = torch.tensor([[[10.0, 0, 0.5], [0, 10.0, 0.5], [0, 0, 1]]])
    image = rasterization(
        torch.tensor([[0.0, 0, 1]]),
        torch.tensor([[1.0, 0, 0, 0]]),
        torch.ones(1, 3),
        opacity,
        colors,
        torch.eye(4)[None],
        K,
        1,
        1,
        backend=backend,
    )[0]
    by_opacity, by_color = torch.autograd.grad(image.sum(), (opacity, colors))
    assert image.item() == pytest.approx(0.999, abs=1e-6)
    assert by_opacity.item() == 0 and by_color.item() == pytest.approx(0.999, abs=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("render_mode", RENDER_MODES)
def test_no_gaussians_give_the_background(backend, render_mode):
    inputs = scene(n=20)
    empty = {
        k: v[:0] if k in ("means", "quats", "scales", "opacities", "colors") else v
        for k, v in inputs.items()
    }
    colors, alphas, _ = rasterization(
        **empty, width=5, height=3, render_mode=render_mode, backend=backend
    )
    want = {"RGB": inputs["backgrounds"][0], "D": torch.zeros(1)}.get(
        render_mode[:3].rstrip("+"), torch.zeros(1)
    )
    assert alphas.shape == (1, 3, 5, 1) and alphas.abs().max() == 0
    assert torch.equal(colors[0, 1, 2][: len(want)], want) and torch.equal(
        colors[0, 0, 0], colors[0, 2, 4]
    )


@pytest.mark.parametrize("backend", [*BACKENDS, "gsplat"])
@pytest.mark.parametrize("batch, cameras", [((0,), 1), ((2,), 0)])
def test_no_heads_or_no_cameras_give_no_images(backend, batch, cameras, monkeypatch):
    """A backend that replaces everything is not asked for nothing; here one that would refuse
    it."""
    monkeypatch.setitem(
        registry._backends,
        "gsplat",
        registry.Backend(
            "gsplat",
            lambda *_: (True, ""),
            rasterize=lambda *_, **__: pytest.fail("asked to rasterize nothing"),
        ),
    )
    inputs = scene(batch, n=20, cameras=cameras)
    inputs["means"].requires_grad_(True)
    images, alphas, _ = rasterization(
        **inputs, width=5, height=3, render_mode="RGB+ED", backend=backend
    )
    assert images.shape == (*batch, cameras, 3, 5, 5) and alphas.shape == (
        *batch,
        cameras,
        3,
        5,
        1,
    )
    (images.sum() + alphas.sum()).backward()
    assert inputs["means"].grad.shape == inputs["means"].shape and not inputs["means"].grad.any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_all_gaussians_culled_have_zero_gradients(backend):
    inputs = scene(n=20)
    inputs["means"][:, 2] = -2.0
    _, alphas, grads = gradients(rasterization, inputs, backend=backend)
    assert alphas.abs().max() == 0
    assert all(
        grads[name].abs().max() == 0
        for name in ("means", "quats", "scales", "opacities", "colors", "viewmats")
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_image_of_one_pixel_is_that_pixel_of_a_larger_image(backend):
    inputs = scene(n=40)
    # All rays to the means have a slope of zero here, so that the Jacobian's clamp, which knows the
    # size, is idle.
    inputs["means"][:, :2] = 0
    inputs["viewmats"][:] = torch.eye(4)
    whole = rasterization(**inputs, width=WIDTH, height=HEIGHT, backend=backend)[0]
    x, y = 17, 14
    inputs["Ks"][..., 0, 2] -= x
    inputs["Ks"][..., 1, 2] -= y
    one = rasterization(**inputs, width=1, height=1, backend=backend)[0]
    assert one.shape == (1, 1, 1, 4) and not torch.allclose(
        one[0, 0, 0], inputs["backgrounds"][0], atol=0.1
    )
    assert torch.allclose(one[0, 0, 0], whole[0, y, x], atol=1e-5)


# -------------------------------------------------------------------------- the torch specification
def test_finite_differences_in_float64():
    inputs = {k: v.double() for k, v in scene(n=6, seed=11).items()}
    inputs["scales"] = inputs["scales"].clamp(0.05, 0.5)
    inputs["opacities"] = inputs["opacities"].clamp(0.2, 0.9)
    inputs["means"][:, 2] = torch.linspace(2.0, 4.0, 6, dtype=torch.float64)
    Ks = inputs.pop("Ks")
    weights = torch.randn(1, HEIGHT, WIDTH, 5, dtype=torch.float64, generator=generator(12))

    def loss(*values):
        named = dict(zip(inputs, values, strict=True))
        images, alphas, _ = rasterization(
            **named, Ks=Ks, width=WIDTH, height=HEIGHT, render_mode="RGB+D", backend="torch"
        )
        return (images * weights).sum() + alphas.square().sum()

    values = [v.requires_grad_() for v in inputs.values()]
    analytic = torch.autograd.grad(loss(*values), values)
    rng = generator(13)
    for index, (name, gradient) in enumerate(zip(inputs, analytic, strict=True)):
        direction = torch.randn(gradient.shape, dtype=torch.float64, generator=rng)
        step = 1e-6 * direction  # small enough that hardly any pair crosses the 1/255 threshold

        def moved(sign, index=index, step=step):
            return [
                v.detach() + sign * step if i == index else v.detach() for i, v in enumerate(values)
            ]

        numeric = (loss(*moved(1)) - loss(*moved(-1))) / 2e-6
        assert float((gradient * direction).sum()) == pytest.approx(
            float(numeric), rel=2e-3, abs=1e-5
        ), name


def test_float64_agrees_with_the_reference_to_its_own_precision():
    inputs = {k: v.double() for k, v in scene(seed=2).items()}
    compare(inputs, "torch", tolerance=1e-8, render_mode="RGB+ED")
    compare(inputs, "torch", tolerance=1e-8, rasterize_mode="antialiased")


def test_small_bands_and_repeated_blending_change_nothing(monkeypatch):
    inputs = scene((2,), n=40, cameras=2)
    whole = gradients(rasterization, inputs, backend="torch")
    monkeypatch.setattr(torch_backend, "BAND_PAIRS", 100)
    monkeypatch.setattr(torch_backend, "STORED_BANDS", 0)
    banded = gradients(rasterization, inputs, backend="torch")
    assert torch.allclose(whole[0], banded[0], atol=1e-6) and torch.allclose(
        whole[1], banded[1], atol=1e-6
    )
    assert all(relative(banded[2][name], whole[2][name]) < 1e-5 for name in NAMES)


# ----------------------------------------------------------------------------- against gsplat's own
def gsplat_functions():
    return pytest.importorskip("gsplat.cuda._torch_impl", reason="gsplat is not installed")


def test_projection_agrees_with_gsplat():
    oracle = gsplat_functions()
    inputs = scene((2,), n=50, cameras=3)
    inputs = {k: v.double() for k, v in inputs.items()}
    covars = oracle._quat_scale_to_covar_preci(
        inputs["quats"], inputs["scales"], compute_preci=False
    )[0]
    arguments = (inputs["viewmats"], inputs["Ks"], WIDTH, HEIGHT)
    radii, means2d, depths, conics, factor = oracle._fully_fused_projection(
        inputs["means"], covars, *arguments, near_plane=0.01, calc_compensations=True
    )
    opaque = torch.ones_like(inputs["opacities"])
    ours = project(
        inputs["means"],
        inputs["quats"],
        inputs["scales"],
        opaque,
        *arguments,
        near_plane=0.01,
        far_plane=1e10,
        eps2d=0.3,
        antialiased=True,
    )
    seen = (radii > 0).all(-1)
    assert 50 < int(seen.sum()) < seen.numel()
    assert torch.allclose(ours.means2d[seen], means2d[seen], atol=1e-9)
    assert torch.allclose(ours.depths[seen], depths[seen], atol=1e-12)
    assert torch.allclose(ours.conics[seen], conics[seen], rtol=1e-6, atol=1e-9)
    assert torch.allclose(ours.opacities[seen], factor[seen].clamp_min(1e-6), rtol=1e-5, atol=1e-9)
    # gsplat's torch code knows no opacity-aware extent: the factor of the antialiasing may shrink
    # ours.
    assert (ours.radii[seen] <= radii[seen]).all() and (ours.radii[~seen] <= 0).any(-1).all()


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_harmonics_agree_with_gsplat_and_with_their_definition(degree):
    rng = generator(degree, "harmonics")
    rays = torch.randn(40, 3, generator=rng, dtype=torch.float64)
    coefficients = torch.randn(40, 16, 3, generator=rng, dtype=torch.float64)
    ours = sh.evaluate(degree, rays, coefficients)
    oracle = gsplat_functions()._spherical_harmonics(degree, rays, coefficients)
    assert torch.allclose(ours, (oracle + 0.5).clamp_min(0), atol=1e-6)
    unit = rays / rays.norm(dim=-1, keepdim=True)
    values = [
        real_harmonic(band, order, unit)
        for band in range(degree + 1)
        for order in range(-band, band + 1)
    ]
    assert torch.allclose(sh.basis(degree, unit), torch.stack(values, -1), atol=1e-9)


def test_gsplat_backend_passes_everything_on(monkeypatch):
    """A stand-in for gsplat records what it is called with; the call must fit the real function's
    signature."""
    import inspect

    real = pytest.importorskip("gsplat", reason="gsplat is not installed").rasterization
    calls = []

    def fake(*args, **kwargs):
        bound = inspect.signature(real).bind(*args, **kwargs).arguments
        calls.append(bound)
        extra = {"RGB": 0, "RGB+ED": 1}[bound["render_mode"]]
        shape = (*bound["viewmats"].shape[:-2], bound["height"], bound["width"])
        return (
            torch.zeros(*shape, bound["colors"].shape[-1] + extra),
            torch.zeros(*shape, 1),
            {"radii": None},
        )

    monkeypatch.setitem(sys.modules, "gsplat", types.SimpleNamespace(rasterization=fake))
    monkeypatch.setattr(gsplat_backend, "available", lambda device, dtype: (True, "pretended"))
    inputs = scene((2,), n=8, cameras=3)
    colors, alphas, meta = rasterization(
        **inputs,
        width=7,
        height=5,
        near_plane=0.2,
        far_plane=9.0,
        eps2d=0.1,
        render_mode="RGB+ED",
        rasterize_mode="antialiased",
        backend="gsplat",
    )
    call = calls[0]
    assert (
        colors.shape == (2, 3, 5, 7, 5)
        and alphas.shape == (2, 3, 5, 7, 1)
        and meta["backend"] == "gsplat"
    )
    assert all(torch.equal(call[name], value) for name, value in inputs.items())
    assert (call["near_plane"], call["far_plane"], call["eps2d"]) == (0.2, 9.0, 0.1)
    assert (call["width"], call["height"], call["rasterize_mode"], call["packed"]) == (
        7,
        5,
        "antialiased",
        False,
    )
    rasterization(**{**inputs, "backgrounds": None}, width=7, height=5, backend="gsplat")
    assert calls[1]["backgrounds"] is None and calls[1]["render_mode"] == "RGB"
    empty = {
        k: v[:, :0] if k in ("means", "quats", "scales", "opacities", "colors") else v
        for k, v in inputs.items()
    }
    colors, _, _ = rasterization(**empty, width=7, height=5, backend="gsplat")
    assert len(calls) == 2 and torch.equal(colors[:, :, 0, 0], inputs["backgrounds"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="gsplat rasterizes on CUDA devices only")
@pytest.mark.parametrize("rasterize_mode", ["classic", "antialiased"])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_gsplat_on_a_gpu_agrees_with_the_torch_specification(batch, rasterize_mode):
    inputs = {k: v.cuda() for k, v in scene(batch, n=60, cameras=2).items()}
    weights = torch.randn(*batch, 2, HEIGHT, WIDTH, 5, generator=generator(3)).cuda()

    def run(backend):
        named = {k: v.clone().requires_grad_(k in NAMES) for k, v in inputs.items()}
        images, alphas, _ = rasterization(
            **named,
            width=WIDTH,
            height=HEIGHT,
            render_mode="RGB+D",
            rasterize_mode=rasterize_mode,
            backend=backend,
        )
        grads = torch.autograd.grad(
            (images * weights).sum() + alphas.sum(), [named[k] for k in NAMES]
        )
        return [images, alphas, *grads]

    # gsplat's exponential is the fast one of CUDA, and its determinant of needles is less exact
    # than ours.
    for name, got, want in zip(
        ("images", "alphas", *NAMES), run("gsplat"), run("torch"), strict=True
    ):
        assert relative(got, want) < 5e-3, (name, relative(got, want))


def test_gsplat_is_not_touched_without_cuda():
    works, reason = gsplat_backend.available(torch.device("cpu"), torch.float32)
    assert not works and "CUDA" in reason


# -------------------------------------------------------------------------- choice and wrong inputs
def test_choice_of_the_backend(monkeypatch):
    monkeypatch.delenv(registry.ENVIRONMENT_VARIABLE, raising=False)
    assert registry.resolve("auto", "cpu").backend.name == BACKENDS[0]
    assert registry.resolve("auto", "cpu", torch.float64).backend.name == "torch"
    monkeypatch.setenv(registry.ENVIRONMENT_VARIABLE, "torch")
    choice = registry.resolve("auto", "cpu")
    assert choice.backend.name == "torch" and registry.ENVIRONMENT_VARIABLE in str(choice)
    monkeypatch.setenv(registry.ENVIRONMENT_VARIABLE, "cuda")
    with pytest.raises(UserError, match="no rasterizer 'cuda'.*gsplat.*torch"):
        registry.resolve("auto", "cpu")
    with pytest.raises(UserError, match="gsplat.*cannot be used here"):
        registry.resolve("gsplat", "cpu")


def test_half_precision_and_autocast_are_rendered_in_float32():
    inputs = scene(n=30)
    want = rasterization(**inputs, width=WIDTH, height=HEIGHT)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = rasterization(**inputs, width=WIDTH, height=HEIGHT)[0]
    assert got.dtype == torch.float32 and torch.equal(got, want)
    inputs["colors"] = inputs["colors"].bfloat16().requires_grad_()
    rasterization(**inputs, width=WIDTH, height=HEIGHT)[0].sum().backward()
    assert inputs["colors"].grad.dtype == torch.bfloat16


def test_gradients_of_the_projected_means_can_be_kept():
    inputs = scene(n=30)
    inputs["means"].requires_grad_()
    colors, _, meta = rasterization(**inputs, width=WIDTH, height=HEIGHT)
    meta["means2d"].retain_grad()
    colors.square().sum().backward()
    assert meta["means2d"].grad.shape == (1, 30, 2) and meta["means2d"].grad.abs().max() > 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"quats": torch.ones(20, 3)}, "quats must have the shape"),
        ({"Ks": torch.ones(2, 3, 3)}, "Ks must have the shape"),
        ({"colors": torch.ones(19, 3)}, "colors must have the shape"),
        ({"backgrounds": torch.ones(1, 3)}, "backgrounds must have the shape"),
        ({"means": torch.ones(3)}, "means must be"),
        ({"width": 0}, "at least one pixel"),
        ({"render_mode": "XYZ"}, "render_mode must be one of"),
        ({"rasterize_mode": "sharp"}, "rasterize_mode must be one of"),
        ({"sh_degree": 1, "colors": torch.ones(20, 3, 3)}, "needs 4 coefficients"),
        ({"sh_degree": 4, "colors": torch.ones(20, 25, 3)}, "sh_degree must be"),
        ({"backend": "vulkan"}, "no rasterizer 'vulkan'"),
    ],
)
def test_wrong_inputs_are_refused_in_a_sentence(change, sentence):
    arguments = {**scene(n=20), "width": 8, "height": 8, **change}
    with pytest.raises(ValueError, match=sentence.replace("(", r"\(")):
        rasterization(**arguments)


def test_huge_and_degenerate_gaussians_stay_finite():
    inputs = scene(n=20)
    inputs["scales"][:4] = torch.tensor(
        [[1e3, 1e3, 1e3], [1e-12, 1e-12, 1e-12], [1e3, 1e-9, 1e-9], [0.1, 0.1, 0.0]]
    )
    inputs["quats"][4] = 0
    inputs["means"][5, 2] = 0.0
    for mode in ("classic", "antialiased"):
        colors, _, grads = gradients(rasterization, inputs, rasterize_mode=mode)
        assert colors.isfinite().all() and all(g.isfinite().all() for g in grads.values())


@pytest.mark.parametrize("name", ["means", "quats", "scales", "opacities", "colors"])
def test_values_that_are_not_finite_raise_where_they_are_checked(monkeypatch, name):
    inputs = scene(n=20)
    inputs[name] = inputs[name].clone()
    inputs[name][7] = float("nan")
    rasterization(**inputs, width=8, height=8)
    monkeypatch.setenv("GGHEAD_CHECK_FINITE", "1")
    with pytest.raises(UserError, match=rf"{name} are not finite, the first is {name}\[7.* = nan"):
        rasterization(**inputs, width=8, height=8)
    inputs[name] = scene(n=20)[name]
    rasterization(**inputs, width=8, height=8)
