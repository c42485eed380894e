"""scripts/invert.py end to end, and its latents in the commands that draw seeds."""

import json
import shutil
import sys
import zipfile

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers.small_network import small_network
from helpers.small_reconstructor import small_reconstructor
from PIL import Image

from gghead import checkpoints, latent
from gghead import latent as latent_files
from gghead.cameras import Cameras
from gghead.cli import gen_samples, gen_video, invert
from gghead.data.dataset_zip import DatasetWriter
from gghead.data.photos.landmarks import landmark_model
from gghead.data.photos.pose import project
from gghead.data.zip_writer import encode_png
from gghead.gaussians import Gaussians
from gghead.inversion import Inversion, Latent, load, open_targets
from gghead.inversion import stages as stages_module
from gghead.inversion.objective import draw
from gghead.inversion.own_heads import OwnHeads
from gghead.inversion.stages import OPTIMIZED
from gghead.sampling import generate_frames
from gghead.torch_utils.errors import UserError

FEW = ("--steps=3", "--video-format=none")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """network.safetensors; heads.zip of three labeled images with masks; the same as a folder;
    photo.png with alpha and beside.png without, which dataset.json labels."""
    home = tmp_path_factory.mktemp("invert")
    model = small_network()
    checkpoints.save(model, home / "network.safetensors")
    (home / "photos").mkdir()
    labels = []
    with DatasetWriter(home / "heads.zip") as writer:
        for seed in range(3):
            camera = Cameras.orbit(torch.tensor([0.2 * seed - 0.2]))
            with torch.no_grad():
                ws = model.mapping(model.seed_to_z(seed))
                out = draw(model, model.gaussians(ws), ws, camera)
            rgb, mask = (
                (plane[0, 0].clamp(0, 1) * 255).round().byte().movedim(0, -1).numpy()
                for plane in (out.color, out.alpha)
            )
            label = camera.label()[0].tolist()
            writer.add(f"00000/img{seed}.png", encode_png(rgb), label, encode_png(mask[..., 0]))
            Image.fromarray(np.concatenate([rgb, mask], -1)).save(
                home / "photos" / f"img{seed}.png"
            )
            labels.append([f"img{seed}.png", label])
    (home / "photos" / "dataset.json").write_text(json.dumps({"labels": labels}))
    return home


def call(home, target, outdir, *options, fails=False, command=invert.main):
    arguments = [f"--network={home / 'network.safetensors'}", f"--outdir={outdir}"]
    arguments += [f"--target={target}"] if target is not None else []
    result = CliRunner().invoke(command, [*arguments, *map(str, options)])
    assert (result.exit_code != 0) == fails, result.output
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


def test_a_zip_is_inverted_and_everything_is_written(home, tmp_path):
    out = tmp_path / "out"
    output = call(home, home / "heads.zip", out, "--method=pti", "--steps=3", "--batch=2")
    assert (
        "3 images" in output
        and "2 images" in output
        and "stage targets PSNR in mask SSIM" in output
    )
    names = {"metrics.json", "target.png", "row.png", "strip.png", "optimization.webp"}
    names |= {f"{stage}.png" for stage in OPTIMIZED}
    names |= {f"latent-{stage}.safetensors" for stage in OPTIMIZED}
    for seed in range(3):
        folder = out / f"00000_img{seed}"
        assert {path.name for path in folder.iterdir()} == names
        metrics = json.loads((folder / "metrics.json").read_text())
        assert list(metrics["stages"]) == list(OPTIMIZED) and metrics["masked"]
        assert 0 <= metrics["camera"]["turned_degrees"] <= 8
        with Image.open(folder / "pti.png") as image:
            assert image.size == (24, 24)
        with Image.open(folder / "strip.png") as image:
            assert image.width > 6 * 128 and image.height > 4 * 128
        with Image.open(folder / "optimization.webp") as image:
            assert 4 < image.n_frames <= 16 and image.size == (256, 128)  # equal frames are merged
    table = json.loads((out / "metrics.json").read_text())
    assert table["mean"]["pti"]["targets"] == 3
    shown = [entry["stages"]["w"]["psnr"] for entry in table["targets"].values()]
    assert table["mean"]["w"]["psnr"] == pytest.approx(np.mean(shown), abs=1e-3)
    with Image.open(out / "contact.png") as image:
        assert image.width > 7 * 128 and image.height > 3 * 128
    latent = load(out / "00000_img1" / "latent-pti.safetensors")
    assert latent.info["config"]["method"] == "pti"
    assert latent.info["metrics"].items() <= metrics_of(out, 1)["pti"].items()
    assert latent.residual is not None and latent.delta


def metrics_of(out, seed):
    return json.loads((out / f"00000_img{seed}" / "metrics.json").read_text())["stages"]


def test_repeating_skips_what_is_done_and_mends_what_is_not(home, tmp_path, monkeypatch):
    out = tmp_path / "out"
    call(home, home / "heads.zip", out, "--method=w", *FEW, "--batch=1")
    first = {
        seed: (out / f"00000_img{seed}" / "latent-w.safetensors").read_bytes() for seed in range(3)
    }
    (out / "00000_img1" / "metrics.json").unlink()  # as if it had been interrupted
    batches = []
    usual = Inversion.run
    monkeypatch.setattr(
        Inversion, "run", lambda self: batches.append([t.name for t in self.targets]) or usual(self)
    )
    assert "2 of 3 are done already" in call(
        home, home / "heads.zip", out, "--method=w", *FEW, "--batch=1"
    )
    assert batches == [["00000_img1"]]
    assert {
        seed: (out / f"00000_img{seed}" / "latent-w.safetensors").read_bytes() for seed in range(3)
    } == first
    call(home, home / "heads.zip", out, "--method=w", *FEW)
    assert len(batches) == 1
    kept = "00000_img0 and 2 more holds the inversion of another image, network or options"
    assert kept in call(home, home / "heads.zip", out, "--method=w", *FEW, "--seed=1", fails=True)
    assert {
        seed: (out / f"00000_img{seed}" / "latent-w.safetensors").read_bytes() for seed in range(3)
    } == first
    call(home, home / "heads.zip", out, "--method=w", *FEW, "--seed=1", "--overwrite")
    assert len(batches) == 2 and len(batches[1]) == 3, "other options are another inversion"
    call(home, home / "heads.zip", out, "--method=w+", *FEW, "--overwrite")
    call(home, home / "heads.zip", out, "--method=w", *FEW, "--overwrite")
    assert {path.stem for path in latent_files.find(str(out))} == {"latent-w"}, (
        "no stage of another one stays"
    )


def test_single_images_and_where_their_cameras_come_from(home, tmp_path):
    photo = home / "photos" / "img2.png"
    call(home, photo, tmp_path / "label", "--method=w", *FEW)
    start = json.loads((tmp_path / "label" / "img2" / "metrics.json").read_text())["camera"][
        "start"
    ]
    label = Cameras.orbit(torch.tensor([0.2])).label()[0].tolist()
    assert start == pytest.approx(label, abs=1e-6), "dataset.json beside it"
    (tmp_path / "camera.txt").write_text(", ".join(map(str, label)))
    (tmp_path / "alone").mkdir()
    shutil.copy(photo, tmp_path / "alone" / "me.png")
    frontal = Cameras.orbit(0.0).label()[0].tolist()
    for camera, wanted in (("frontal", frontal), (tmp_path / "camera.txt", label)):
        reader = open_targets(tmp_path / "alone" / "me.png", 24, str(camera))
        assert reader.read(0).label.tolist() == pytest.approx(wanted, abs=1e-6)
    keyed = home / "photos" / "dataset.json"
    assert open_targets(photo, 24, str(keyed)).read(0).label.tolist() == pytest.approx(
        label, abs=1e-6
    )


def test_seeds_of_the_network_are_targets(home, tmp_path):
    model = checkpoints.load(home / "network.safetensors")
    own = OwnHeads(model, [3, 5])
    target, (head, _) = own.read(1), own.head(1)
    shown = model.render(head, own.camera(1), 24).color[0, 0]
    alpha = target.mask / 255
    assert float((target.rgb / 255 * alpha + 1 - alpha - shown.clamp(0, 1)).abs().max()) < 2.5 / 255
    assert torch.equal(OwnHeads(model, [5]).read(0).rgb, target.rgb)
    output = call(home, "seeds:3,5", tmp_path, "--method=w", *FEW)
    assert (
        "PSNR in mask aside SSIM" in output
        and (tmp_path / "seed0005" / "latent-w.safetensors").is_file()
    )
    _, ws = own.head(1)
    assert own.judge(target, Latent(ws, camera=own.camera(1).label())) == {"psnr_aside": 100.0}
    assert (
        own.judge(target, Latent(own.head(0)[1], camera=own.camera(1).label()))["psnr_aside"] < 40
    )


def test_a_network_with_an_encoder(home, tmp_path):
    model = small_reconstructor()
    model.generator.mapping.w_avg += 0.01
    checkpoints.save(model, tmp_path / "with.safetensors")
    arguments = [
        f"--network={tmp_path / 'with.safetensors'}",
        f"--target={home / 'heads.zip'}",
        "--steps=2",
    ]
    for method, options, stages in (
        ("encoder", [], ["encoder"]),
        ("z", [], ["encoder", "z"]),
        ("w", ["--encoder=0"], ["w"]),
    ):
        out = tmp_path / f"out-{method}"
        result = CliRunner().invoke(
            invert.main, [*arguments, f"--method={method}", f"--outdir={out}", *options]
        )
        assert result.exit_code == 0, result.output
        assert (
            list(json.loads((out / "00000_img0" / "metrics.json").read_text())["stages"]) == stages
        )
    output = call(home, home / "heads.zip", tmp_path / "no", "--method=encoder", fails=True)
    assert "needs a network with an encoder" in output


def test_a_photo_goes_in_directly(home, tmp_path):
    """With landmarks from a file, because mediapipe is optional: the face is found, cropped, its
    camera estimated."""
    model = landmark_model("ibug68")
    camera = Cameras.orbit(torch.tensor([0.3]), 0.1)
    points = np.tile([50.0, 55.0], (68, 1))
    points[model.index] += 60 * project(camera.cam2world[0, :3, :3].double().numpy(), model.mean)
    noise = np.random.default_rng(0).integers(0, 256, (110, 100, 3), dtype=np.uint8)
    for name in ("me.jpg", "nobody.jpg"):
        Image.fromarray(noise).save(tmp_path / name)
    (tmp_path / "points.json").write_text(
        json.dumps({"scheme": "ibug68", "files": {"me.jpg": points.tolist()}})
    )
    auto = [
        "--camera=auto",
        "--method=w",
        f"--landmarker={tmp_path / 'points.json'}",
        "--masks=none",
        *FEW,
    ]
    call(home, tmp_path / "me.jpg", tmp_path / "out", *auto)
    start = json.loads((tmp_path / "out" / "me" / "metrics.json").read_text())["camera"]["start"]
    yaw, pitch, _ = Cameras.from_label(torch.tensor(start)).angles()
    assert float(yaw) == pytest.approx(0.3, abs=0.03) and float(pitch) == pytest.approx(
        0.1, abs=0.03
    )
    output = call(home, tmp_path / "nobody.jpg", tmp_path / "out", *auto, fails=True)
    assert "nobody.jpg cannot be used with --camera=auto: no face" in output


def test_without_mediapipe_auto_says_what_to_install(home, tmp_path, monkeypatch):
    """Once, also for a folder of images; --camera=auto is the default where there are no
    labels."""
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    output = call(home, home / "photos", tmp_path, "--camera=auto", fails=True)
    assert (
        output.count("finding the face needs mediapipe, which is not installed: run `make prep`")
        == 1
    )
    shutil.copy(home / "photos" / "img0.png", tmp_path / "alone.png")
    assert output.split("Error:")[1].replace(str(home / "photos"), "X") == call(
        home, tmp_path / "alone.png", tmp_path, fails=True
    ).split("Error:")[1].replace(str(tmp_path / "alone.png"), "X")
    (tmp_path / "points.json").write_text("{}")
    with_points = ["--camera=auto", f"--landmarker={tmp_path / 'points.json'}"]
    assert "finding the mask needs mediapipe" in call(
        home, home / "photos", tmp_path, *with_points, fails=True
    )


def test_masks_come_from_alpha_files_or_nowhere(home, tmp_path):
    photos = home / "photos"
    alpha = np.asarray(Image.open(photos / "img0.png"))[..., 3]
    assert np.array_equal(open_targets(photos, 24).read(0).mask[0], alpha)
    assert open_targets(photos, 24, masks="none").read(0).mask is None
    (tmp_path / "masks").mkdir()
    for seed in range(3):
        Image.fromarray(np.full((24, 24), 10 * seed + 100, np.uint8)).save(
            tmp_path / "masks" / f"img{seed}.png"
        )
    read = [
        target.mask.unique().tolist()
        for target in open_targets(photos, 24, masks=str(tmp_path / "masks"))
    ]
    assert read == [[100], [110], [120]]
    one = open_targets(photos / "img1.png", 24, masks=str(tmp_path / "masks" / "img0.png"))
    assert one.read(0).mask.unique().tolist() == [100]
    assert open_targets(photos, 12, max_images=2).read(1).rgb.shape == (3, 12, 12)
    output = call(home, photos / "img0.png", tmp_path / "out", "--method=w", *FEW, "--masks=none")
    assert "img0 has no mask: the whole image is matched" in output


@pytest.mark.parametrize("masks", ["none", None])
def test_masks_that_lie_among_the_images_are_no_images(home, tmp_path, masks):
    """However dataset.json lists them, and also where they are not wanted."""
    reader = open_targets(home / "heads.zip", 24, masks=masks)
    assert reader.names == [f"00000/img{seed}.png" for seed in range(3)]
    assert (reader.read(0).mask is None) == (masks == "none")
    with (
        zipfile.ZipFile(home / "heads.zip") as heads,
        zipfile.ZipFile(tmp_path / "frames.zip", "w") as other,
    ):
        info = json.loads(heads.read("dataset.json"))
        info["frames"] = [{"file": name, "mask": mask} for name, mask in info.pop("masks").items()]
        for name in heads.namelist():
            other.writestr(name, json.dumps(info) if name == "dataset.json" else heads.read(name))
    again = open_targets(tmp_path / "frames.zip", 24, masks=masks)
    assert again.names == reader.names and (again.read(0).mask is None) == (masks == "none")


def test_latents_are_drawn_and_filmed_as_seeds_are(home, tmp_path):
    out, drawn = tmp_path / "out", tmp_path / "drawn"
    call(home, home / "photos", out, "--method=pti", *FEW, "--subset=2")
    first, second = sorted(path.name for path in out.iterdir() if path.is_dir())
    output = call(
        home,
        None,
        drawn,
        f"--latents={out}",
        "--seeds=4",
        "--yaw=0",
        "--shapes=1",
        "--size=24",
        command=gen_samples.main,
    )
    assert f"1 seed and the latents of {out}" in output
    names = {
        f"{name}.{kind}"
        for name in (f"{first}-pti", f"{second}-pti", "seed0004")
        for kind in ("png", "ply")
    }
    names.add("grid.png")
    assert {path.name for path in drawn.iterdir()} == names
    model = checkpoints.load(home / "network.safetensors")
    head = latent.load(out / first / "latent-pti.safetensors", model).gaussians(model)
    expected = model.render(head, Cameras.orbit(0.0), 24).color[0, 0].movedim(0, -1) * 255
    assert (
        np.abs(np.asarray(Image.open(drawn / f"{first}-pti.png")) - expected.detach().numpy()).max()
        < 0.51
    )
    assert torch.allclose(
        Gaussians.load_ply(drawn / f"{first}-pti.ply").means, head.means[0], atol=1e-6
    )
    call(
        home,
        None,
        drawn,
        f"--latents={out / first / 'latent-w.safetensors'},{out / second}",
        "--yaw=0",
        "--size=24",
        "--overwrite",
        command=gen_samples.main,
    )
    assert (drawn / f"{first}-w.png").is_file()

    twice = f"--latents={out / first},{out / first}"
    assert "Two latents would both be" in call(
        home, None, drawn, twice, fails=True, command=gen_samples.main
    )

    film = tmp_path / "film.webp"
    arguments = [
        f"--network={home / 'network.safetensors'}",
        f"--latents={out}",
        "--seeds=1-2",
        f"--output={film}",
        "--frames=4",
        "--size=16",
        "--camera=sweep",
    ]
    result = CliRunner().invoke(gen_video.main, [*arguments, "--grid=2x1"])
    assert result.exit_code == 0, result.output
    with Image.open(film) as image:
        assert image.size == (32, 16) and image.n_frames == 4
    latents = [latent_files.load(path, model) for path in latent_files.find(str(out))]
    cameras = Cameras.orbit(torch.zeros(4))
    frames = list(generate_frames(model, [], cameras, latents=latents))
    for frame, name in ((0, first), (2, second)):
        head = latent.load(out / name / "latent-pti.safetensors", model).gaussians(model)
        expected = model.render(head, Cameras.orbit(0.0), 24).color[0, 0].movedim(0, -1) * 255
        assert np.abs(frames[frame] - expected.detach().numpy()).max() < 1.5, (
            "the keys are met, weights and all"
        )


def test_a_folder_with_broken_images_finishes_the_others(home, tmp_path):
    photos = tmp_path / "photos"
    shutil.copytree(home / "photos", photos)
    Image.fromarray(np.zeros((24, 24, 4), np.uint8)).save(photos / "img1.png")
    (photos / "img2.png").write_bytes((photos / "img2.png").read_bytes()[:100])
    output = call(home, photos, tmp_path / "out", "--method=w", *FEW, fails=True)
    assert (
        "2 of 3 images failed" in output and "mask of img1.png" in output and "is empty" in output
    )
    assert "img2.png" in output and (tmp_path / "out" / "img0" / "latent-w.safetensors").is_file()
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["mean"]["w"]["targets"] == 1


def test_a_zip_with_a_damaged_member_and_a_missing_mask_finishes_the_others(home, tmp_path):
    """Both are met before any image is decoded, when it is found out which are done already."""
    with (
        zipfile.ZipFile(home / "heads.zip") as heads,
        zipfile.ZipFile(tmp_path / "bad.zip", "w") as bad,
    ):
        for name in heads.namelist():
            if name != "masks/00000/img1.png.mask":
                bad.writestr(name, heads.read(name))
        at = bad.getinfo("00000/img2.png").header_offset + 100
    data = bytearray((tmp_path / "bad.zip").read_bytes())
    data[at] ^= 0xFF
    (tmp_path / "bad.zip").write_bytes(data)
    output = call(home, tmp_path / "bad.zip", tmp_path / "out", "--method=w", *FEW, fails=True)
    assert "2 of 3 images failed" in output and "checksum differs" in output
    assert "The mask masks/00000/img1.png.mask in" in output and "is missing" in output
    assert (tmp_path / "out" / "00000_img0" / "latent-w.safetensors").is_file()


def test_a_loss_that_is_no_number_saves_the_last_good_state(home, tmp_path, monkeypatch):
    usual = stages_module.Objective.__call__
    monkeypatch.setattr(
        stages_module.Objective, "__call__", lambda *args: usual(*args) * float("nan")
    )
    output = call(home, home / "photos" / "img0.png", tmp_path, "--method=w", *FEW, fails=True)
    assert (
        "img0: the loss was no longer finite at step 0 of stage w; its last good state is saved"
        in output
    )
    assert torch.isfinite(load(tmp_path / "img0" / "latent-w.safetensors").ws).all()
    monkeypatch.undo()
    assert "done already" not in call(
        home, home / "photos" / "img0.png", tmp_path, "--method=w", *FEW
    )


def edit_photo(home, folder, change):
    folder.mkdir()
    image = change(np.asarray(Image.open(home / "photos" / "img0.png")))
    Image.fromarray(image).save(folder / "img0.png")
    return folder / "img0.png"


def test_broken_input_is_a_sentence(home, tmp_path):
    photos, out = home / "photos", tmp_path / "out"
    wide = edit_photo(home, tmp_path / "wide", lambda image: image[:12])
    empty = edit_photo(home, tmp_path / "empty", lambda image: image * np.uint8([1, 1, 1, 0]))
    plain = edit_photo(home, tmp_path / "plain", lambda image: image[..., :3])
    small = tmp_path / "small.png"
    Image.fromarray(np.full((12, 12), 255, np.uint8)).save(small)
    (tmp_path / "partial").mkdir()
    shutil.copytree(photos, tmp_path / "partial", dirs_exist_ok=True)
    shutil.copy(photos / "img0.png", tmp_path / "partial" / "stranger.png")
    (tmp_path / "nothing").mkdir()
    (tmp_path / "three.txt").write_text("1 2 3")
    cases = [
        (tmp_path / "no.png", [], "does not exist"),
        (tmp_path / "nothing", [], "holds no images"),
        (wide, ["--camera=frontal"], "24x12, but images to invert must be square"),
        (plain, ["--camera=label"], "has no camera labels (no dataset.json there)"),
        (tmp_path / "partial", [], "stranger.png in"),
        (empty, ["--camera=frontal"], "is empty (all zero)"),
        (photos / "img0.png", [f"--masks={small}"], "is 12x12, but img0.png is 24x24"),
        (photos / "img0.png", ["--masks=nowhere"], "--masks=nowhere does not exist"),
        (photos, [f"--masks={small}"], "is one file, but there are 3 images"),
        (photos, [f"--masks={tmp_path / 'wide'}"], "has no mask for img1.png"),
        (
            photos / "img0.png",
            [f"--camera={tmp_path / 'three.txt'}"],
            "holds 3 numbers, but a camera label has 25",
        ),
        (photos / "img0.png", ["--camera=sideways"], "neither label, auto, frontal nor a file"),
        ("seeds:4-1", [], "runs backwards"),
        (
            "seeds:4",
            ["--subset=1"],
            "--subset says how images are read, but --target=seeds:4 draws them",
        ),
        ("seeds:4", ["--camera=frontal"], "--camera says how images are read"),
        (photos / "img0.png", ["--method=encoder"], "needs a network with an encoder"),
        (photos / "img0.png", ["--steps=1,2"], "--steps=1,2 must be one positive number or four"),
    ]
    for target, options, sentence in cases:
        assert sentence in call(home, target, out, *options, fails=True), (target, options)
    assert not out.exists(), "nothing was begun"


def test_latents_that_do_not_fit_are_sentences(home, tmp_path):
    out = tmp_path / "out"
    call(home, home / "photos" / "img0.png", out, "--method=w", *FEW)
    checkpoints.save(small_network(cmax=4), tmp_path / "other.safetensors")
    for command, extra in (
        (gen_samples.main, f"--outdir={tmp_path}"),
        (gen_video.main, f"--output={tmp_path}/x.webp"),
    ):
        result = CliRunner().invoke(
            command, [f"--network={tmp_path / 'other.safetensors'}", f"--latents={out}", extra]
        )
        assert result.exit_code == 1 and "another architecture" in " ".join(result.output.split())
    for latents, sentence in (
        ("nowhere", "--latents=nowhere does not exist"),
        (home, "holds no latent-"),
    ):
        assert sentence in call(
            home, None, out, f"--latents={latents}", fails=True, command=gen_samples.main
        )
    with pytest.raises(UserError, match="another architecture"):
        latent.load(
            out / "img0" / "latent-w.safetensors", checkpoints.load(tmp_path / "other.safetensors")
        )
