"""Where a data set is expected and something else is given, the sentence says what it is and what
to do with it."""

import io
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from gghead.cli.dataset_tool import main as dataset_tool
from gghead.data import formats
from gghead.data.dataset import ImageDataset
from gghead.data.files import open_source
from gghead.data.zip_writer import encode_npy, encode_npz, encode_png
from gghead.torch_utils.errors import UserError


def encoded(kind):
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def network():
    from safetensors.torch import save

    return save({"a": torch.zeros(3)})


def state():
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, buffer)
    return buffer.getvalue()


def tar(kind):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=kind) as archive:
        archive.addfile(tarfile.TarInfo("a"))
    return buffer.getvalue()


FILES = {
    "photo.jpg": (lambda: encoded("jpeg"), "an image", "invert.py --target="),
    "photo.dat": (lambda: encoded("webp"), "an image", "photos --source=FOLDER"),
    "photo.tiff": (lambda: encoded("tiff"), "an image", "photos --source=FOLDER"),
    "phone.heic": (
        lambda: b"\0\0\0\x18ftypheic" + bytes(40),
        "an image",
        "photos --source=FOLDER",
    ),
    "clip.mp4": (lambda: b"\0\0\0\x18ftypisom" + bytes(40), "a video", "extract its frames"),
    "clip.webm": (lambda: b"\x1a\x45\xdf\xa3" + bytes(40), "a video", "extract its frames"),
    "head.ply": (
        lambda: b"ply\nformat binary_little_endian 1.0\n",
        "a .ply file of Gaussians",
        "gghead.load",
    ),
    "net.safetensors": (network, "a network", "`network`"),
    "renamed.zip": (network, "a network", "`network`"),
    "training-state-000010.pt": (state, "a saved state", "`resume=RUN`"),
    "set.tar.gz": (lambda: tar("w:gz"), "a packed archive", "unpack it"),
    "set.7z": (lambda: b"7z\xbc\xaf\x27\x1c", "a packed archive", "unpack it"),
    "set.tar": (lambda: tar("w"), "a tar file", "unpack it"),
    "empty.zip": (lambda: b"", "an empty file", "copy or make it again"),
    "points.npy": (lambda: encode_npy(np.zeros(3)), "an array file", "name the images"),
    "points.npz": (lambda: encode_npz(a=np.zeros(3)), "an array file", "name the images"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_kind_is_named_with_its_remedy(tmp_path, name):
    make, kind, remedy = FILES[name]
    path = tmp_path / name
    path.write_bytes(make())
    readers = (
        [open_source, formats.read]
        if name == "set.tar"
        else [open_source, formats.read, ImageDataset]
    )
    for read in readers:
        with pytest.raises(UserError) as caught:
            read(path)
        sentence = str(caught.value)
        assert (
            sentence.startswith(f"{path} is {kind}, but ")
            and remedy in sentence
            and sentence.endswith(".")
        )


def test_the_commands_say_it(tmp_path):
    from gghead.training.cli.score_gan import main as calc_metrics
    from gghead.training.cli.train_gan import main as train

    (tmp_path / "me.jpg").write_bytes(encoded("jpeg"))
    data, runs = f"--data={tmp_path / 'me.jpg'}", f"--outdir={tmp_path / 'runs'}"
    for main, options in (
        (train, ["--cfg=tiny", "--device=cpu", runs]),
        (calc_metrics, ["--network=demo", "--metrics=swd2k"]),
    ):
        result = CliRunner().invoke(main, [data, *options])
        assert result.exit_code == 1 and "me.jpg is an image" in result.output, result.output
    assert not (tmp_path / "runs").exists()
    result = CliRunner().invoke(dataset_tool, ["check", str(tmp_path / "me.jpg")])
    assert result.exit_code == 1 and "me.jpg is an image" in result.output, result.output
    result = CliRunner().invoke(
        dataset_tool, ["photos", f"--source={tmp_path / 'me.jpg'}", f"--dest={tmp_path / 'a.zip'}"]
    )
    assert result.exit_code == 1 and "put photos into a folder" in result.output, result.output


def test_other_files_are_said_to_be_no_zip(tmp_path):
    (tmp_path / "notes").write_bytes(b"hello")
    with pytest.raises(UserError, match="notes is not a zip file or is incomplete"):
        open_source(tmp_path / "notes")


@pytest.mark.parametrize(
    ("count", "words"), [(1, "one image and no dataset.json"), (3, "3 images and no")]
)
@pytest.mark.parametrize("zipped", [False, True])
def test_images_without_cameras_lead_to_photos(tmp_path, count, words, zipped):
    path = tmp_path / "set"
    path.mkdir()
    for index in range(count):
        (path / f"{index}.png").write_bytes(encode_png(np.zeros((8, 8, 3), np.uint8)))
    if zipped:
        path = tmp_path / "set.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for index in range(count):
                archive.write(tmp_path / "set" / f"{index}.png", f"{index}.png")
    for read in (ImageDataset, formats.read):
        with pytest.raises(UserError, match=words) as caught:
            read(path)
        assert f"photos --source={path}" in str(caught.value)
        assert ("invert.py --target=" in str(caught.value)) == (count == 1)


def test_a_folder_around_the_data_names_them(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "heads_masks_modnet.zip").write_bytes(b"")
    with pytest.raises(
        UserError,
        match="holds no images and no dataset.json with camera labels; a zip or a folder",
    ):
        ImageDataset(tmp_path)
    (tmp_path / "photos" / "a.png").write_bytes(encode_png(np.zeros((8, 8, 3), np.uint8)))
    (tmp_path / "heads.zip").write_bytes(b"")
    with pytest.raises(
        UserError, match="one image and no dataset.json .* such as .*heads.zip, itself"
    ):
        ImageDataset(tmp_path)
