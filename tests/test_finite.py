"""Numbers that are not finite, or that float cannot project: nothing breaks, and only their owner
is concerned."""

import os
import subprocess
import sys
import types

import pytest
import torch
from helpers.random_bits import random_floats, run_operators, spoil

from gghead import sh
from gghead.cameras import Cameras
from gghead.finite import find_nonfinite
from gghead.gaussians import Gaussians
from gghead.rendering import gsplat_backend, native_backend, rasterization, registry, render
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.ops import native_build

BACKENDS = registry.available_names("cpu", torch.float32)
needs_native = pytest.mark.skipif(
    "native" not in BACKENDS, reason="the native rasterizer cannot be had here"
)
WIDTH, HEIGHT = 45, 37
GOOD = 30
LEAVES = ("means", "quats", "scales", "opacities", "colors")


def good_scene(channels: tuple[int, ...] = (3,), cameras: int = 2) -> dict:
    rng = torch.Generator().manual_seed(0)
    view = Cameras.orbit(torch.linspace(-0.4, 0.4, cameras))
    return {
        "means": 0.6 * torch.rand(GOOD, 3, generator=rng) - 0.3,
        "quats": torch.randn(GOOD, 4, generator=rng),
        "scales": 0.02 + 0.1 * torch.rand(GOOD, 3, generator=rng),
        "opacities": 0.1 + 0.9 * torch.rand(GOOD, generator=rng),
        "colors": torch.rand(GOOD, *channels, generator=rng),
        "viewmats": view.viewmats.float(),
        "Ks": view.Ks(WIDTH, HEIGHT).float(),
    }


def with_wild_ones(scene: dict, seed: int, count: int = 60) -> dict:
    """The scene's Gaussians with spoilt copies of some mixed in at every third place."""
    rng = torch.Generator().manual_seed(seed)
    share = (0.03, 0.3, 1.0)[seed % 3]
    copies = torch.randint(GOOD, (count,), generator=rng)
    order = torch.randperm(GOOD + count, generator=rng)
    mixed = {
        name: torch.cat([scene[name], spoil(scene[name][copies], share, rng)])[order]
        for name in LEAVES
    }
    return {**scene, **mixed}


def outcome(scene: dict, backend: str, **options):
    """Images, opacities, gradients of the Gaussians and of the cameras, and what else is
    known."""
    leaves = {k: v.clone().requires_grad_() for k, v in scene.items() if k != "Ks"}
    images, alphas, meta = rasterization(
        **leaves, Ks=scene["Ks"], width=WIDTH, height=HEIGHT, backend=backend, **options
    )
    weights = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    loss = (torch.where(images.detach().abs() < 1e6, images, 0.0) * weights).sum() + alphas.sum()
    gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    filled = [
        torch.zeros_like(v) if g is None else g
        for g, v in zip(gradients, leaves.values(), strict=True)
    ]
    return images.detach(), alphas.detach(), dict(zip(leaves, filled, strict=True)), meta


def assert_same(got, wanted, exactly: bool) -> None:
    """Bit for bit, NaN included, or to rounding where matrix products of other sizes are taken."""
    tolerance = {"rtol": 0, "atol": 0} if exactly else {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(got, wanted, equal_nan=True, **tolerance)


def assert_skipped_as_if_absent(wild: dict, backend: str, **options) -> torch.Tensor:
    """Everything but the skipped Gaussians is as without them, and their gradients are zero; where
    [N] they are."""
    images, alphas, gradients, meta = outcome(wild, backend, **options)
    colors_fine = wild["colors"].isfinite().flatten(1).all(1)
    kept = ((meta["radii"] > 0).all(-1) & colors_fine).any(0)  # in some image
    rest = {name: value[kept] if name in LEAVES else value for name, value in wild.items()}
    want_images, want_alphas, want_gradients, _ = outcome(rest, backend, **options)
    exactly = backend == "native"
    assert_same(images, want_images, exactly)
    assert_same(alphas, want_alphas, exactly)
    for name in LEAVES:
        assert not gradients[name][~kept].any(), name
        if gradients[name][kept].abs().max() < 1e6:
            assert_same(gradients[name][kept], want_gradients[name], exactly)
    return ~kept


# ------------------------------------------------------------------------------------ random floats
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", [{}, {"rasterize_mode": "antialiased", "render_mode": "RGB+D"}])
def test_gaussians_of_random_bits_are_drawn_or_skipped_and_change_no_other_one(backend, options):
    skipped = 0
    for seed in range(12 if backend == "native" else 6):
        skipped += int(
            assert_skipped_as_if_absent(
                with_wild_ones(good_scene(), seed), backend, **options
            ).sum()
        )
    assert skipped > 100


@pytest.mark.parametrize("backend", BACKENDS)
def test_harmonics_of_random_bits_change_no_other_gaussian(backend):
    for seed in range(3):
        assert_skipped_as_if_absent(with_wild_ones(good_scene((4, 3)), seed), backend, sh_degree=1)


@needs_native
def test_the_operators_survive_random_bits_in_every_argument():
    for seed in range(60):
        run_operators(seed)


@needs_native
@pytest.mark.parametrize(
    "level", [name for name in native_build.levels() if name != native_build.level()][:1]
)
def test_the_operators_survive_random_bits_with_less_of_the_processor(level):
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}\nfrom helpers.random_bits import run_operators\n"
        "for seed in range(60): run_operators(seed)\nprint('alive')"
    )
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": {"plain": "default"}.get(level, level)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout.strip() == "alive", done.stderr[-2000:]


# ------------------------------------------------------------------------------------ certain cases
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "scales",
    [
        [3.2e16, 6e-6, 6e-6],
        [3e38, 1e-12, 1e-12],
        [1e25, 1e25, 1e25],
        [1e-45, 1e-45, 1e-45],
        [float("inf"), 1.0, 1.0],
        [7e10, 7e10, 7e10],
        [1e19, 1e19, 1e-19],
    ],
)
def test_scales_that_float_cannot_square_are_skipped(backend, scales):
    wild = good_scene()
    wild["scales"][7] = torch.tensor(scales)
    assert_skipped_as_if_absent(wild, backend)


@needs_native
@pytest.mark.parametrize(
    "conic",
    [
        [1e-40, 0.0, 1.0],
        [1.0, 0.0, 1e-45],
        [1e-38, 0.0, 1e-38],
        [3e38, 0.0, 3e38],
        [2e-24, 0.0, 3e38],
        [0.0, 0.0, 0.0],
        [1e-23, 0.0, 1e-23],
        [1.0, 1.0, 1.0],
        [1e-24, 1e6, 3e38],
    ],
)
def test_conics_beyond_float_touch_nothing_but_the_image(conic):
    """The compositor alone, since a projection would not hand it most of these."""
    values = [
        torch.full((1, 3, 2), 8.0),
        torch.tensor([[[0.1, 0.0, 0.1], conic, [0.1, 0.0, 0.1]]]),
        torch.full((1, 3), 0.5),
        torch.rand(1, 3, 3),
    ]
    leaves = [value.requires_grad_() for value in values]
    radii = torch.full((1, 3, 2), 9, dtype=torch.int32)
    out, alphas = native_backend.composite(*leaves, torch.zeros(1, 3), radii, None, 17, 70)
    gradients = torch.autograd.grad(out.sum() + alphas.sum(), leaves)
    assert out.isfinite().all() and all(
        g[0, ::2].isfinite().all() and g[0, ::2].any() for g in gradients[2:]
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["viewmats", "Ks"])
@pytest.mark.parametrize("degree", [None, 1])
def test_a_camera_that_is_not_finite_sees_nothing_and_leaves_the_others_their_gradients(
    backend, name, degree
):
    scene = good_scene((3,) if degree is None else (4, 3))
    spoilt = {**scene, name: scene[name].clone()}
    spoilt[name][1, 0, 0] = float("nan")
    images, alphas, gradients, _ = outcome(spoilt, backend, sh_degree=degree)
    assert not images[1].any() and not alphas[1].any() and not gradients["viewmats"][1].any()
    single = {k: v[:1] if k in ("viewmats", "Ks") else v for k, v in scene.items()}
    want_images, _, want, _ = outcome(single, backend, sh_degree=degree)
    # harmonics are summed in torch
    assert_same(images[:1], want_images, backend == "native" and degree is None)
    assert gradients["means"].any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_colors_per_camera_are_skipped_in_that_image_only(backend):
    scene = good_scene()
    scene["colors"] = torch.stack([scene["colors"], scene["colors"]])
    want = outcome(scene, backend)[0]
    scene["colors"][0, 4] = float("inf")
    images, _, gradients, _ = outcome(scene, backend)
    assert_same(images[1], want[1], backend == "native")
    assert (images[0] - want[0]).abs().max() > 0.01
    assert images.isfinite().all() and all(g.isfinite().all() for g in gradients.values())
    assert not gradients["colors"][0, 4].any() and gradients["colors"][1, 4].any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_ply_of_absurd_scales_loads_and_renders(tmp_path, backend):
    """Logarithms of 38 beside -12, as a foreign file may hold them: the file is right, and so is
    the image.

    Whether the Gaussian is drawn, as an endless line, depends on how the determinant of its conic,
    nearly zero, is rounded; so only what holds either way is asked for.
    """
    from helpers.example_gaussians import make

    head = make((), n=20)
    head.save_ply(tmp_path / "head.ply")
    data = (tmp_path / "head.ply").read_bytes()
    start = data.index(b"end_header\n") + len(b"end_header\n")
    table = torch.frombuffer(bytearray(data[start:]), dtype=torch.float32).reshape(20, -1)
    columns = [
        line.split()[-1]
        for line in data[:start].decode().splitlines()
        if line.startswith("property")
    ]
    table[3, columns.index("scale_0") : columns.index("scale_2") + 1] = torch.tensor(
        [38.0, -12.0, -12.0]
    )
    (tmp_path / "absurd.ply").write_bytes(data[:start] + table.numpy().tobytes())
    absurd = Gaussians.load_ply(tmp_path / "absurd.ply")
    assert absurd.num == 20 and absurd.scales[3, 0] > 1e16
    color = render(absurd, Cameras.orbit(torch.zeros(1)), 32, backend=backend).color
    kept = [i for i in range(20) if i != 3]
    fewer = Gaussians.load_ply(tmp_path / "head.ply")
    fewer = Gaussians(*(getattr(fewer, name)[kept] for name in LEAVES), sh_degree=fewer.sh_degree)
    expected = render(fewer, Cameras.orbit(torch.zeros(1)), 32, backend=backend).color
    assert color.isfinite().all() and color.shape == expected.shape
    untouched = ((color - expected).abs() < 1e-5).all(2)
    assert untouched.float().mean() > 0.5, "a line covers no more than what is near it"


def test_harmonics_give_nan_and_no_gradient_where_something_is_not_finite():
    directions = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    coefficients = torch.ones(5, 4, 3)
    directions[1, 0], coefficients[3, 2, 1] = float("inf"), float("nan")
    directions.requires_grad_(), coefficients.requires_grad_()
    colors = sh.evaluate(1, directions, coefficients)
    assert colors.isnan().any(-1).tolist() == [False, True, False, True, False]
    gradients = torch.autograd.grad(colors.sum(), (directions, coefficients))
    assert all(
        not g[[1, 3]].any() and g[[0, 2, 4]].isfinite().all() and g[0].any() for g in gradients
    )


# ------------------------------------------------------------------------------------- large things
@needs_native
def test_gaussians_that_all_cover_everything_are_listed_in_parts():
    """More pairs of Gaussian and block than are listed at a time: the same bits as from an image
    of fewer blocks."""
    rng = torch.Generator().manual_seed(3)
    count, width, height = 6000, 512, 32
    values = [
        torch.randint(0, 16 * width, (1, count, 2), generator=rng) / 16,  # exact when shifted
        torch.tensor([1e-5, 0.0, 1e-5]).expand(1, count, 3),
        torch.full((1, count), 0.02),
        torch.rand(1, count, 3, generator=rng),
    ]
    depths = torch.rand(1, count, generator=rng)
    radii = torch.full((1, count, 2), 1000, dtype=torch.int32)

    def draw(shift: int, columns: int):
        leaves = [
            (value - torch.tensor([shift, 0]) if i == 0 else value).requires_grad_()
            for i, value in enumerate(values)
        ]
        out, _ = native_backend.composite(*leaves, depths, radii, None, columns, height)
        right = out[:, :, -width // 2 :]
        return right, torch.autograd.grad(right.square().sum(), leaves)

    whole, part = draw(0, width), draw(width // 2, width // 2)
    assert torch.equal(whole[0], part[0]) and all(
        torch.equal(a, b) for a, b in zip(whole[1], part[1], strict=True)
    )
    assert whole[1][2].abs().max() > 0


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"width": 10**6, "height": 10**6}, "GiB, but there are .* render fewer"),
        ({"width": 2**40, "height": 2**40}, "GiB, but there are"),
        ({"eps2d": float("nan")}, "eps2d must be a finite number"),
        ({"eps2d": -0.1}, "eps2d must be a finite number"),
        ({"near_plane": float("nan")}, "near_plane and far_plane must be numbers"),
    ],
)
def test_images_and_planes_that_cannot_be_are_refused_in_a_sentence(backend, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        rasterization(**{**good_scene(), "width": 8, "height": 8, "backend": backend, **change})


@needs_native
def test_a_side_too_long_for_the_native_rasterizer_is_refused_in_a_sentence():
    with pytest.raises(UserError, match="up to 32764 pixels a side"):
        rasterization(**good_scene(), width=40000, height=1, backend="native")


# ------------------------------------------------------------------------------------------- gsplat
def gsplat_call(monkeypatch, scene: dict, **options):
    """What gsplat is given, and the gradients that come back through a stand-in that weighs sums
    with the opacities."""
    calls = []

    def fake(*args, width, height, **kwargs):
        calls.append(dict(zip((*LEAVES, "viewmats", "Ks"), args[:7], strict=True)))
        means, quats, scales, opacities, colors, viewmats, _ = args[:7]
        sums = means.sum(-1) + quats.sum(-1) + scales.sum(-1) + colors.sum(-1)
        total = (opacities * sums).sum() + viewmats.sum()
        return total.expand(2, 5, 4, 3), total.expand(2, 5, 4, 1), {}

    def stand_in(*args, **kwargs):
        return fake(*args[:7], width=args[7], height=args[8], **kwargs)

    monkeypatch.setitem(sys.modules, "gsplat", types.SimpleNamespace(rasterization=stand_in))
    monkeypatch.setattr(gsplat_backend, "available", lambda device, dtype: (True, "pretended"))
    leaves = {k: v.clone().requires_grad_() for k, v in scene.items()}
    images = rasterization(**leaves, width=4, height=5, backend="gsplat", **options)[0]
    gradients = torch.autograd.grad(images.sum(), [leaves[name] for name in LEAVES])
    return calls[0], dict(zip(LEAVES, gradients, strict=True))


@pytest.mark.parametrize("per_camera", [False, True])
def test_gsplat_gets_transparent_gaussians_in_place_of_those_it_cannot_hold(
    monkeypatch, per_camera
):
    scene = good_scene()
    scene["means"][1, 0], scene["quats"][2, 3], scene["colors"][3, 1] = (
        float("nan"),
        float("inf"),
        float("nan"),
    )
    scene["scales"][4], scene["opacities"][5], scene["means"][6] = 1e12, float("nan"), 3e38
    scene["quats"][7] = 0.0  # no rotation here, a division by zero there
    if per_camera:
        scene["colors"] = torch.stack([torch.rand(GOOD, 3), scene["colors"]])
    given, gradients = gsplat_call(monkeypatch, scene)
    assert all(value.isfinite().all() for value in given.values())
    assert given["opacities"][1:7].tolist() == [0.0] * 6 and torch.equal(
        given["quats"][7], torch.eye(1, 4)[0]
    )
    for name in LEAVES:
        axis = 1 if per_camera and name == "colors" else 0
        fine = torch.tensor([0, *range(8, GOOD)])
        assert torch.equal(
            given[name].index_select(axis, fine), scene[name].index_select(axis, fine)
        ), name
        assert (
            not gradients[name].narrow(axis, 1, 6).any()
            and gradients[name].index_select(axis, fine).all()
        ), name


def test_gsplat_gets_a_camera_that_looks_away_in_place_of_one_that_is_not_finite(monkeypatch):
    scene = good_scene()
    scene["viewmats"][1, 2, 1] = float("inf")
    given, _ = gsplat_call(monkeypatch, scene)
    assert torch.equal(given["viewmats"][0], scene["viewmats"][0]) and torch.equal(
        given["means"], scene["means"]
    )
    camera = given["viewmats"][1]
    assert (
        (scene["means"] @ camera[:3, :3].T + camera[:3, 3])[:, 2] < 0
    ).all() and camera.inverse().isfinite().all()


def test_hiding_on_an_accelerator_never_waits_for_it():
    """Tensors without data refuse every question about their values."""
    scene = {name: value.to("meta") for name, value in good_scene().items()}
    assert find_nonfinite(scene["means"], scene["quats"]).shape == (GOOD,)
    values = [scene[name] for name in ("means", "quats", "scales", "colors", "viewmats", "Ks")]
    values[3] = None
    assert gsplat_backend._unusable(*values, 0.01, 1e10)[0].shape == (GOOD,)
    assert sh.evaluate(0, scene["means"], torch.ones(GOOD, 1, 3, device="meta")).shape == (GOOD, 3)


def test_random_floats_hold_every_kind():
    values = random_floats((10000,), torch.Generator().manual_seed(0))
    tiny = torch.finfo(torch.float32).tiny
    assert (
        values.isnan().any()
        and values.isinf().any()
        and ((values != 0) & (values.abs() < tiny)).any()
    )
    assert (values.abs() > 1e30).any() and ((values.abs() > 0.1) & (values.abs() < 10)).any()
