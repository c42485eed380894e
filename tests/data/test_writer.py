"""Zips that are written: readable by other people's loaders, with everything that ours need."""

import json
import zipfile

import numpy as np
import pytest
from click.testing import CliRunner
from helpers.capture_zip import write_captures
from helpers.foreign_sequences import vhap
from helpers.other_loader import load
from PIL import Image

from gghead.cameras import Cameras
from gghead.cli.dataset_tool import main as dataset_tool
from gghead.data import formats
from gghead.data.dataset import ImageDataset
from gghead.data.dataset_zip import DatasetWriter, image_name, mask_name
from gghead.data.image_files import ImageFiles
from gghead.data.zip_writer import encode_png
from gghead.inversion.targets import open_targets


def image(seed, size=8):
    return np.random.RandomState(seed).randint(0, 256, (size, size, 3), dtype=np.uint8)


def mask(seed, size=8):
    return np.random.RandomState(100 + seed).randint(1, 256, (size, size), dtype=np.uint8)


def label(index=0):
    return Cameras.orbit(0.05 * index, 0.1).label()[0].double().numpy()


def invoke(main, *arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output


def by_hand(folder):
    with DatasetWriter(folder / "set.zip") as writer:
        for i in range(4):
            writer.add(image_name(i), image(i), label(i), mask(i))
    return [folder / "set.zip"]


def synthetic_heads(folder):
    invoke(
        dataset_tool,
        "synthetic",
        f"--dest={folder / 'set.zip'}",
        "--num=2",
        "--resolution=16",
        "--uv=1",
        "--depth=1",
        "--workers=1",
    )
    return [folder / "set.zip"]


def photos(folder):
    source = folder / "photos"
    (folder / "mattes").mkdir()
    source.mkdir()
    for name in ("a", "b"):
        Image.fromarray(image(1, 32)).save(source / f"{name}.jpg")
        Image.fromarray(mask(1, 32)).save(folder / "mattes" / f"{name}.png")
    (folder / "cameras.json").write_text(
        json.dumps({"labels": [[f"{name}.jpg", label().tolist()] for name in "ab"]})
    )
    options = [
        f"--cameras={folder / 'cameras.json'}",
        f"--masks={folder / 'mattes'}",
        "--mirror=1",
        "--workers=0",
    ]
    invoke(
        dataset_tool,
        "photos",
        f"--source={source}",
        f"--dest={folder / 'set.zip'}",
        "--resolution=16x16",
        *options,
    )
    return [folder / "set.zip"]


def converted_captures(folder):
    # masks/*.png, as older zips have them
    source = write_captures(folder / "old.zip", subjects=1, views=2)
    invoke(dataset_tool, "convert", f"--source={source}", f"--dest={folder / 'set.zip'}")
    return [folder / "set.zip"]


def converted_sequence(folder):
    (folder / "sequence").mkdir()
    vhap(folder / "sequence")
    invoke(
        dataset_tool,
        "convert",
        f"--source={folder / 'sequence'}",
        f"--dest={folder / 'set.zip'}",
        "--resolution=16x16",
    )
    return [folder / "set.zip"]


def shards(folder):
    source = write_captures(folder / "old.zip", subjects=1, views=2)
    invoke(
        dataset_tool,
        "shard",
        f"--source={source}",
        f"--dest={folder / 'shards'}",
        "--images-per-shard=3",
    )
    return sorted((folder / "shards").glob("*.zip"))


@pytest.mark.parametrize(
    "write",
    [by_hand, synthetic_heads, photos, converted_captures, converted_sequence, shards],
    ids=lambda write: write.__name__,
)
def test_loaders_of_stylegans_kind_read_what_every_writer_writes(tmp_path, write):
    for path in write(tmp_path):
        names, images, labels = load(path)
        ours = ImageDataset(path)
        assert ours.has_masks and [ours.name(i) for i in range(len(ours))] == names
        assert np.array_equal(labels, ours.labels.numpy())
        files = ImageFiles(path)
        assert all(np.array_equal(image, files.rgb(i)) for i, image in enumerate(images))
        result = CliRunner().invoke(dataset_tool, ["check", str(path), "--fast=1"])
        assert f"{len(names)} images, {len(names)} masks" in result.output, result.output
        assert not any(
            word in result.output
            for word in ("nothing refers", "without a camera", "without a mask")
        )
        targets = open_targets(path, 16)
        assert targets.names == names and targets.read(0).mask is not None
        frames = formats.read(path)
        assert len(frames) == len(names) and frames.has_masks


def test_the_rule_refuses_older_zips(tmp_path):
    with pytest.raises(KeyError, match="masks/"):
        load(write_captures(tmp_path / "old.zip", subjects=1, views=2))
    assert ImageDataset(tmp_path / "old.zip").has_masks  # which are still read here


def test_masks_of_images_that_differ_in_their_ending_alone_stay_apart(tmp_path):
    with DatasetWriter(tmp_path / "a.zip") as writer:
        for i, name in enumerate(("x.png", "x.webp")):
            writer.add(name, encode_png(image(i)), label(i), mask(i))
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert {mask_name("x.png"), mask_name("x.webp")} < set(archive.namelist())
    files = ImageFiles(tmp_path / "a.zip")
    assert all(np.array_equal(files.mask(i), mask(i)) for i in range(2))
