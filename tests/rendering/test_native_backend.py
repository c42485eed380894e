"""The C++ compositor against a dense float64 reference, and as a citizen of torch."""

import inspect
import os
import subprocess
import sys

import pytest
import torch
from helpers.composite_inputs import scene
from helpers.places import ROOT
from torch import Tensor, library

from gghead.rendering import native_backend
from gghead.torch_utils.ops import native_build

WORKS, REASON = native_build.available(native_backend.LIBRARY)
needs_toolchain = pytest.mark.skipif(not WORKS, reason=REASON)


def dense_reference(
    means: Tensor,  # [I, N, 2]
    conics: Tensor,  # [I, N, 3]
    opacities: Tensor,  # [I, N]
    colors: Tensor,  # [I, N, D]
    depths: Tensor,  # [I, N]
    radii: Tensor,  # [I, N, 2]
    backgrounds: Tensor | None,  # [I, D]
    width: int,
    height: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Every Gaussian at every pixel in the inputs' type; and a mask of pixels far from a hard
    threshold."""
    seen = (radii > 0).all(-1)
    order = torch.where(seen, depths, torch.inf).argsort(dim=1, stable=True)

    def sort(values: Tensor) -> Tensor:
        index = order.reshape(*order.shape, *[1] * (values.ndim - 2))
        return values.gather(1, index.expand(*order.shape, *values.shape[2:]))

    means, conics, opacities, colors, seen = map(sort, (means, conics, opacities, colors, seen))
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([x.reshape(-1), y.reshape(-1)], 1) + 0.5
    dx, dy = (means[:, :, None] - pixels).unbind(-1)  # [I, N, P]
    a, b, c = conics[..., None].unbind(2)
    sigma = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
    raw = opacities[..., None] * torch.exp(-sigma)
    alpha = raw.clamp(max=0.999)
    hit = (sigma >= 0) & (alpha >= 1 / 255) & seen[..., None]
    alpha = torch.where(hit, alpha, 0.0)
    after = torch.cumprod(1 - alpha, dim=1)
    live = after > 1e-4
    weights = torch.where(
        live, alpha * torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], dim=1), 0.0
    )
    final = torch.where(live, 1 - alpha, 1.0).prod(dim=1)
    out = torch.einsum("inp,ind->ipd", weights, colors)
    if backgrounds is not None:
        out = out + final[..., None] * backgrounds[:, None]
    near = (
        ((raw * 255 - 1).abs() < 1e-4)
        | ((raw - 0.999).abs() < 1e-5)
        | ((after / 1e-4 - 1).abs() < 1e-3)
    )
    shape = (means.shape[0], height, width)
    return (
        out.reshape(*shape, -1),
        (1 - final).reshape(*shape, 1),
        ~near.any(dim=1).reshape(*shape, 1),
    )


def run(
    function,
    inputs: list[Tensor],
    background: Tensor | None,
    width: int,
    height: int,
    dtype: torch.dtype,
):
    """Outputs and gradients (of a fixed random projection that ignores pixels next to a hard
    threshold)."""
    *values, depths, radii = inputs
    leaves = [
        t.to(dtype).requires_grad_()
        for t in (*values, *([] if background is None else [background]))
    ]
    bg = None if background is None else leaves[4]
    result = function(*leaves[:4], depths.to(dtype), radii, bg, width, height)
    g = torch.Generator().manual_seed(1)
    safe = dense_reference(
        *[t.double() for t in values], depths.double(), radii, None, width, height
    )[2]
    v_colors = torch.randn(result[0].shape, generator=g).to(dtype) * safe
    v_alphas = torch.randn(result[1].shape, generator=g).to(dtype) * safe
    gradients = torch.autograd.grad([result[0], result[1]], leaves, [v_colors, v_alphas])
    return result[0].detach(), result[1].detach(), gradients, safe


def relative(value: Tensor, truth: Tensor) -> float:
    return float((value.double() - truth).norm() / truth.norm().clamp(min=1e-12))


def compare(inputs: list[Tensor], background: Tensor | None, width: int, height: int) -> None:
    colors, alphas, gradients, safe = run(
        native_backend.composite, inputs, background, width, height, torch.float32
    )
    expected = run(dense_reference, inputs, background, width, height, torch.float64)
    assert safe.double().mean() > 0.9
    assert ((colors - expected[0]) * safe).abs().max() <= 1e-5
    assert ((alphas - expected[1]) * safe).abs().max() <= 1e-5
    names = ("means", "conics", "opacities", "colors", "backgrounds")
    for name, value, truth in zip(names, gradients, expected[2], strict=False):
        assert relative(value, truth) <= 1e-4, name
    hidden = (inputs[5] <= 0).any(-1)
    assert all((value[hidden] == 0).all() for value in gradients[:4])


@needs_toolchain
@pytest.mark.parametrize("channels", [1, 3, 4, 6, 10, 32, 37])
@pytest.mark.parametrize("with_background", [False, True])
def test_matches_the_dense_reference(channels, with_background):
    width, height = 37, 45  # two bands, neither side a multiple of the block
    background = (
        torch.rand(2, channels, generator=torch.Generator().manual_seed(5))
        if with_background
        else None
    )
    compare(scene(2, 150, channels, width, height, seed=channels), background, width, height)


@needs_toolchain
@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 2), (4, 4), (5, 67), (70, 7), (64, 64)])
def test_sizes(width, height):
    compare(scene(1, 60, 3, width, height, seed=3), None, width, height)


@needs_toolchain
def test_dense_opaque_pixels_stop():
    width = height = 16
    inputs = scene(1, 600, 3, width, height, seed=7, spread=3.0)
    *_, alphas, _, _ = run(native_backend.composite, inputs, None, width, height, torch.float32)
    assert alphas.max() > 0.999 and alphas.max() < 1 - 0.9e-4
    compare(inputs, torch.rand(1, 3), width, height)


@needs_toolchain
def test_needles_and_far_centers():
    """Gaussians 100 times longer than wide, centered far off the image."""
    g = torch.Generator().manual_seed(11)
    count, size = 60, 33
    inputs = scene(1, count, 3, size, size, seed=11)
    angle = torch.rand(1, count, generator=g) * torch.pi
    direction = torch.stack([angle.cos(), angle.sin()], -1)
    inputs[0] = size / 2 + direction * (torch.rand(1, count, 1, generator=g) * 160 - 80)
    outer = direction[..., :, None] * direction[..., None, :]
    conic = outer / 60.0**2 + (torch.eye(2) - outer) / 0.6**2
    inputs[1] = torch.stack([conic[..., 0, 0], conic[..., 0, 1], conic[..., 1, 1]], -1)
    compare(inputs, None, size, size)


@needs_toolchain
def test_ties_in_depth_keep_the_order_of_the_indices():
    inputs = scene(1, 80, 3, 20, 20, seed=2)
    inputs[4] = torch.where(torch.arange(80)[None] % 2 == 0, torch.tensor(0.0), torch.tensor(-0.0))
    compare(inputs, None, 20, 20)


@needs_toolchain
@pytest.mark.parametrize("count", [0, 5])
def test_nothing_to_see_gives_the_background(count):
    means, conics, opacities, colors, depths, radii = scene(2, count, 6, 9, 10)
    background = torch.rand(2, 6, requires_grad=True)
    out, alphas = native_backend.composite(
        means.requires_grad_(),
        conics,
        opacities,
        colors,
        depths,
        torch.zeros_like(radii),
        background,
        9,
        10,
    )
    assert torch.equal(out, background[:, None, None].expand_as(out)) and not alphas.any()
    out.sum().backward()
    assert torch.equal(background.grad, torch.full((2, 6), 90.0))
    assert means.grad.shape == means.shape and not means.grad.any()


@needs_toolchain
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("which", range(5))
def test_non_finite_gaussians_are_skipped(which, bad):
    clean = scene(1, 40, 3, 24, 24, seed=4)
    poisoned = [t.clone() for t in clean]
    poisoned[which].view(1, 40, -1)[0, 7, -1] = bad
    clean[5][0, 7] = 0
    leaves = [t.requires_grad_() for t in poisoned[:4]]
    got = native_backend.composite(*leaves, *poisoned[4:], None, 24, 24)
    want = native_backend.composite(*clean, None, 24, 24)
    assert torch.equal(got[0], want[0]) and torch.equal(got[1], want[1])
    gradients = torch.autograd.grad(got[0].sum() + got[1].sum(), leaves)
    assert all(g.isfinite().all() and not g[0, 7].any() for g in gradients)


@needs_toolchain
def test_same_bits_for_any_number_of_threads():
    before = torch.get_num_threads()
    cases = [
        (scene(1, 800, 6, 70, 130, seed=8), 70, 130),
        (scene(5, 200, 3, 30, 40, seed=9), 30, 40),
    ]
    try:
        for inputs, width, height in cases:
            results = []
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                colors, alphas, gradients, _ = run(
                    native_backend.composite,
                    inputs,
                    torch.ones(len(inputs[0]), inputs[3].shape[-1]),
                    width,
                    height,
                    torch.float32,
                )
                results.append([colors, alphas, *gradients])
            for other in results[1:]:
                assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
    finally:
        torch.set_num_threads(before)


@needs_toolchain
def test_each_image_of_a_batch_stands_alone():
    inputs = scene(3, 100, 4, 25, 40, seed=12)
    together = native_backend.composite(*inputs, None, 25, 40)[0]
    for i in range(3):
        assert torch.equal(
            native_backend.composite(*[t[i : i + 1] for t in inputs], None, 25, 40)[0][0],
            together[i],
        )


@needs_toolchain
def test_agrees_with_the_torch_backend():
    from gghead.rendering import torch_backend

    inputs = scene(2, 200, 6, 31, 33, seed=13)
    native = native_backend.composite(*inputs, None, 31, 33)
    plain = torch_backend.composite(*inputs, None, 31, 33)
    safe = dense_reference(*[t.double() for t in inputs[:5]], inputs[5], None, 31, 33)[2]
    assert ((native[0] - plain[0]) * safe).abs().max() <= 1e-5


@needs_toolchain
def test_is_a_well_behaved_operator():
    means, conics, opacities, colors, depths, radii = scene(1, 20, 3, 8, 9)
    # loads the operators
    native_backend.composite(means, conics, opacities, colors, depths, radii, None, 8, 9)
    leaves = [t.requires_grad_() for t in (means, conics, opacities, colors)]
    background = torch.rand(1, 3, requires_grad=True)
    for bg in (None, background):
        library.opcheck(
            torch.ops.gghead_splat.composite.default, (*leaves, depths, radii, bg, 8, 9, True)
        )
    values = [t.detach() for t in leaves]
    library.opcheck(
        torch.ops.gghead_splat.composite.default, (*values, depths, radii, None, 8, 9, False)
    )
    with torch.inference_mode():
        out, _ = native_backend.composite(*values, depths, radii, None, 8, 9)
    assert torch.equal(out, native_backend.composite(*values, depths, radii, None, 8, 9)[0])


@needs_toolchain
@pytest.mark.parametrize("asked", [0, 1])
def test_a_gradient_of_one_output_alone_whatever_the_default_type_is(asked):
    """The other's is filled up with zeros, which must be float32 as everything here is."""
    inputs = scene(1, 20, 3, 8, 8)
    leaves = [t.requires_grad_() for t in inputs[:4]]
    expected = torch.autograd.grad(
        native_backend.composite(*inputs, None, 8, 8)[asked].sum(), leaves[0]
    )[0]
    torch.set_default_dtype(torch.float64)
    try:
        found = torch.autograd.grad(
            native_backend.composite(*inputs, None, 8, 8)[asked].sum(), leaves[0]
        )[0]
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(found, expected) and expected.abs().max() > 0


@needs_toolchain
def test_second_derivative_is_refused():
    inputs = scene(1, 20, 3, 8, 8)
    leaves = [t.requires_grad_() for t in inputs[:4]]
    out, _ = native_backend.composite(*leaves, *inputs[4:], None, 8, 8)
    gradient = torch.autograd.grad((out**2).sum(), leaves, create_graph=True)[0]
    with pytest.raises(NotImplementedError, match="second derivative"):
        gradient.sum().backward()


@needs_toolchain
def test_wrong_inputs_are_refused_in_a_sentence():
    inputs = scene(1, 20, 3, 8, 8)
    with pytest.raises(ValueError, match="float32"):
        native_backend.composite(*[t.double() for t in inputs[:5]], inputs[5], None, 8, 8)
    with pytest.raises(ValueError, match="conics must be a CPU tensor"):
        native_backend.composite(inputs[0], inputs[1][:, :5], *inputs[2:], None, 8, 8)
    with pytest.raises(ValueError, match="width and height"):
        native_backend.composite(*inputs, None, 0, 8)


def _forget():
    for cached in (native_backend._load, native_backend._tools):
        inspect.unwrap(cached, stop=lambda f: hasattr(f, "cache_clear")).cache_clear()


def test_without_a_compiler_the_torch_backend_takes_over(monkeypatch, tmp_path):
    from gghead.rendering import torch_backend

    monkeypatch.setattr(native_backend, "_failure", [])
    monkeypatch.setattr(native_build, "find_compiler", lambda: None)
    monkeypatch.setattr(native_build, "PREBUILT", tmp_path)
    _forget()
    inputs = scene(1, 30, 3, 12, 10)
    try:
        assert native_backend.available() == (
            False,
            native_build.available(native_backend.LIBRARY)[1],
        )
        with pytest.warns(UserWarning, match="install a working g"):
            result = native_backend.composite(*inputs, None, 12, 10)
        again = native_backend.composite(*inputs, None, 12, 10)  # the warning comes once
        works, reason = native_backend.available()
        assert not works and "could not be built" in reason
    finally:
        _forget()
    expected = torch_backend.composite(*inputs, None, 12, 10)
    assert torch.equal(result[0], expected[0]) and torch.equal(again[1], expected[1])


@needs_toolchain
def test_a_broken_source_is_a_build_error_that_quotes_the_compiler(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = tmp_path / "broken.cpp"
    source.write_text("this is not C++;\n")
    with pytest.raises(native_build.BuildError, match="broken.cpp"):
        native_build.load(native_build.Library("gghead_broken", (source,)))
    assert not list(native_build.cache_dir("torch_extensions").glob("*.so"))


@needs_toolchain
def test_the_library_is_named_after_what_decides_its_code(tmp_path, monkeypatch):
    source, header = tmp_path / "a.cpp", tmp_path / "a.h"
    source.write_text("int a;")
    header.write_text("int b;")
    library = native_build.Library("a", (source,), (header,))
    first = native_build.cached_path(library)
    assert first == native_build.cached_path(library)
    header.write_text("int c;")
    assert native_build.cached_path(library) != first
    header.write_text("int b;")
    monkeypatch.setattr(native_build, "FLAGS", ("-O1",))
    assert native_build.cached_path(library) != first


@needs_toolchain
def test_processes_build_once_between_them(tmp_path):
    """Two processes ask for the same small library at the same time: one message, one library, both
    can use it."""
    source = tmp_path / "tiny.cpp"
    source.write_text("int gghead_tiny() { return 1; }\n")
    code = (
        "import sys, pathlib; from gghead.torch_utils.ops import"
        " native_build;native_build.load(native_build.Library('gghead_tiny',"
        " (pathlib.Path(sys.argv[1]),))); print('loaded')"
    )
    environment = {
        **os.environ,
        "XDG_CACHE_HOME": str(tmp_path),
        "OMP_NUM_THREADS": "1",
        "GGHEAD_PROGRESS": "on",
    }
    command = [sys.executable, "-c", code, str(source)]
    both = [
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    results = [process.communicate(timeout=120) for process in both]
    assert [out.strip() for out, _ in results] == ["loaded", "loaded"], results
    assert sum("Building gghead_tiny for" in err for _, err in results) == 1
    assert len(list((tmp_path / "gghead" / "torch_extensions").glob("gghead_tiny_*.so"))) == 1


@needs_toolchain
@pytest.mark.parametrize(
    "level", [name for name in native_build.levels() if name != native_build.level()][:1]
)
def test_the_next_simd_level_is_as_exact(level):
    """The same tests in a process that is told to use less of the processor."""
    environment = {
        **os.environ,
        "ATEN_CPU_CAPABILITY": {"plain": "default"}.get(level, level),
        "OMP_NUM_THREADS": "1",
    }
    here = os.path.dirname(__file__)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "dense or outputs or needles",
        os.path.join(here, "test_native_backend.py"),
        os.path.join(here, "test_native_projection.py"),
    ]
    check = (
        "from gghead.torch_utils.ops import native_build; assert native_build.level() == "
        + repr(level)
    )
    subprocess.run([sys.executable, "-c", check], env=environment, cwd=ROOT, check=True, timeout=60)
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "passed" in done.stdout and "skipped" not in done.stdout


@needs_toolchain
def test_building_ahead_leaves_a_library_per_level(tmp_path, monkeypatch):
    source = tmp_path / "tiny.cpp"
    source.write_text("int gghead_tiny() { return 1; }\n")
    library = native_build.Library("gghead_tiny", (source,))
    monkeypatch.setattr(native_build, "PREBUILT", tmp_path / "prebuilt")
    last = list(native_build.levels())[-1]
    assert [path.name.split("_")[2] for path in native_build.build_ahead(library, [last])] == [last]
    built = native_build.build_ahead(library)
    assert len(built) == len(native_build.levels()) and all(path.is_file() for path in built)
    monkeypatch.setattr(native_build, "find_compiler", lambda: None)
    assert native_build.available(library) == (
        True,
        f"{native_build.level()}, built with the installation",
    )
    native_build.load(library)
    # one that does not load here is built anew
    foreign = native_build.Library("gghead_foreign", (source,))
    native_build.prebuilt_path(foreign).write_bytes(b"not a library")
    source_of_stale = tmp_path / "stale.cpp"
    source_of_stale.write_text("int gghead_stale() { return 1; }\n")
    stale = native_build.Library("gghead_stale", (source_of_stale,))
    native_build.prebuilt_path(stale).touch()
    source_of_stale.write_text("int gghead_stale() { return 2; }\n")
    for other in (foreign, stale):
        with pytest.raises(native_build.BuildError, match="no C"):
            native_build.load(other)


def tiny_library(tmp_path, name: str, monkeypatch) -> native_build.Library:
    """A library of one function, in a cache of its own."""
    source = tmp_path / f"{name}.cpp"
    source.write_text(f"int {name}() {{ return 1; }}\n")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(native_build, "PREBUILT", tmp_path / "prebuilt")
    return native_build.Library(name, (source,))


@needs_toolchain
@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    ],
)
def test_a_damaged_library_is_built_anew_with_a_sentence(tmp_path, monkeypatch, capfd, damage):
    library = tiny_library(tmp_path, "gghead_damaged", monkeypatch)
    target = native_build.cached_path(library)
    native_build.build(library, target, native_build.level())
    target.write_bytes(damage(target.read_bytes()))
    loaded = []  # loading a file that was cut off would end this process
    monkeypatch.setattr(
        torch.ops,
        "load_library",
        lambda path: loaded.append(native_build._intact(type(target)(path))),
    )
    native_build.load(library)
    assert "is damaged" in capfd.readouterr().err and loaded == [True]
    native_build.load(library)
    assert capfd.readouterr().err == "" and loaded == [True, True]


@needs_toolchain
def test_a_damaged_library_of_the_installation_is_not_used(tmp_path, monkeypatch, capfd):
    library = tiny_library(tmp_path, "gghead_installed", monkeypatch)
    prebuilt = native_build.prebuilt_path(library)
    native_build.build_ahead(library, [native_build.level()])
    assert native_build.available(library)[1].endswith("built with the installation")
    prebuilt.write_bytes(prebuilt.read_bytes()[:100])
    assert not native_build.available(library)[1].endswith("built with the installation")
    native_build.load(library)
    assert f"{prebuilt} is damaged" in capfd.readouterr().err


def test_who_waits_for_a_lock_says_whom_for(tmp_path):
    """The holder keeps the lock until it has seen the other's sentence."""
    code = (
        "import sys; from pathlib import Path; from gghead.torch_utils.ops import"
        " native_build\nwith native_build.hold_lock(Path(sys.argv[1]), 'builds something'):"
        " print('got it', flush=True)"
    )
    path = tmp_path / "a.lock"
    with native_build.hold_lock(path, "builds something"):
        other = subprocess.Popen(
            [sys.executable, "-c", code, str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        sentence = other.stderr.readline()
        assert other.poll() is None
    assert (
        sentence
        == f"gghead: waiting for process {os.getpid()}, which builds something; end it if it hangs"
        " ...\n"
    )
    assert other.communicate(timeout=60) == ("got it\n", "")


@needs_toolchain
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads are counted in /proc")
def test_every_call_takes_the_number_of_threads_that_torch_has_then():
    """Threads are started when more are asked for, and sleep when one is: then only the caller's
    takes time."""
    code = """
import os, sys, time, torch
sys.path[:0] = sys.argv[1:]
from helpers.composite_inputs import scene
from gghead.rendering import native_backend
inputs = scene(2, 3000, 3, 128, 256)
inputs[0].requires_grad_()
def call():
    native_backend.composite(*inputs, None, 128, 256)[0].sum().backward()
    native_backend.project(torch.rand(1, 3000, 3),
                            torch.rand(1, 3000, 4), torch.rand(1, 3000, 3), torch.rand(1, 3000),
                           torch.eye(4)[None, None], torch.eye(3)[None, None], 8, 8,
                            0.1, 9.0, 0.3, False)
def threads():
    return len(os.listdir("/proc/self/task"))
torch.set_num_threads(1)
call()
alone = threads()
call()
grown = [threads() - alone]
torch.set_num_threads(3)
call()
grown.append(threads() - alone)
torch.set_num_threads(1)
time.sleep(0.5)  # whoever was awake has gone to sleep
before = time.process_time(), time.thread_time()
for _ in range(20):
    call()
others = (time.process_time() - before[0]) - (time.thread_time() - before[1])
print(grown, others < 0.2 * (time.thread_time() - before[1]))
"""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"} | {
        "OMP_NUM_THREADS": "1"
    }
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT / "tests")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment,
    )
    assert done.stdout.strip() == "[0, 2] True", done.stdout + done.stderr
