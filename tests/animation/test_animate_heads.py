"""Driving generated heads from the command line: seeds and latents, weights, tables and
sequences."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from helpers.avatar_sequence import SIZE, write_sequence
from helpers.video_frames import frames_of
from PIL import Image

import gghead
from gghead import latent as latents
from gghead.cli.animate import main
from gghead.cli.common import PSI
from gghead.inversion import Latent


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_sequence(tmp_path_factory.mktemp("sequence") / "person")


def run(*arguments):
    return CliRunner().invoke(main, ["--network=demo", *map(str, arguments)])


def test_an_image_shows_neutral_and_posed(tmp_path):
    out = tmp_path / "out/p.png"
    result = run(
        "--seeds=1,2", "--weights=jawOpen=1,eyeBlink=1,tongueOut=1", f"--output={out}", "--size=32"
    )
    assert result.exit_code == 0 and "No shape for tongueOut: left out" in result.output, (
        result.output
    )
    shown = np.asarray(Image.open(out)).astype(int)
    assert shown.shape == (64, 64, 3)
    model = gghead.load("demo")
    head = model.sample(1, PSI)
    for column, weights in enumerate(({}, {"jawOpen": 1, "eyeBlinkLeft": 1, "eyeBlinkRight": 1})):
        image = model.render(
            gghead.animate(head, weights, model=model), gghead.Cameras.orbit(0.0), 32
        ).color[0, 0]
        expected = (image.clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()
        assert np.abs(shown[:32, 32 * column : 32 * column + 32] - expected).max() <= 1
    assert np.abs(shown[:, :32] - shown[:, 32:]).max() > 60  # the mouth opens


def test_single_weights_come_and_go_in_a_video(tmp_path):
    out = tmp_path / "v.gif"
    assert run("--seeds=1", "--weights=jawOpen=1", f"--output={out}", "--size=24").exit_code == 0
    frames = frames_of(out).astype(int)
    assert len(frames) > 20
    change = np.abs(frames - frames[0]).mean((1, 2, 3))
    assert change.argmax() > len(frames) // 4 and change[-1] < 0.3 * change.max()


def test_without_network_and_output_the_shipped_heads_move_in_a_video_named_by_them(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for name in ("demo-jawOpen+eyeBlink.webp", "demo-jawOpen+eyeBlink-2.webp"):
        options = ["--seeds=1", "--weights=jawOpen=1,eyeBlink=0.5", "--only-frames=0,25"]
        result = CliRunner().invoke(main, [*options, "--size=16"])
        assert result.exit_code == 0 and str(Path("out") / name) in result.output, result.output
        assert len(frames_of(tmp_path / "out" / name)) == 2


def test_sequences_and_tables_drive_seeds_and_latents(data, tmp_path):
    model = gghead.load("demo")
    latent = Latent(model.mapping(model.seed_to_z(5)), info={"target": "me", "stage": "w"})
    latents.save(tmp_path / "latent-w.safetensors", latent, model)
    out = tmp_path / "v.gif"
    result = run(
        "--seeds=1",
        f"--latents={tmp_path}",
        f"--drive={data}",
        "--split=test",
        f"--output={out}",
        f"--size={SIZE}",
    )
    assert result.exit_code == 0, result.output
    assert frames_of(out).shape == (2, SIZE, 3 * SIZE, 3)  # what was filmed, the seed, the latent
    tracked = run(
        "--seeds=1",
        f"--drive={data}",
        "--camera=tracked",
        "--beside=0",
        f"--output={out}",
        "--size=16",
        "--overwrite",
    )
    assert tracked.exit_code == 0 and frames_of(out).shape == (8, 16, 16, 3)
    (tmp_path / "w.csv").write_text("jawOpen,eyeBlink_L\n0,0\n1,1\n")
    assert (
        run(
            "--seeds=1",
            f"--drive={tmp_path / 'w.csv'}",
            "--camera=sweep",
            f"--output={out}",
            "--size=24",
            "--overwrite",
        ).exit_code
        == 0
    )
    assert len(frames_of(out)) == 2
    count = len(gghead.animation.animate.sliders(model).coefficient_names)
    np.save(tmp_path / "m.npy", np.eye(count, 2, dtype=np.float32))
    (tmp_path / "other.csv").write_text("0,1\n1,0\n")
    mapped = run(
        "--seeds=1",
        f"--drive={tmp_path / 'other.csv'}",
        f"--mapping={tmp_path / 'm.npy'}",
        f"--output={out}",
        "--size=24",
        "--overwrite",
    )
    assert mapped.exit_code == 0, mapped.output


def test_wrong_uses_are_a_sentence(data, tmp_path):
    (tmp_path / "w.csv").write_text("1,2\n")
    (tmp_path / "n.csv").write_text("jawOpne\n1\n")
    out, weights = f"--output={tmp_path / 'o.gif'}", "--weights=jawOpen=1"
    foreign = write_sequence(tmp_path / "foreign", names=("AU1", "AU2"))
    for arguments, sentence in (
        ([weights], "Nobody to animate"),
        (["--seeds=1"], "either --drive=SEQUENCE|TABLE.csv or --weights"),
        (
            ["--seeds=1", weights, f"--drive={data}"],
            "either --drive=SEQUENCE|TABLE.csv or --weights",
        ),
        (["--avatar=x", weights], "--avatar and --network exclude each other"),
        (["--seeds=1", "--weights=jawOpn=1"], "did you mean 'jawOpen'"),
        (["--seeds=1", f"--drive={tmp_path / 'n.csv'}"], "did you mean 'jawOpen'"),
        (
            ["--seeds=1", f"--drive={tmp_path / 'w.csv'}"],
            "has 2 coefficients, but the head template has 46",
        ),
        (
            ["--seeds=1", f"--drive={foreign}"],
            "another expression model. Give --mapping=FILE, a matrix of 46 rows and",
        ),
        (["--seeds=1", weights, "--split=test"], "--split belongs to what drives the heads"),
        (["--seeds=1", weights, "--mapping=names"], "--mapping belongs to what drives the heads"),
        (["--seeds=1", weights, "--camera=tracked"], "has neither cameras nor images"),
        (
            ["--seeds=1", weights, "--only-frames=80"],
            "--only-frames asks for frame 80, but --weights has 50 frames",
        ),
    ):
        result = run(*arguments, out)
        assert result.exit_code == 1 and sentence in result.output, (arguments, result.output)
    assert not (tmp_path / "o.gif").exists()
    many = run(
        "--seeds=1",
        f"--drive={write_sequence(tmp_path / 'long', count=14)}",
        f"--output={tmp_path / 'o.png'}",
    )
    assert "would show 14 frames; choose up to 12" in many.output
