import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers.small_network import SMALL, small_network
from PIL import Image

from gghead import checkpoints
from gghead.cameras import Cameras
from gghead.cli import gen_video, invert
from gghead.cli.common import default_network
from gghead.cli.edit import interpolate
from gghead.cli.gen_samples import generate_samples, main, seed_latents, spread_yaws
from gghead.gaussians import Gaussians
from gghead.models.config import BackgroundConfig, GeneratorConfig
from gghead.models.generator import Generator

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def model():
    return small_network()


@pytest.fixture(scope="module")
def run(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("home") / "training-runs" / "00003-tiny-heads"
    folder.mkdir(parents=True)
    checkpoints.save(model, folder / "network-snapshot-000001.safetensors", kimg=1)
    return folder


def call(*options: object, command=main) -> str:
    result = CliRunner().invoke(command, [str(option) for option in options])
    assert result.exit_code == 0, result.output
    return result.output


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_iterator_that_is_not_finished_leaves_gradients_on(model):
    first, second = (seed_latents(model, [0, 1]) for _ in range(2))
    next(first), next(second)
    assert torch.is_grad_enabled()
    assert not next(first).ws.requires_grad
    first.close()
    second.close()
    assert torch.is_grad_enabled()


def test_files_and_their_sizes(run, tmp_path):
    output = call(f"--network={run}", "--seeds=0,2-3", f"--outdir={tmp_path}", "--shapes=1")
    names = [f"seed{seed:04d}.{kind}" for seed in (0, 2, 3) for kind in ("ply", "png")]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert all(str(tmp_path / name) in output for name in names)
    with Image.open(tmp_path / "seed0002.png") as image:
        assert image.size == (3 * 24, 24) and image.mode == "RGB"


@pytest.mark.parametrize("noise_mode", ["const", "random", "none"])
def test_a_seed_gives_the_same_bytes_whatever_its_neighbours(run, tmp_path, noise_mode):
    options = [f"--network={run}", "--shapes=1", f"--noise-mode={noise_mode}"]
    call(*options, "--seeds=0-4", f"--outdir={tmp_path / 'many'}")
    call(*options, "--seeds=3", f"--outdir={tmp_path / 'alone'}")
    for name in ("seed0003.png", "seed0003.ply"):
        assert digest(tmp_path / "many" / name) == digest(tmp_path / "alone" / name)
    assert digest(tmp_path / "many" / "seed0002.png") != digest(tmp_path / "many" / "seed0003.png")


def test_views_are_the_model_seen_from_those_cameras(model):
    yaws = (0.4, 0.0, -0.4)
    sample = next(generate_samples(model, [5], yaws=yaws, pitch=0.1, size=20))
    z = torch.from_numpy(np.random.RandomState(5).randn(1, 8).astype(np.float32))
    head = model.gaussians(model.mapping(z))
    for index, yaw in enumerate(yaws):
        expected = model.render(head, Cameras.orbit(yaw, 0.1), 20).color[0, 0].permute(1, 2, 0) * 255
        view = sample.image[:, 20 * index : 20 * (index + 1)]
        assert np.abs(view - expected.numpy()).max() <= 0.51
    assert torch.equal(sample.gaussians.means, head.means)


def test_truncation_and_noise_modes_change_what_they_should(model):
    def draw(seed, **options):
        return next(generate_samples(model, [seed], **options)).image

    average = draw(1, truncation_psi=0.0)
    assert np.array_equal(average, draw(2, truncation_psi=0.0)) and not np.array_equal(average, draw(1))
    cut = draw(1, truncation_psi=0.0, truncation_cutoff=1)
    assert not np.array_equal(cut, average) and not np.array_equal(cut, draw(1))
    noisy = draw(1, noise_mode="random")
    assert not np.array_equal(noisy, draw(1)) and not np.array_equal(noisy, draw(1, noise_mode="none"))


def test_field_of_view_is_the_horizontal_one(model):
    default = next(generate_samples(model, [0])).image
    ffhq = next(generate_samples(model, [0], fov_deg=13.375)).image
    assert np.abs(default.astype(int) - ffhq).mean() < 0.5
    wide = next(generate_samples(model, [0], fov_deg=40.0)).image
    assert (wide == 255).mean() > (default == 255).mean() + 0.2, "a wider lens shows a smaller head"


def test_conditioned_network_with_its_own_background():
    torch.manual_seed(1)
    background = BackgroundConfig(kind="cnn", resolution=16, cbase=64, cmax=8)
    model = Generator(GeneratorConfig(**SMALL, pose_cond=True, background=background)).eval()
    image = next(generate_samples(model, [0], yaws=[0.0], fov_deg=90.0)).image
    assert image.shape == (24, 24, 3)
    assert (image[0] != 255).any(), "not plain white: the network's own background"


def test_seeds_are_stylegans():
    z = np.random.RandomState(3).randn(1, 512)
    assert np.allclose(z[0, :3], [1.78862847, 0.43650985, 0.09649747]), "numpy's legacy generator is frozen"


def test_views_and_yaw(run, tmp_path):
    assert spread_yaws(3) == pytest.approx((0.4, 0.0, -0.4)) and spread_yaws(1) == (0.0,)
    call(f"--network={run}", "--seeds=0", f"--outdir={tmp_path}", "--views=5", "--size=16")
    with Image.open(tmp_path / "seed0000.png") as image:
        assert image.size == (80, 16)
    call(f"--network={run}", "--seeds=0", f"--outdir={tmp_path}", "--yaw=-0.2,0.2", "--size=16")
    with Image.open(tmp_path / "seed0000.png") as image:
        assert image.size == (32, 16)


def test_underscores_as_in_eg3d_and_the_newest_run_by_default(run, tmp_path, monkeypatch):
    monkeypatch.chdir(run.parent.parent)
    output = call("--seeds=0", f"--outdir={tmp_path}", "--trunc_cutoff=2", "--noise_mode=none")
    assert "00003-tiny-heads" in output


def test_newest_run_is_the_one_with_the_highest_number_and_a_snapshot(tmp_path):
    for name, file in [
        ("00009-a", "network-snapshot-000001.safetensors"),
        ("00010-b", "network-snapshot-000000.safetensors"),
        ("00011-c", "log.txt"),
    ]:
        (tmp_path / name).mkdir()
        (tmp_path / name / file).touch()
    assert default_network(tmp_path).name == "00010-b"
    assert default_network(tmp_path / "00011-c") == "demo"


def test_without_a_network_the_shipped_one_draws(tmp_path, monkeypatch):
    """Straight after the installation, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    output = call("--seeds=0-1", "--trunc=0.7")
    assert "of demo" in output
    first, second = (np.asarray(Image.open(tmp_path / "out" / f"seed000{seed}.png")) for seed in (0, 1))
    assert first.shape == (64, 192, 3)
    assert np.abs(first.astype(int) - second).mean() > 3  # different people
    middle = first[:, 64:128].astype(int)
    assert (middle[:4, :4] > 240).all() and middle[24:44, 24:44].std() > 8  # a face before a white background


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--network=nowhere", "--seeds=0"], "nowhere does not exist"),
        (["--network=RUN"], "seeds"),
        (["--network=RUN", "--seeds=4-1"], "backwards"),
        (["--network=RUN", "--seeds=0", "--yaw=left"], "'left'"),
        (["--network=RUN", "--seeds=0", "--views=2", "--yaw=0"], "exclude each other"),
        (["--network=RUN", "--seeds=0", "--fov-deg=180"], "180"),
        (["--network=RUN", "--seeds=4294967296"], "between 0 and 4294967295, but 4294967296 is asked for"),
        (["--network=RUN", "--latents=,RUN"], "between its commas"),
        (["--network=RUN", "--seeds=0", "--device=cpu:what"], "--device=cpu:what"),
        (["--network=RUN", "--seeds=0", "--outdir=FILE/out"], "FILE/out"),
    ],
)
def test_mistakes_are_told_in_a_sentence(run, tmp_path, options, message):
    (tmp_path / "FILE").touch()
    known = {"RUN": str(run), "FILE": str(tmp_path / "FILE")}
    for word, value in known.items():
        options = [option.replace(word, value) for option in options]
        message = message.replace(word, value)
    result = CliRunner().invoke(main, options)
    assert result.exit_code in (1, 2) and "Traceback" not in result.output
    assert message in " ".join(result.output.split())


def test_root_script_runs_on_its_own(run, tmp_path):
    command = [sys.executable, "gen_samples.py", f"--network={run}", "--seeds=1", f"--outdir={tmp_path}", "--shapes=1"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert Gaussians.load_ply(tmp_path / "seed0001.ply").num == 12 * 12


# ------------------------------------------------------------------------------------------------------------- videos
def test_video_of_one_head_turns_it(model):
    cameras = gen_video.camera_path("turntable", 4)
    frames = list(gen_video.generate_frames(model, [7], cameras, size=16))
    assert [frame.shape for frame in frames] == [(16, 16, 3)] * 4
    stills = next(generate_samples(model, [7], yaws=[0.0, np.pi / 2], size=16)).image
    assert np.abs(np.concatenate(frames[:2], axis=1).astype(int) - stills).max() <= 1


def test_video_grid_deals_seeds_row_by_row_and_interpolates_in_a_loop(model):
    cameras = gen_video.camera_path("sweep", 1)
    picture = next(gen_video.generate_frames(model, [0, 1, 2, 3], cameras, grid=(2, 2), size=16))
    alone = [next(gen_video.generate_frames(model, [seed], cameras, size=16)) for seed in range(4)]
    assert np.array_equal(picture, np.block([[[alone[0]], [alone[1]]], [[alone[2]], [alone[3]]]]))

    keys = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0))
    path = gen_video.closed_path(keys, 30)
    assert torch.allclose(path[::10], keys, atol=1e-6), "the keys are met"
    steps = (torch.cat([path, path[:1]]).diff(dim=0)).flatten(1).norm(dim=1)
    assert steps[-1] < 2 * steps.median(), "the last frame flows into the first"


@pytest.mark.parametrize("camera", gen_video.CAMERA_PATHS)
def test_video_command(run, tmp_path, camera):
    output = tmp_path / "turn.webp"
    call(f"--network={run}", "--seeds=0-3", "--grid=2x1", f"--output={output}", "--frames=3", f"--camera={camera}",
         "--size=16", command=gen_video.main)
    with Image.open(output) as image:
        assert image.size == (32, 16) and image.n_frames == 3


@pytest.mark.parametrize(
    ("options", "message"), [(["--grid=2"], "COLUMNSxROWS"), (["--grid=2x2"], "a multiple of 4 seeds"),
                             (["--fps=0"], "0.0 is not in the range x>0")]
)
def test_video_mistakes_are_told_in_a_sentence(run, options, message):
    result = CliRunner().invoke(gen_video.main, [f"--network={run}", "--seeds=0-2", "--output=x.webp", *options])
    assert result.exit_code in (1, 2) and message in " ".join(result.output.split())


@pytest.mark.parametrize(("command", "options"), [
    (gen_video.main, ["--seeds=0", "--output=x.mp4"]),
    (interpolate.main, ["--heads=0,1", "--video=x.mp4"]),
    (invert.main, ["--target=seeds:0", "--video=mp4"]),
])
def test_a_video_that_cannot_be_written_is_refused_before_its_frames_are_drawn(command, options, monkeypatch):
    """Before the network is read, too: here there is none."""
    monkeypatch.setattr("gghead.video.shutil.which", lambda name: None)
    monkeypatch.setattr("gghead.video.importlib.util.find_spec", lambda name: None)
    result = CliRunner().invoke(command, ["--network=nowhere", *options])
    assert result.exit_code == 1 and ".mp4 videos need PyAV" in result.output
