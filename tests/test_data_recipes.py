"""datasets/labelled_photos.py: photos, masks and labels to a zip."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import click.testing
import numpy as np
import pytest
from PIL import Image

from gghead.cameras import Cameras
from gghead.data.image_dataset import ImageDataset

FOLDER = Path(__file__).resolve().parents[1] / "datasets"


@pytest.fixture
def photos(tmp_path):
    """Two photos of a red square before a blue wall, with masks and labels."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    labels = []
    for index in range(2):
        rgb = np.full((32, 32, 3), (0, 0, 255), np.uint8)
        alpha = np.zeros((32, 32), np.uint8)
        rgb[6:27, 5:26], alpha[6:27, 5:26] = (200, 30, 30), 255
        Image.fromarray(rgb).save(tmp_path / "images" / f"{index}.png")
        Image.fromarray(alpha).save(tmp_path / "masks" / f"{index}.png")
        labels.append([f"images/{index}.png", Cameras.orbit(0.2 * index).label()[0].tolist()])
    (tmp_path / "labels.json").write_text(json.dumps({"labels": labels}))
    return tmp_path


def convert(folder, *more):
    spec = importlib.util.spec_from_file_location("labelled_photos_recipe", FOLDER / "labelled_photos.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    paths = [f"--images={folder / 'images'}", f"--masks={folder / 'masks'}", f"--labels={folder / 'labels.json'}"]
    return click.testing.CliRunner().invoke(module.main, [*paths, f"--dest={folder / 'out.zip'}", *more])


def test_photos_become_a_data_set_without_the_wall(photos):
    result = convert(photos, "--resolution=8")
    assert result.exit_code == 0, result.output
    dataset = ImageDataset(photos / "out.zip")
    assert len(dataset) == 2 and dataset.resolution == 8 and dataset.has_masks
    np.testing.assert_allclose(dataset.labels[1], Cameras.orbit(0.2).label()[0], atol=1e-6)
    rgb, alpha, _ = dataset.get(0)
    partial = (alpha[0] > 8) & (alpha[0] < 255)
    assert partial.any()
    assert np.abs(rgb[:, partial].numpy().astype(int).T - (200, 30, 30)).max() <= 3


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda folder: (folder / "masks" / "1.png").unlink(), "1.png has no mask"),
        (lambda folder: (folder / "images" / "0.png").unlink(), "there is no"),
        (lambda folder: (folder / "labels.json").unlink(), "does not exist"),
        (lambda folder: Image.new("L", (32, 32)).save(folder / "masks" / "1.png"), "empty"),
        (lambda folder: Image.new("L", (16, 16), 9).save(folder / "masks" / "1.png"), "16x16"),
        (lambda folder: Image.new("RGB", (32, 16)).save(folder / "images" / "1.png"), "must be square"),
        (lambda folder: (folder / "images" / "1.png").write_bytes(b"no"), "not a readable image"),
    ],
)
def test_faults_are_one_sentence_and_leave_nothing_behind(photos, damage, sentence):
    damage(photos)
    result = convert(photos)
    assert result.exit_code == 1 and sentence in result.output and result.output.count("\n") == 1
    assert not list(photos.glob("*.zip")) and not list(photos.glob(".*tmp"))


@pytest.mark.parametrize("recipe", ["labelled_photos.py", "synthetic_heads.py"])
def test_recipes_start_from_anywhere_without_an_installation(recipe, tmp_path):
    command = [sys.executable, str(FOLDER / recipe), "--help"]
    result = subprocess.run(command, cwd=tmp_path, env={"PATH": ""}, capture_output=True, text=True)
    assert result.returncode == 0 and "--dest" in result.stdout, result.stderr
