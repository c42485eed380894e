"""The precision of a training: chosen by the network's own layers, kept by the run, and never the
geometry's loss."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from helpers.places import ROOT

from gghead.cameras import Cameras
from gghead.models.generator import Generator, bearable
from gghead.torch_utils.errors import UserError
from gghead.training.encoder.config import PRESETS as ENCODERS
from gghead.training.expression.config import PRESETS as EXPRESSIONS
from gghead.training.gan.config import PRESETS
from gghead.training.gan.trainer import Trainer
from gghead.training.run import precision
from gghead.training.run.precision import Figures, Layers, choose, measure

CPU = torch.device("cpu")


class Clock:
    """Layers whose passes take as long as they are told, on a clock of their own."""

    def __init__(self, fp32, bf16, batch=16):
        self.now, self.made = 0.0, []
        self.seconds = {torch.float32: fp32, torch.bfloat16: bf16}
        self.layers = Layers("told", batch, self._make)

    def _make(self, images, side, dtype):
        self.made.append((images, side, dtype))

        def run():
            self.now += self.seconds[dtype] * images * (side / 64) ** 2

        return run

    def measure(self):
        return measure(self.layers, lambda: self.now)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("fp32", "bf16", "wanted"),
    [(0.010, 0.013, "fp32"), (0.010, 0.006, "bf16"), (0.010, 0.0097, "fp32")],
)
def test_the_faster_one_is_chosen_and_a_tie_goes_to_fp32(fp32, bf16, wanted, monkeypatch):
    clock = Clock(fp32, bf16)
    figures = clock.measure()
    monkeypatch.setattr(precision, "measure", lambda layers: figures)
    chosen, reason = choose(CPU, clock.layers)
    assert chosen == wanted
    assert figures.fp32 / figures.images == pytest.approx(1000 * fp32)
    assert (
        reason
        == f"{figures.images} images take {figures.fp32:.3g} ms in fp32, {figures.bf16:.3g} ms in"
        " bf16 on this processor"
    )


@pytest.mark.parametrize("fp32", [0.0005, 0.005, 0.05, 0.5])
@pytest.mark.parametrize("ratio", [0.3, 1.0, 2.0, 30.0])
def test_measuring_ends_in_two_seconds_on_any_machine(fp32, ratio):
    clock = Clock(fp32, fp32 * ratio)
    figures = clock.measure()
    assert clock.now <= 2.0 and figures.bf16 / figures.fp32 == pytest.approx(ratio)


def test_an_emulation_is_found_out_on_a_small_image():
    clock = Clock(0.01, 0.3)
    figures = clock.measure()
    assert figures.images == 1 and {side for _, side, _ in clock.made} == {16}


def test_figures_are_kept_by_processor_threads_environment_and_network(monkeypatch, tmp_path):
    measured = []

    def count(layers):
        measured.append(layers.name)
        return Figures(8, 2.0, 1.0)

    monkeypatch.setattr(precision, "measure", count)
    layers = Clock(1, 1).layers
    for _ in range(2):
        assert choose(CPU, layers)[0] == "bf16"
    assert measured == ["told"]
    choose(CPU, replace(layers, name="another"))
    choose(CPU, replace(layers, batch=4))
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", os.environ.get("ONEDNN_MAX_CPU_ISA", "") + "another")
    choose(CPU, layers)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    choose(CPU, layers)
    monkeypatch.setattr(precision, "processor_features", lambda: "another one")
    choose(CPU, layers)
    assert len(measured) == 6
    for file in tmp_path.rglob("precision_*.json"):
        file.write_text("{")
    for _ in range(2):  # a broken file is measured anew and written again
        choose(CPU, layers)
    assert len(measured) == 7


def test_a_cache_that_cannot_be_written_is_no_fault(monkeypatch, tmp_path):
    (tmp_path / "gghead").write_text("a file where the folder should be")
    monkeypatch.setattr(precision, "measure", lambda layers: Figures(8, 1.0, 2.0))
    assert choose(CPU, Clock(1, 1).layers)[0] == "fp32"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize(
    "layers",
    [
        precision.gan_layers(PRESETS["tiny"].generator, PRESETS["tiny"].discriminator, 2),
        precision.gan_layers(PRESETS["ffhq512"].generator, PRESETS["ffhq512"].discriminator, 2),
        precision.encoder_layers(ENCODERS["tiny"].model, 2),
        precision.expression_layers(EXPRESSIONS["tiny"].model, 2),
        precision.generator_layers(PRESETS["tiny"].generator, 2),
    ],
    ids=["gan", "large gan", "encoder", "expression", "generator"],
)
def test_our_layers_run_forward_and_backward_in_both_precisions(layers, dtype):
    kept, used = set(), set()  # by the forward pass, in the backward pass
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.add(tensor.dtype) or tensor,
        lambda tensor: used.add(tensor.dtype) or tensor,
    ):
        layers.make(2, 16, dtype)()
    assert used and used <= kept
    assert (torch.bfloat16 in used) == (dtype == torch.bfloat16)


def test_measuring_leaves_random_numbers_and_gradient_mode_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    with torch.no_grad():
        figures = measure(
            replace(precision.generator_layers(PRESETS["tiny"].generator, 1), batch=1)
        )
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), before) and figures.fp32 > 0 < figures.bf16


def test_bf16_loses_where_onednn_is_kept_from_its_instructions(tmp_path):
    """Without them a bf16 convolution is a loop that takes many times as long, whatever the
    processor could do."""
    if (
        not torch.backends.mkldnn.is_available()
        or "AVX" not in torch.backends.cpu.get_cpu_capability()
    ):
        pytest.skip("not this kind of processor")
    code = (
        "import torch; from gghead.training.run.precision import choose, gan_layers\nfrom"
        " gghead.training.gan.config import PRESETS\np = PRESETS['tiny'];"
        " print(choose(torch.device('cpu'), gan_layers(p.generator, p.discriminator, 16))[0])"
    )
    environment = {
        **os.environ,
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["fp32"]


# --------------------------------------------------------------------------------- GPUs, told about
def test_bf16_that_a_gpu_emulates_does_not_count(monkeypatch):
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation
    )
    assert choose(torch.device("cuda"), Clock(1, 1).layers) == (
        "fp32",
        "the GPU has no bf16 of its own",
    )
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)  # a torch without emulation
    assert choose(torch.device("cuda"), Clock(1, 1).layers)[0] == "bf16"


@pytest.mark.parametrize(
    ("name", "convolutions"), [("fp32", False), ("tf32", True), ("bf16", True)]
)
def test_tf32_is_for_convolutions_that_may_and_never_for_geometry(name, convolutions, monkeypatch):
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    try:
        cudnn.allow_tf32 = matmul.allow_tf32 = True
        precision.set_precision(name, CPU)
        assert cudnn.allow_tf32 and matmul.allow_tf32  # nothing of ours
        precision.set_precision(name, torch.device("cuda"))
        assert (cudnn.allow_tf32, matmul.allow_tf32) == (convolutions, False)
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = before


def test_tf32_on_a_cpu_is_a_sentence():
    with pytest.raises(UserError, match="`precision='tf32'` is a mode of NVIDIA GPUs"):
        precision.check_device("tf32", CPU)
    precision.check_device("tf32", torch.device("cuda"))
    precision.check_device(None, CPU)


# ----------------------------------------------------------------------------------------- geometry
def shrunken(name):
    """A preset's generator with its ranges, and planes that reach as far as trained ones."""
    config = PRESETS[name].generator
    config = replace(
        config,
        z_dim=32,
        w_dim=32,
        plane_resolution=32,
        latent_resolution=8,
        grid=32,
        cbase=1024,
        cmax=32,
        pose_cond=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Generator(config).eval().requires_grad_(False)
        for layer in model.decoder.to_planes:
            torch.nn.init.normal_(layer.weight)
        return model, torch.randn(2, model.num_ws, 32)


def jitter(model, ws):
    """Pixels (root mean square) by which bf16, as it is used in training, moves Gaussians against a
    snapshot."""
    exact = model.gaussians(ws).means
    model.dtype = bearable(model.config, torch.bfloat16)
    difference = (model.gaussians(ws).means - exact)[..., :2].norm(dim=-1)
    camera = Cameras.orbit(0.0)
    focal, distance = (
        float(camera.intrinsics[..., 0, 0].mean()),
        float(camera.position.norm(dim=-1).mean()),
    )
    return float(difference.square().mean().sqrt()) * focal / distance * model.config.image_size


@pytest.mark.parametrize("name", list(PRESETS))
def test_no_preset_moves_gaussians_visibly_in_bf16(name):
    model, ws = shrunken(name)
    assert jitter(model, ws) < 0.05


def test_the_large_presets_have_their_generator_in_float32_and_the_discriminator_in_bf16():
    config = PRESETS["ffhq512"]
    generator = replace(
        config.generator,
        z_dim=16,
        w_dim=16,
        plane_resolution=16,
        latent_resolution=8,
        cbase=64,
        cmax=8,
    )
    config = replace(
        config,
        generator=generator,
        precision="bf16",
        batch=1,
        discriminator=replace(config.discriminator, cbase=2048, cmax=8, map_depth=1),
    )
    trainer = Trainer(config, Cameras.orbit(torch.zeros(1)).label())
    assert trainer.dtype == torch.bfloat16
    assert trainer.G.dtype == trainer.G_ema.dtype == torch.float32
    small = replace(PRESETS["tiny"], precision="bf16", batch=4)
    assert Trainer(small, Cameras.orbit(torch.zeros(1)).label()).G.dtype == torch.bfloat16


@pytest.mark.parametrize(("name", "wanted"), [("tiny", torch.bfloat16), ("headsup", torch.float32)])
def test_reconstructors_keep_a_decoder_that_needs_it_in_float32(name, wanted):
    assert bearable(ENCODERS[name].model.generator, torch.bfloat16) == wanted
    assert bearable(ENCODERS[name].model.generator, torch.float32) == torch.float32
