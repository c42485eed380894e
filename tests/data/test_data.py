"""Image data sets: reading, resizing, mirroring, masks, and one clear sentence for every broken
input."""

import json
import os
import pickle
import threading
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from gghead.cameras import Cameras
from gghead.data.dataset import ImageDataset, mirror_labels
from gghead.data.dataset_zip import DatasetWriter, image_name
from gghead.data.images import estimate_foreground, resize_straight_alpha
from gghead.data.zip_writer import encode_npy, encode_png
from gghead.torch_utils.errors import UserError


def label(yaw=0.3, pitch=0.1):
    return Cameras.orbit(yaw, pitch).label()[0].double().numpy()


def image(seed, size=8):
    return np.random.RandomState(seed).randint(0, 256, (size, size, 3), dtype=np.uint8)


def soft_mask(seed, size=8):
    return np.random.RandomState(100 + seed).randint(1, 256, (size, size), dtype=np.uint8)


def write(path, count=3, size=8, masks=True):
    """A small valid zip."""
    with DatasetWriter(path) as writer:
        for i in range(count):
            writer.add(
                image_name(i),
                image(i, size),
                label(0.1 * i % 6),
                soft_mask(i, size) if masks else None,
            )
    return path


def rewrite(path, labels=None, files=None):
    """Write a zip by hand, as other people's tools do."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (files or {}).items():
            archive.writestr(name, data)
        if labels is not None:
            archive.writestr("dataset.json", json.dumps({"labels": labels}))
    return path


def refused(match, *args, **options):
    with pytest.raises(UserError, match=match) as caught:
        ImageDataset(*args, **options)
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".")
    return message


# ------------------------------------------------------------------------------------------ reading
def test_what_was_written_is_read(tmp_path):
    dataset = ImageDataset(write(tmp_path / "a.zip"))
    assert (len(dataset), dataset.resolution, dataset.has_masks, dataset.num_files) == (
        3,
        8,
        True,
        3,
    )
    rgb, alpha, camera = dataset.get(2)
    assert rgb.dtype == alpha.dtype == torch.uint8 and camera.dtype == torch.float32
    assert np.array_equal(rgb.permute(1, 2, 0), image(2)) and np.array_equal(alpha[0], soft_mask(2))
    np.testing.assert_allclose(camera, label(0.2), atol=1e-6)
    assert dataset.name(2) == "00000/img00000002.png"
    dataset.close()


def test_folder_and_deflated_zip_give_the_same_items(tmp_path):
    source = write(tmp_path / "a.zip")
    with zipfile.ZipFile(source) as archive:
        archive.extractall(tmp_path / "folder")
        with zipfile.ZipFile(tmp_path / "packed.zip", "w", zipfile.ZIP_DEFLATED) as packed:
            for name in archive.namelist():
                packed.writestr(name, archive.read(name))
    wanted = ImageDataset(source).get(1)
    for other in (tmp_path / "folder", tmp_path / "packed.zip"):
        assert all(
            torch.equal(a, b) for a, b in zip(wanted, ImageDataset(other).get(1), strict=True)
        )


def test_without_masks_everything_is_opaque(tmp_path):
    dataset = ImageDataset(write(tmp_path / "a.zip", masks=False))
    assert not dataset.has_masks and int(dataset.get(0)[1].min()) == 255
    ignoring = ImageDataset(write(tmp_path / "b.zip"), masks=None)
    assert not ignoring.has_masks and int(ignoring.get(0)[1].min()) == 255 and len(ignoring) == 3


def test_rgba_files_bring_their_own_mask(tmp_path):
    rgba = np.dstack([image(0), soft_mask(0)])
    dataset = ImageDataset(
        rewrite(tmp_path / "a.zip", [["x.png", label().tolist()]], {"x.png": encode_png(rgba)})
    )
    assert dataset.has_masks and np.array_equal(dataset.get(0)[1][0], soft_mask(0))
    mixed = {"x.png": encode_png(rgba), "y.png": encode_png(image(1))}
    rewrite(tmp_path / "b.zip", [[name, label().tolist()] for name in mixed], mixed)
    refused("alpha channel", tmp_path / "b.zip")


@pytest.mark.parametrize(
    "mask_names", [["00000/img00000001.png", "00000/img00000000.png"], ["b.png", "a.png"]]
)
def test_gghead_mask_zip_is_found_and_paired(tmp_path, mask_names):
    write(tmp_path / "faces.zip", count=2, masks=False)
    # by name or, failing that, by sorted order: 50 then 51
    values = dict(zip(mask_names, (51, 50), strict=True))
    masks = {name: encode_png(np.full((8, 8), value, np.uint8)) for name, value in values.items()}
    beside = rewrite(tmp_path / "faces_masks_modnet.zip", files=masks)
    for dataset in (
        ImageDataset(tmp_path / "faces.zip"),
        ImageDataset(tmp_path / "faces.zip", masks=beside),
    ):
        assert [int(dataset.get(i)[1].max()) for i in (0, 1)] == [50, 51]


def test_mirror_flips_image_and_camera(tmp_path):
    dataset = ImageDataset(write(tmp_path / "a.zip"), mirror=True)
    assert (
        len(dataset) == 6 and dataset.labels.shape == (6, 25) and dataset.name(4) == dataset.name(1)
    )
    rgb, alpha, camera = dataset.get(1)
    flipped_rgb, flipped_alpha, flipped_camera = dataset.get(4)
    assert torch.equal(flipped_rgb, rgb.flip(-1)) and torch.equal(flipped_alpha, alpha.flip(-1))
    signs = torch.ones(25)
    # EG3D's rule: entries [0,1], [0,2], [1,0], [2,0] and [0,3] change their sign
    signs[[1, 2, 3, 4, 8]] = -1
    torch.testing.assert_close(flipped_camera, camera * signs)
    torch.testing.assert_close(mirror_labels(mirror_labels(dataset.labels)), dataset.labels)


def test_items_are_copies_and_the_cache_has_a_limit(tmp_path):
    path = write(tmp_path / "a.zip")
    dataset, uncached = ImageDataset(path), ImageDataset(path, cache_mb=0)
    first = dataset.get(0)[0].clone()
    dataset.get(0)[0].zero_()
    assert torch.equal(dataset.get(0)[0], first) and torch.equal(uncached.get(0)[0], first)
    assert len(dataset._cache) == 1 and len(uncached._cache) == 0


def test_max_images_is_a_fixed_subset(tmp_path):
    path = write(tmp_path / "a.zip", count=6)
    some = ImageDataset(path, max_images=3)
    assert [some.name(i) for i in range(3)] == [
        ImageDataset(path, max_images=3).name(i) for i in range(3)
    ]
    full = ImageDataset(path)
    index = next(i for i in range(6) if full.name(i) == some.name(2))
    assert torch.equal(full.get(index)[0], some.get(2)[0]) and torch.equal(
        full.labels[index], some.labels[2]
    )


def test_frames_follow_the_files(tmp_path):
    content = {
        "labels": [[image_name(i), label().tolist()] for i in range(3)],
        "frames": [{"file": image_name(i), "subject": 10 + i} for i in (2, 0, 1)],
    }
    files = {image_name(i): encode_png(image(i)) for i in range(3)}
    rewrite(tmp_path / "a.zip", files={**files, "dataset.json": json.dumps(content)})
    dataset = ImageDataset(tmp_path / "a.zip")
    assert [dataset.record(i).subject for i in range(dataset.num_files)] == [10, 11, 12]


def test_masks_that_only_frames_name_are_found(tmp_path):
    """As in multi-view sets such as shared/data/mvheads."""
    files = {name: encode_png(image(i)) for i, name in enumerate(("images/a.png", "images/b.png"))}
    masks = {f"masks/{name[7:]}": encode_png(soft_mask(i)) for i, name in enumerate(files)}
    content = {
        "labels": [[name, label().tolist()] for name in files],
        "frames": [
            {"file": f"images/{x}.png", "mask": f"masks/{x}.png", "subject": x} for x in "ab"
        ],
    }
    rewrite(tmp_path / "a.zip", files={**files, **masks, "dataset.json": json.dumps(content)})
    dataset = ImageDataset(tmp_path / "a.zip")
    assert len(dataset) == 2 and np.array_equal(dataset.get(1)[1][0], soft_mask(1))
    assert dataset.record(1).subject == "b"


def test_threads_forks_and_pickles_read_the_same(tmp_path):
    path = write(tmp_path / "a.zip", count=8, size=16)
    dataset = ImageDataset(path, cache_mb=0)
    wanted = [dataset.get(i)[0] for i in range(8)]
    wrong = []

    def read():
        wrong.extend(
            i for _ in range(10) for i in range(8) if not torch.equal(dataset.get(i)[0], wanted[i])
        )

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again.get(5)[0], wanted[5])
    again.close()
    assert torch.equal(dataset.get(5)[0], wanted[5])


# ----------------------------------------------------------------------------------------- resizing
def test_resolution_resizes_on_load(tmp_path):
    dataset = ImageDataset(write(tmp_path / "a.zip", size=16), resolution=4)
    rgb, alpha, _ = dataset.get(0)
    assert dataset.resolution == 4 and rgb.shape == (3, 4, 4) and alpha.shape == (1, 4, 4)


def test_a_resized_set_is_what_opening_it_at_that_size_gives(tmp_path):
    path = write(tmp_path / "a.zip", size=16)
    whole = ImageDataset(path, mirror=True)
    whole.get(0)
    small, opened = whole.resize(4), ImageDataset(path, mirror=True, resolution=4)
    assert small.resolution == 4 and whole.resolution == 16 and len(small) == len(whole) == 6
    for index in range(6):
        for ours, theirs in zip(small.get(index), opened.get(index), strict=True):
            assert torch.equal(ours, theirs)
    assert whole.get(1)[0].shape == (3, 16, 16)
    with pytest.raises(UserError, match="at least 1"):
        whole.resize(0)


def test_resizing_keeps_the_old_background_out():
    rgb = np.zeros((32, 32, 3), np.uint8)
    rgb[:, :11] = (200, 50, 20)  # the subject; the rest is a green screen
    rgb[:, 11:] = (0, 255, 0)
    alpha = np.zeros((32, 32), np.uint8)
    alpha[:, :11] = 255
    small, coverage = resize_straight_alpha(rgb, alpha, 8)
    assert 0 < coverage[4, 2] < 255  # column 11 lies inside a small pixel
    assert np.abs(small[:, :3].astype(int) - (200, 50, 20)).max() <= 2
    # unseen pixels keep the image
    assert np.abs(small[:, 6:].astype(int) - (0, 255, 0)).max() <= 2


def test_composite_of_the_resized_is_the_resized_composite():
    y, x = np.mgrid[:64, :64] / 64
    rgb = np.rint(255 * np.stack([x, y, 0.5 + 0.5 * np.sin(9 * x + 4 * y)], -1)).astype(np.uint8)
    alpha = np.rint(255 * np.clip(8 * (0.35 - np.hypot(x - 0.5, y - 0.5)) + 0.5, 0, 1)).astype(
        np.uint8
    )

    def over(color, mask, background):
        mask = mask[..., None] / 255
        return color * mask + background * (1 - mask)

    for background in (0.0, 255.0):
        composite = np.rint(over(rgb, alpha, background)).astype(np.uint8)
        wanted = np.asarray(Image.fromarray(composite).resize((16, 16), Image.Resampling.HAMMING))
        assert np.abs(over(*resize_straight_alpha(rgb, alpha, 16), background) - wanted).max() < 3


def test_foreground_estimate_undoes_a_known_mixture():
    x = np.linspace(-1, 1, 96)[None, :] * np.ones((96, 1))
    alpha = np.clip(0.5 + 8 * x, 0, 1)[..., None]
    front, back = np.array([180.0, 90.0, 40.0]), np.array([20.0, 200.0, 250.0])
    photo = np.rint(alpha * front + (1 - alpha) * back).astype(np.uint8)
    estimate = estimate_foreground(photo, np.rint(255 * alpha[..., 0]).astype(np.uint8))
    edge = (alpha[..., 0] > 0.2) & (alpha[..., 0] < 0.8)
    assert np.abs(estimate[edge] - front).mean() < 0.25 * np.abs(photo[edge] - front).mean()


# ------------------------------------------------------------------------------------------ writing
def test_writer_is_deterministic_and_atomic(tmp_path):
    first, second = write(tmp_path / "a.zip"), write(tmp_path / "b.zip")
    assert first.read_bytes() == second.read_bytes()
    with pytest.raises(RuntimeError, match="stop"), DatasetWriter(first) as writer:
        writer.add(image_name(0), image(9), label())
        raise RuntimeError("stop")
    assert first.read_bytes() == second.read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a.zip", "b.zip"]


def test_writer_stores_extra_files_and_refuses_bad_labels(tmp_path):
    with DatasetWriter(tmp_path / "a.zip") as writer:
        writer.add_file("uv/x.npy", encode_npy(np.arange(4, dtype=np.float16)))
        writer.add("x.png", image(0), label())
        with pytest.raises(UserError, match="24 numbers"):
            writer.add("y.png", image(0), label()[:24])
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
    assert len(ImageDataset(tmp_path / "a.zip")) == 1
    with pytest.raises(UserError, match=r"end in \.zip"):
        DatasetWriter(tmp_path / "folder")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_full_disk_is_one_sentence_and_leaves_the_old_file(tmp_path):
    path = write(tmp_path / "a.zip")
    before = path.read_bytes()
    writer = DatasetWriter(path)
    writer._zip.close()
    writer._zip = zipfile.ZipFile("/dev/full", "w")
    with pytest.raises(UserError, match="No space left"), writer:
        for i in range(200):
            writer.add(image_name(i), image(i, 32), label())
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["a.zip"]


# ------------------------------------------------------------------------------------- broken input
def test_missing_file_and_not_a_zip(tmp_path):
    refused("does not exist", tmp_path / "none.zip")
    (tmp_path / "a.zip").write_bytes(b"hello")
    refused("not a zip", tmp_path / "a.zip")
    whole = write(tmp_path / "b.zip").read_bytes()
    (tmp_path / "c.zip").write_bytes(whole[: len(whole) // 2])
    refused("not a zip", tmp_path / "c.zip")


def test_damaged_member_is_named(tmp_path):
    path = write(tmp_path / "a.zip", size=32)
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 100] ^= 255
    path.write_bytes(data)
    dataset = ImageDataset(path)
    with pytest.raises(UserError, match="img00000000.png .* damaged"):
        dataset.get(0)


def test_one_broken_image_among_a_thousand_is_stood_in_for_and_named(tmp_path):
    path = write(tmp_path / "a.zip", count=1001, size=8, masks=False)
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 30] ^= 255  # of image 0
    path.write_bytes(data)
    dataset = ImageDataset(path, mirror=True)
    for index in (0, 1001):
        for got, stand_in in zip(dataset.get(index), dataset.get(index + 1), strict=True):
            assert torch.equal(got, stand_in)
    assert (
        list(dataset.broken) == [dataset.name(0)] and "damaged" in dataset.broken[dataset.name(0)]
    )
    at = data.index(b"IDAT", data.index(b"img00000005.png"))
    data[at + 30] ^= 255
    path.write_bytes(data)
    dataset = ImageDataset(path)
    dataset.get(0)
    with pytest.raises(UserError, match="img00000005.png .* damaged"):
        dataset.get(5)


def test_truncated_image_in_a_folder_is_named(tmp_path):
    with zipfile.ZipFile(write(tmp_path / "a.zip", size=32)) as archive:
        archive.extractall(tmp_path / "folder")
    image = tmp_path / "folder" / image_name(1)
    image.write_bytes(image.read_bytes()[:1000])
    dataset = ImageDataset(tmp_path / "folder")
    with pytest.raises(UserError, match="img00000001.png .* cannot be decoded"):
        dataset.get(1)
    image.write_bytes(b"not an image")
    refused("img00000001.png .* not a readable image", tmp_path / "folder")


def test_sizes_must_agree_and_be_square(tmp_path):
    files = {"a.png": encode_png(image(0, 8)), "b.png": encode_png(image(1, 16))}
    rewrite(tmp_path / "a.zip", [[name, label().tolist()] for name in files], files)
    message = refused("one size", tmp_path / "a.zip")
    assert "b.png is 16x16" in message and "a.png is 8x8" in message
    wide = {"a.png": encode_png(np.zeros((8, 12, 3), np.uint8))}
    refused("12x8.*square", rewrite(tmp_path / "b.zip", [["a.png", label().tolist()]], wide))


def test_unlabeled_images_are_refused(tmp_path):
    files = {"a.png": encode_png(image(0)), "b.png": encode_png(image(1))}
    refused("no dataset.json", rewrite(tmp_path / "a.zip", files=files))
    for i, labels in enumerate(([], 0, None)):
        path = rewrite(
            tmp_path / f"b{i}.zip", files={**files, "dataset.json": json.dumps({"labels": labels})}
        )
        refused("unlabeled", path)
    refused(
        "b.png .* no camera label",
        rewrite(tmp_path / "c.zip", [["a.png", label().tolist()]], files),
    )
    three = [[name, label().tolist()] for name in ("a.png", "b.png", "c.png")]
    refused("labels c.png", rewrite(tmp_path / "d.zip", three, files))
    refused(
        "not valid JSON",
        rewrite(tmp_path / "e.zip", files={**files, "dataset.json": "{'labels': []}"}),
    )


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda values: values[:24], "24 numbers"),
        (lambda values: 7, "1 number;"),
        (lambda values: [float("nan"), *values[1:]], "NaN"),
        (lambda values: ["x", *values[1:]], "not made of numbers"),
        (lambda values: [2 * value for value in values[:12]] + values[12:], "no rotation"),
        (lambda values: [-value for value in values[:3]] + values[3:], "mirrors"),
        (lambda values: [*values[:16], -4.0, *values[17:]], "focal"),
        (lambda values: [*values[:18], 256.0, *values[19:]], "pixels"),
        (
            lambda values: (
                [values[row + 4 * column] for row in range(4) for column in range(4)] + values[16:]
            ),
            "0 0 0 1",
        ),
    ],
)
def test_wrong_labels_are_named(tmp_path, change, match):
    files = {"a.png": encode_png(image(0)), "b.png": encode_png(image(1))}
    labels = [["a.png", label().tolist()], ["b.png", change(label().tolist())]]
    message = refused(match, rewrite(tmp_path / "a.zip", labels, files))
    assert "b.png" in message


def test_empty_and_missing_masks_are_named(tmp_path):
    with DatasetWriter(tmp_path / "a.zip") as writer:
        for i in range(3):
            mask = soft_mask(i, 32) * np.uint8(i != 1)
            writer.add(image_name(i), image(i, 32), label(), mask)
    refused("masks/00000/img00000001.png.mask .* empty", tmp_path / "a.zip")
    write(tmp_path / "b.zip", count=2, masks=False)
    one = rewrite(tmp_path / "one.zip", files={"a.png": encode_png(soft_mask(0))})
    refused("1 masks for the 2 images", tmp_path / "b.zip", masks=one)
    refused("does not exist", tmp_path / "b.zip", masks=tmp_path / "none.zip")
    files = {name: encode_png(soft_mask(0)) for name in ("a.png", "b.png", "m.png")}
    content = {
        "labels": [[name, label().tolist()] for name in ("a.png", "b.png")],
        "masks": {"a.png": "m.png"},
    }
    refused(
        "b.png .* no mask",
        rewrite(tmp_path / "c.zip", files={**files, "dataset.json": json.dumps(content)}),
    )
