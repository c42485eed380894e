"""scripts/reconstruct.py end to end, and every kind of broken input in one sentence."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers.capture_zip import write_captures
from helpers.small_network import small_network
from helpers.small_reconstructor import small_reconstructor
from PIL import Image
from safetensors.torch import save_file

import gghead
from gghead import checkpoints
from gghead import latent as latents
from gghead.cameras import Cameras
from gghead.cli.reconstruct import main
from gghead.models.avatar import Avatar
from gghead.models.avatar_config import AvatarConfig
from gghead.reconstruction.inputs import InputViews, read_inputs
from gghead.reconstruction.report import turn_for


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_captures(tmp_path_factory.mktemp("captures") / "balls.zip", subjects=2)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "reconstructor-000001.safetensors"
    checkpoints.save(small_reconstructor(), path)
    return path


def reconstruct(*options):
    return CliRunner().invoke(main, [str(option) for option in options])


def sentence(*options):
    result = reconstruct(*options)
    assert result.exit_code == 1 and "Traceback" not in result.output, result.output
    return " ".join(result.output.split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory, data, network):
    """What one full run leaves behind."""
    outdir = tmp_path_factory.mktemp("out")
    result = reconstruct(
        f"--network={network}",
        f"--data={data}",
        "--subject=1",
        "--expression=1",
        "--views=04,0",
        "--check=0",
        "--npz=1",
        "--frames=3",
        f"--outdir={outdir}",
    )
    assert result.exit_code == 0, result.output
    assert "2 views, 144 Gaussians" in result.output and "Files are in" in result.output
    return outdir


def test_all_files_are_written_and_agree(folder, data, network):
    assert {path.name for path in folder.iterdir()} == {
        "latent.safetensors",
        "latent.npz",
        "head.ply",
        "views.png",
        "novel.png",
        "sweep.webp",
        "report.json",
    }
    model = gghead.load(network, kind="reconstructor")
    latent = latents.load(folder / "latent.safetensors", model.generator)
    given = read_inputs(data, 24, subject="001", expression="1", views=["04", "00"])
    wanted = model.encode(given.rgb[None], given.cameras.reshape(1, 2))
    torch.testing.assert_close(latent.ws, wanted.ws)
    torch.testing.assert_close(latent.residual, wanted.residual, atol=2e-3, rtol=2e-3)
    with np.load(folder / "latent.npz") as arrays:
        assert set(arrays.files) == {"ws", "residual", "camera"} and arrays["ws"].shape == tuple(
            latent.ws.shape[1:]
        )
    # both are 1 radian aside: the first
    torch.testing.assert_close(latent.camera[0], given.cameras.label()[0])
    report = json.loads((folder / "report.json").read_text())
    assert list(report["views"]) == ["04", "00"] and report["gaussians"] == 144 and report["masked"]
    assert set(report["seconds"]) == {"read", "encode", "decode"}
    ply = gghead.Gaussians.load_ply(folder / "head.ply")
    torch.testing.assert_close(
        ply.means, wanted.gaussians(model.generator).means[0], atol=1e-3, rtol=1e-3
    )
    with Image.open(folder / "sweep.webp") as film:
        assert film.n_frames == 3


def test_latent_serves_the_generator_inside(folder, network):
    generator = gghead.load(network, kind="generator")
    found = latents.find(str(folder))
    assert found == [folder / "latent.safetensors"]
    assert latents.load(found[0], generator).gaussians(generator).num == 144


def test_refining_lowers_the_error_and_starts_from_a_latent_too(tmp_path, folder, data, network):
    means = []
    for steps, start in ((0, []), (25, []), (25, [f"--latent={folder / 'latent.safetensors'}"])):
        result = reconstruct(
            f"--network={network}",
            f"--data={data}",
            "--subject=1",
            "--expression=1",
            "--views=04,00",
            "--check=0",
            "--frames=0",
            f"--refine={steps}",
            f"--outdir={tmp_path}",
            "--overwrite",
            *start,
        )
        assert result.exit_code == 0, result.output
        report = json.loads((tmp_path / "report.json").read_text())
        means.append(report["mean"]["psnr"])
    assert means[1] > means[0] + 0.3 and means[2] > means[0] + 0.3, means
    assert not list(tmp_path.glob("*.webp"))
    assert latents.load(tmp_path / "latent.safetensors").info["stage"] == "refined"


def test_folder_of_images_with_labels_and_a_count(tmp_path, data, network):
    given = read_inputs(data, 24, subject="0")
    names = [f"{name}.png" for name in given.names]
    (tmp_path / "in").mkdir()
    for name, image in zip(names, given.rgb, strict=True):
        Image.fromarray((image * 255).byte().permute(1, 2, 0).numpy()).save(tmp_path / "in" / name)
    labels = [
        [name, label.tolist()] for name, label in zip(names, given.cameras.label(), strict=True)
    ]
    (tmp_path / "in/dataset.json").write_text(json.dumps({"labels": labels}))
    common = [
        f"--network={network}",
        f"--data={tmp_path / 'in'}",
        "--frames=0",
        f"--outdir={tmp_path / 'out'}",
        "--overwrite",
    ]
    result = reconstruct(*common, "--max-views=3")
    assert result.exit_code == 0, result.output
    assert "have no masks" in result.output and "3 views" in result.output
    assert list(json.loads((tmp_path / "out/report.json").read_text())["views"]) == [
        "00",
        "02",
        "04",
    ]
    single = reconstruct(*common[:1], f"--data={tmp_path / 'in' / names[2]}", *common[2:])
    assert single.exit_code == 0 and "1 view," in single.output, single.output
    refused = sentence(*common, f"--masks={tmp_path / 'in'}")
    assert "is for photos, but" in refused and "give --camera=FILE" in refused
    as_photos = [*common, f"--camera={tmp_path / 'in/dataset.json'}"]
    assert "--subject=0 is for captures" in sentence(*as_photos, "--subject=0")
    (tmp_path / "in/new.png").write_bytes((tmp_path / "in" / names[0]).read_bytes())
    assert "new.png" in sentence(*common) and "has no camera" in sentence(*common)
    labels[0][1][3] = float("nan")
    (tmp_path / "in/dataset.json").write_text(json.dumps({"labels": labels}))
    assert "00.png" in sentence(*common) and "NaN or infinite numbers" in sentence(*common)
    (tmp_path / "in/dataset.json").unlink()
    assert "has no camera labels" in sentence(*common, "--camera=label")
    assert "finding the face needs mediapipe" in sentence(*common)


def test_views_of_different_people_are_refused(data, network):
    common = [f"--network={network}", f"--data={data}", "--check=0"]
    assert "shows 2 people (000, 001); name one with --subject" in sentence(*common)
    mixed = sentence(*common, "--views=images/000/e0_c00.png,images/001/e0_c01.png")
    assert "views of different people" in mixed and "001" in mixed
    mixed = sentence(*common, "--views=images/000/e0_c00.png,images/000/e1_c01.png")
    assert "views of different expressions" in mixed


def test_views_that_do_not_exist_are_refused(data, network):
    common = [f"--network={network}", f"--data={data}", "--check=0", "--subject=0"]
    assert "names no view" in sentence(*common, "--views=,")
    assert "has no camera '77'" in sentence(*common, "--views=00,77")
    assert "no image or camera 'e0'" in sentence(*common, "--views=e0")
    assert "names a view twice" in sentence(*common, "--views=00,0")
    assert "no subject '9'" in sentence(*common[:3], "--subject=9")
    assert "does not exist" in sentence(common[0], "--data=nowhere")
    assert "cannot give 9 inputs" in sentence(*common, "--max-views=9")


def test_networks_of_another_kind_are_refused(tmp_path, data):
    gan, avatar = tmp_path / "gan.safetensors", tmp_path / "avatar.safetensors"
    checkpoints.save(small_network(), gan)
    checkpoints.save(
        Avatar(AvatarConfig(width=2), torch.zeros(4, 3), spacing=torch.ones(4)), avatar
    )
    for path, what in ((gan, "is a generator of heads"), (avatar, "is an avatar of one person")):
        text = sentence(f"--network={path}", f"--data={data}", "--subject=0")
        assert what in text and "a reconstructor from views is needed" in text
    save_file({"x": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    assert "has format" in sentence(
        f"--network={tmp_path / 'foreign.safetensors'}", f"--data={data}", "--subject=0"
    )


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path, data, network):
    (tmp_path / "file").touch()
    text = sentence(
        f"--network={network}",
        f"--data={data}",
        "--subject=1",
        "--views=00",
        "--check=0",
        f"--outdir={tmp_path / 'file'}",
    )
    assert "cannot be written" in text


def test_latents_of_another_network_are_refused(tmp_path, folder, data):
    other = {"cmax": 4}
    for changes, what in (
        ({"generator": other}, "of another architecture"),
        ({"seed": 1}, "other weights"),
    ):
        path = tmp_path / "other.safetensors"
        checkpoints.save(small_reconstructor(**changes), path)
        assert what in sentence(
            f"--network={path}",
            f"--data={data}",
            "--subject=1",
            "--check=0",
            f"--latent={folder / 'latent.safetensors'}",
            f"--outdir={tmp_path / 'out'}",
        )


def views_at(*degrees):
    yaws = torch.tensor([float(yaw) for yaw in degrees]).deg2rad()
    return InputViews(
        torch.zeros(len(yaws), 3, 8, 8),
        torch.ones(len(yaws), 1, 8, 8),
        Cameras.orbit(yaws),
        tuple(map(str, degrees)),
    )


@pytest.mark.parametrize(
    ("degrees", "turn", "reach"),
    [
        ([0], "sweep", 35),
        ([-50, 0, 50], "sweep", 65),
        ([-110, 0, 110], "sweep", 125),
        ([0, 90, 180, -90], "turntable", 180),
        ([-125, -40, 40, 125], "turntable", 140),
    ],
)
def test_the_film_turns_as_far_as_the_views_saw(degrees, turn, reach):
    name, radians = turn_for(views_at(*degrees))
    assert name == turn and np.degrees(radians) == pytest.approx(reach, abs=0.1)
    assert turn_for(views_at(*degrees), "turntable")[0] == "turntable"
