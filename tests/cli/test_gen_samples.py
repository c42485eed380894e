import hashlib
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers.places import ROOT
from helpers.small_network import SMALL, small_network
from PIL import Image

from gghead import checkpoints
from gghead.cameras import Cameras
from gghead.cli import gen_video, invert
from gghead.cli.common import PSI
from gghead.cli.edit import interpolate
from gghead.cli.gen_samples import main
from gghead.figures import grid
from gghead.gaussians import Gaussians
from gghead.models.config import BackgroundConfig, GeneratorConfig
from gghead.models.generator import Generator
from gghead.sampling import (
    camera_path,
    closed_path,
    generate_frames,
    generate_samples,
    seed_latents,
    spread_yaws,
)


@pytest.fixture(scope="module")
def model():
    return small_network()


@pytest.fixture(scope="module")
def run(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("home") / "training-runs" / "00003-tiny-heads"
    folder.mkdir(parents=True)
    checkpoints.save(model, folder / "network-snapshot-000001.safetensors", done=1)
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
    output = call(
        f"--network={run}", "--seeds=0,2-3", f"--outdir={tmp_path}", "--shapes", "--size=24"
    )
    names = [
        "grid.png",
        *(f"seed{seed:04d}.{kind}" for seed in (0, 2, 3) for kind in ("ply", "png")),
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert all(str(tmp_path / name) in output for name in names)
    with Image.open(tmp_path / "seed0002.png") as image:
        assert image.size == (3 * 24, 24) and image.mode == "RGB"
    with Image.open(tmp_path / "grid.png") as image:
        # one column, with the seeds above the heads
        assert image.width == 3 * 24 and image.height > 3 * 24


@pytest.mark.parametrize("noise_mode", ["const", "random", "none"])
def test_a_seed_gives_the_same_bytes_whatever_its_neighbors(run, tmp_path, noise_mode):
    options = [f"--network={run}", "--shapes=1", "--size=24", f"--noise-mode={noise_mode}"]
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
        expected = (
            model.render(head, Cameras.orbit(yaw, 0.1), 20).color[0, 0].permute(1, 2, 0) * 255
        )
        view = sample.image[:, 20 * index : 20 * (index + 1)]
        assert np.abs(view - expected.numpy()).max() <= 0.51
    assert torch.equal(sample.gaussians.means, head.means)


def test_truncation_and_noise_modes_change_what_they_should(model):
    def draw(seed, **options):
        return next(generate_samples(model, [seed], **options)).image

    average = draw(1, truncation_psi=0.0)
    assert np.array_equal(average, draw(2, truncation_psi=0.0)) and not np.array_equal(
        average, draw(1)
    )
    cut = draw(1, truncation_psi=0.0, truncation_cutoff=1)
    assert not np.array_equal(cut, average) and not np.array_equal(cut, draw(1))
    noisy = draw(1, noise_mode="random")
    assert not np.array_equal(noisy, draw(1)) and not np.array_equal(
        noisy, draw(1, noise_mode="none")
    )


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
    assert np.allclose(z[0, :3], [1.78862847, 0.43650985, 0.09649747]), (
        "numpy's legacy generator is frozen"
    )


def test_views_and_yaw(run, tmp_path):
    assert spread_yaws(3) == pytest.approx((0.4, 0.0, -0.4)) and spread_yaws(1) == (0.0,)
    call(f"--network={run}", "--seeds=0", f"--outdir={tmp_path}", "--views=5", "--size=16")
    with Image.open(tmp_path / "seed0000.png") as image:
        assert image.size == (80, 16)


def test_yaw_and_pitch_are_degrees(run, model, tmp_path):
    call(
        f"--network={run}",
        "--seeds=0",
        f"--outdir={tmp_path}",
        "--yaw=-20,20",
        "--pitch=10",
        "--size=16",
    )
    expected = next(
        generate_samples(
            model,
            [0],
            yaws=np.radians([-20, 20]),
            pitch=np.radians(10),
            size=16,
            truncation_psi=PSI,
        )
    )
    assert np.array_equal(np.asarray(Image.open(tmp_path / "seed0000.png")), expected.image)


def test_underscores_as_in_eg3d_and_the_newest_run_when_asked(run, tmp_path, monkeypatch):
    monkeypatch.chdir(run.parent.parent)
    output = call(
        "--network=latest",
        "--seeds=0",
        f"--outdir={tmp_path}",
        "--trunc_cutoff=2",
        "--noise_mode=none",
    )
    assert "00003-tiny-heads" in output
    assert "of demo" in call("--seeds=0", f"--outdir={tmp_path / 'demo'}", "--size=8"), (
        "a run is not taken unasked"
    )


def test_without_options_the_shipped_network_draws_eight_heads_and_a_grid(tmp_path, monkeypatch):
    """Straight after the installation, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    output = call()
    assert "8 seeds of demo, psi 0.7, into out/demo-psi0.7" in output
    folder = tmp_path / "out" / "demo-psi0.7"
    assert sorted(path.name for path in folder.iterdir()) == [
        "grid.png",
        *(f"seed000{seed}.png" for seed in range(8)),
    ]
    first, second = (np.asarray(Image.open(folder / f"seed000{seed}.png")) for seed in (0, 1))
    assert first.shape == (256, 768, 3)
    assert np.abs(first.astype(int) - second).mean() > 3  # different people
    middle = first[:, 256:512].astype(int)
    # a face before a white background
    assert (middle[:4, :4] > 240).all() and middle[96:176, 96:176].std() > 8
    with Image.open(folder / "grid.png") as image:
        # two columns, the seeds above the heads
        assert image.size[0] == 2 * 768 and 4 * 256 < image.size[1] < 4 * 300


def test_a_head_from_a_file_is_drawn_as_it_is_unless_truncation_is_asked_for(run, tmp_path):
    options = [f"--network={run}", "--size=24"]
    drawn, film = tmp_path / "seeds", tmp_path / "seeds.gif"
    call(*options, "--seeds=4", f"--outdir={drawn}", "--save-latents")
    call(*options, "--seeds=4", f"--output={film}", "--frames=2", command=gen_video.main)
    image, turn = digest(drawn / "seed0004.png"), digest(film)
    options.append(f"--latents={drawn / 'seed0004'}")
    for given, alike in (([], True), (["--trunc=1"], True), (["--trunc=0.7"], False)):
        drawn, film = tmp_path / f"files{given}", tmp_path / f"files{given}.gif"
        call(*options, *given, f"--outdir={drawn}")
        call(*options, *given, f"--output={film}", "--frames=2", command=gen_video.main)
        assert (digest(drawn / "seed0004-sample.png") == image) == alike, given
        assert (digest(film) == turn) == alike, given


def test_what_is_there_is_kept_and_defaults_go_elsewhere(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = [f"--network={run}", "--seeds=0", "--size=8"]
    call(*options)
    call(*options)
    call(*options, "--trunc=0.5")
    names = ["00003-tiny-heads-psi0.5", "00003-tiny-heads-psi0.7", "00003-tiny-heads-psi0.7-2"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    here = tmp_path / "here"
    call(*options, f"--outdir={here}")
    before = digest(here / "seed0000.png")
    refused = CliRunner().invoke(main, [*options, f"--outdir={here}", "--yaw=30"])
    assert refused.exit_code == 1 and "seed0000.png exists already" in refused.output
    assert digest(here / "seed0000.png") == before
    call(*options, f"--outdir={here}", "--yaw=30", "--overwrite")
    assert digest(here / "seed0000.png") != before
    call(*options, "--seeds=1-2", f"--outdir={here}")
    film = f"--output={tmp_path / 'film.webp'}"
    call(*options, film, "--frames=2", command=gen_video.main)
    again = CliRunner().invoke(gen_video.main, [*options, film, "--frames=2"])
    assert again.exit_code == 1 and "film.webp exists already" in again.output
    call(*options, film, "--frames=2", "--overwrite=1", command=gen_video.main)


def test_a_grid_is_about_as_wide_as_high():
    cells = [np.full((40, 120, 3), 30 * index, np.uint8) for index in range(7)]
    sheet = grid(cells, [str(index) for index in range(7)])
    above = len(sheet) // 4 - 40
    assert sheet.shape == (4 * (above + 40), 240, 3)
    for index in range(8):
        row, column = (above + 40) * (index // 2), 120 * (index % 2)
        name = sheet[row : row + above, column : column + 120]
        image = sheet[row + above : row + above + 40, column : column + 120]
        if index < 7:
            assert (name < 128).any() and (image == 30 * index).all(), "its name stands above it"
        else:
            assert (name == 255).all() and (image == 255).all(), "an empty cell is white"


def test_long_names_stay_above_their_own_image():
    cells = [np.full((100, 300, 3), 200, np.uint8)] * 2
    sheet = grid(cells, ["IMG_20240131_123456_edited_copy-pti", ""])
    above = sheet[: len(sheet) // 2 - 100]
    ink = np.flatnonzero((above < 128).any((0, 2)))
    assert 0 < ink.min() < 60 and 240 < ink.max() < 299


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--network=nowhere", "--seeds=0"], "nowhere does not exist"),
        (["--network=RUN", "--seeds=4-1"], "backwards"),
        (["--network=RUN", "--seeds=0", "--yaw=left"], "'left'"),
        (["--network=RUN", "--seeds=0", "--views=2", "--yaw=0"], "exclude each other"),
        (["--network=RUN", "--seeds=0", "--fov-deg=180"], "180"),
        (
            ["--network=RUN", "--seeds=4294967296"],
            "between 0 and 4294967295, but 4294967296 is asked for",
        ),
        (["--network=RUN", "--latents=,RUN"], "between its commas"),
        (["--network=RUN", "--seeds=0", "--device=cpu:what"], "--device=cpu:what"),
        (
            ["--network=RUN", "--seeds=0", "--outdir=FILE/out"],
            "--outdir=FILE/out/seed0000.png cannot be written",
        ),
        (["--network=RUN", "--seeds=0", "--yaw=0,400"], "400 is no angle"),
        (["--network=latest"], "no run with a network in training-runs"),
    ],
)
def test_mistakes_are_told_in_a_sentence(run, tmp_path, options, message, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").touch()
    known = {"RUN": str(run), "FILE": str(tmp_path / "FILE")}
    for word, value in known.items():
        options = [option.replace(word, value) for option in options]
        message = message.replace(word, value)
    result = CliRunner().invoke(main, options)
    assert result.exit_code in (1, 2) and "Traceback" not in result.output
    assert message in " ".join(result.output.split())


def test_root_script_runs_on_its_own(run, tmp_path):
    command = [
        sys.executable,
        "gen_samples.py",
        f"--network={run}",
        "--seeds=1",
        f"--outdir={tmp_path}",
        "--shapes=1",
    ]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert Gaussians.load_ply(tmp_path / "seed0001.ply").num == 12 * 12


# ------------------------------------------------------------------------------------------- videos
def test_video_of_one_head_turns_it(model):
    cameras = camera_path("turntable", 4)
    frames = list(generate_frames(model, [7], cameras, size=16))
    assert [frame.shape for frame in frames] == [(16, 16, 3)] * 4
    stills = next(generate_samples(model, [7], yaws=[0.0, np.pi / 2], size=16)).image
    assert np.abs(np.concatenate(frames[:2], axis=1).astype(int) - stills).max() <= 1


def test_video_grid_deals_seeds_row_by_row_and_interpolates_in_a_loop(model):
    cameras = camera_path("sweep", 1)
    image = next(generate_frames(model, [0, 1, 2, 3], cameras, grid=(2, 2), size=16))
    alone = [next(generate_frames(model, [seed], cameras, size=16)) for seed in range(4)]
    assert np.array_equal(image, np.block([[[alone[0]], [alone[1]]], [[alone[2]], [alone[3]]]]))

    keys = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0))
    path = closed_path(keys, 30)
    assert torch.allclose(path[::10], keys, atol=1e-6), "the keys are met"
    steps = (torch.cat([path, path[:1]]).diff(dim=0)).flatten(1).norm(dim=1)
    assert steps[-1] < 2 * steps.median(), "the last frame flows into the first"


@pytest.mark.parametrize("camera", gen_video.CAMERA_PATHS)
def test_video_command(run, tmp_path, camera):
    output = tmp_path / "turn.webp"
    call(
        f"--network={run}",
        "--seeds=0-3",
        "--grid=2x1",
        f"--output={output}",
        "--frames=3",
        f"--camera={camera}",
        "--size=16",
        command=gen_video.main,
    )
    with Image.open(output) as image:
        assert image.size == (32, 16) and image.n_frames == 3


def test_without_options_eight_heads_of_the_shipped_network_turn(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    output = call("--frames=4", "--size=32", command=gen_video.main)
    with Image.open(tmp_path / "out" / "demo-psi0.7-turntable.webp") as film:
        assert film.size == (4 * 32, 2 * 32) and "camera turntable" in output
        frames = []
        for index in range(film.n_frames):
            film.seek(index)
            frames.append(np.asarray(film.convert("RGB")).astype(int))
    model = checkpoints.load("demo")
    # all the way round, the back of the head included
    for frame, yaw in ((0, 0.0), (1, math.pi / 2), (2, math.pi)):
        expected = next(generate_samples(model, [0], yaws=[yaw], size=32, truncation_psi=PSI)).image
        assert np.abs(frames[frame][:32, :32] - expected).mean() < 6


@pytest.mark.parametrize(
    ("yaw", "given", "camera", "why"),
    [
        ([-180.0, 180.0], [], "turntable", "data show heads from all sides"),
        ([-38.4, 37.0], [], "sweep", "yaws from -38.4 to 37 degrees only"),
        (None, [], "sweep", "does not say from which sides"),
        ([-180.0, 180.0], ["--yaw-range=20"], "sweep", "camera sweep, into"),
        ([-38.4, 37.0], ["--camera=turntable"], "turntable", "camera turntable, into"),
    ],
)
def test_a_film_goes_all_the_way_round_where_the_data_did(
    yaw, given, camera, why, model, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    said = {} if yaw is None else {"yaw": yaw}
    checkpoints.save(model, tmp_path / "net.safetensors", provenance=said)
    options = ["--network=net.safetensors", "--seeds=0", "--frames=4", "--size=16"]
    output = call(*options, *given, "--output=film.gif", command=gen_video.main)
    assert f"camera {camera}" in output and why in output
    options += [*given, f"--camera={camera}", "--output=wanted.gif"]
    call(*options, command=gen_video.main)
    assert digest(tmp_path / "film.gif") == digest(tmp_path / "wanted.gif")


def test_how_far_a_sweep_turns_is_given_in_degrees(run, model, tmp_path):
    call(
        f"--network={run}",
        "--seeds=1",
        f"--output={tmp_path / 'x.gif'}",
        "--frames=4",
        "--size=16",
        "--yaw-range=20",
        command=gen_video.main,
    )
    wanted = camera_path("sweep", 4, yaw_range=np.radians(20))
    assert wanted.angles()[0].rad2deg().tolist() == pytest.approx([0, 20, 0, -20], abs=1e-4)
    expected = list(generate_frames(model, [1], wanted, size=16, truncation_psi=PSI))
    with Image.open(tmp_path / "x.gif") as film:
        film.seek(1)
        assert np.abs(np.asarray(film.convert("RGB")).astype(int) - expected[1]).mean() < 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--yaw-range=20", "--camera=turntable"], "a turntable goes all the way round"),
        (["--output=x.avi"], "must end in .mp4"),
        (["--grid=2"], "COLUMNSxROWS"),
        (["--grid=2x2"], "a multiple of 4 seeds"),
        (["--fps=0"], "0.0 is not in the range x>0"),
    ],
)
def test_video_mistakes_are_told_in_a_sentence(run, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(
        gen_video.main, [f"--network={run}", "--seeds=0-2", "--output=x.webp", *options]
    )
    assert result.exit_code in (1, 2) and message in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (gen_video.main, ["--seeds=0", "--output=x.mp4"]),
        (interpolate.main, ["--heads=0,1", "--video=x.mp4"]),
        (invert.main, ["--target=seeds:0", "--video-format=mp4"]),
    ],
)
def test_a_video_that_cannot_be_written_is_refused_before_its_frames_are_drawn(
    command, options, monkeypatch
):
    """Before the network is read, too: here there is none."""
    monkeypatch.setitem(sys.modules, "av", None)
    result = CliRunner().invoke(command, ["--network=nowhere", *options])
    assert result.exit_code == 1 and "mp4 needs PyAV" in result.output
