"""Cutting out heads: the backdrop is found where there is one, and taken off without a seam."""

import io
import zipfile

import numpy as np
import pytest
import torch
from helpers.avatar_sequence import write_sequence
from helpers.capture_zip import write_captures
from PIL import Image

from gghead.cameras import Cameras
from gghead.data import ImageDataset, formats
from gghead.data.backdrop import foreground, own_colors
from gghead.data.dataset_zip import DatasetWriter, image_name
from gghead.data.images import resize_composite, resize_image, resize_straight_alpha
from gghead.data.zip_writer import encode_png
from gghead.torch_utils.errors import UserError
from gghead.training.gan.config import DataConfig
from gghead.training.gan.data import open_dataset
from gghead.training.metrics import MetricSet

WHITE, GREEN = (255, 255, 255), (30, 200, 60)


def disc(seed, size=64):
    """Colors [size, size, 3] of a disc in two colors, and its soft alpha [size, size], both in
    [0, 1]."""
    random = np.random.RandomState(seed)
    y, x = np.mgrid[: 8 * size, : 8 * size] + 0.5 - 4 * size
    inside = np.hypot(x - 8 * random.rand(), y) < 8 * size * (0.3 + 0.1 * random.rand())
    alpha = inside.reshape(size, 8, size, 8).mean((1, 3))
    return np.where(x[::8, ::8, None] > 0, *random.uniform(0.1, 0.6, (2, 3))), alpha


def write_discs(path, over=None, beyond=WHITE, count=8, embedded=False, encode=encode_png):
    """Discs mixed with a backdrop, or in their own colors with ``beyond`` where alpha is zero;
    returns the path."""
    with DatasetWriter(path) as writer:
        for index in range(count):
            own, alpha = disc(index)
            own = np.where(alpha[..., None] > 0, own, np.array(beyond) / 255)
            seen = (
                own
                if over is None
                else own * alpha[..., None] + (1 - alpha[..., None]) * np.array(over) / 255
            )
            rgb, mask = (np.rint(255 * values).astype(np.uint8) for values in (seen, alpha))
            label = Cameras.orbit(0.1 * index).label()[0].double().numpy()
            if embedded:
                writer.add(image_name(index), np.concatenate([rgb, mask[..., None]], -1), label)
            else:
                writer.add(image_name(index), encode(rgb), label, encode_png(mask))
    return path


def over(item, color):
    """An item of a data set put over a color, [3, H, W] in [0, 255]."""
    rgb, alpha = item[0].float(), item[1].float() / 255
    return rgb * alpha + torch.tensor(color, dtype=torch.float32)[:, None, None] * (1 - alpha)


def truth(index, color, size):
    """What a camera of ``size`` pixels sees of a disc before a color."""
    own, alpha = disc(index)
    seen = own * alpha[..., None] + (1 - alpha[..., None]) * np.array(color) / 255
    small = resize_image(np.rint(255 * seen).astype(np.uint8), size)
    return torch.from_numpy(small.copy()).permute(2, 0, 1).float()


def test_a_known_backdrop_leaves_no_trace():
    random = torch.Generator().manual_seed(0)
    head, alpha = torch.rand(2, 3, 8, 8, generator=random), torch.rand(2, 1, 8, 8, generator=random)
    green, blue = torch.tensor([0.2, 0.9, 0.1]), torch.tensor([0.0, 0.1, 0.8])
    seen = head * alpha + (1 - alpha) * green[:, None, None]
    cut = foreground(seen, alpha, green)
    torch.testing.assert_close(cut, head * alpha)
    other = (1 - alpha) * blue[:, None, None]
    torch.testing.assert_close(cut + other, head * alpha + other)
    # the usual product keeps a seam
    assert (foreground(seen, alpha, None) - head * alpha).abs().max() > 0.1


def test_the_backdrop_of_a_set(tmp_path):
    captures = formats.read(write_captures(tmp_path / "white.zip", subjects=2, views=3))
    torch.testing.assert_close(captures.backdrop, torch.ones(3), atol=0.01, rtol=0)
    assert formats.read(write_sequence(tmp_path / "no-masks", masks=False)).backdrop is None


def test_images_with_something_behind_the_head_have_none(tmp_path, monkeypatch):
    captures = formats.read(write_captures(tmp_path / "white.zip", subjects=2, views=3))
    read = type(captures).get

    def noisy(self, index):
        frame = read(self, index)
        frame.rgb.copy_(
            torch.where(
                frame.alpha > 0, frame.rgb.float(), 255 * torch.rand(frame.rgb.shape)
            ).byte()
        )
        return frame

    monkeypatch.setattr(type(captures), "get", noisy)
    assert captures.backdrop is None


def test_smaller_mixtures_are_what_a_smaller_camera_would_see():
    """A gray disc over white, shrunk to half: taking the backdrop off leaves the disc's gray up to
    its outline."""
    fine = np.hypot(*(np.mgrid[:512, :512] + 0.5 - 256)) < 200
    alpha = fine.reshape(64, 8, 64, 8).mean((1, 3))
    rgb = np.repeat((100 * alpha + 255 * (1 - alpha))[..., None], 3, -1).round().astype(np.uint8)
    alpha = (255 * alpha).round().astype(np.uint8)

    def gray(pair):
        colors, mask = (torch.from_numpy(part.copy()).float() / 255 for part in pair)
        cut = foreground(colors.permute(2, 0, 1), mask[None], torch.ones(3))
        return cut[:, mask > 0.3] / mask[mask > 0.3]

    small = resize_composite(rgb, alpha, 32)
    np.testing.assert_array_equal(small[0], resize_image(rgb, 32))
    assert (gray(small) * 255 - 100).abs().max() < 4
    assert (gray(resize_straight_alpha(rgb, alpha, 32)) * 255 - 100).abs().max() > 20  # a dark rim


def test_resized_captures_over_white_stay_over_white(tmp_path):
    captures = formats.read(write_captures(tmp_path / "white.zip", subjects=1, views=2))
    whole, half = captures.get(0), captures.resize(captures.size(0)[0] // 2).get(0)
    expected = resize_image(whole.rgb.permute(1, 2, 0).numpy(), captures.size(0)[0] // 2)
    np.testing.assert_array_equal(half.rgb.permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("behind", [WHITE, GREEN])
@pytest.mark.parametrize("size", [64, 32, 24])
def test_discs_before_a_plain_color_are_put_over_others_without_a_rim(tmp_path, behind, size):
    dataset = ImageDataset(write_discs(tmp_path / "discs.zip", over=behind), resolution=size)
    torch.testing.assert_close(dataset.backdrop, torch.tensor(behind) / 255, atol=0.002, rtol=0)
    for color in (WHITE, GREEN, (0, 0, 0)):
        for index in range(3):
            assert (over(dataset.get(index), color) - truth(index, color, size)).abs().max() < 2.5


def test_own_colors_stay_whatever_stands_beyond_them(tmp_path):
    """As synthetic_heads.py writes heads, white beyond them; images with an alpha channel;
    another plain color."""
    sets = [
        write_discs(tmp_path / "white.zip"),
        write_discs(tmp_path / "alpha.zip", over=WHITE, embedded=True),
        write_discs(tmp_path / "black.zip", beyond=(0, 0, 0)),
    ]
    for path in sets:
        dataset, stored = ImageDataset(path), stored_colors(path)
        assert dataset.backdrop is None
        for index in range(len(dataset)):
            np.testing.assert_array_equal(
                dataset.get(index)[0].permute(1, 2, 0).numpy(), stored[index]
            )
    for path in (sets[0], sets[2]):
        assert formats.read(path).backdrop is None


def stored_colors(path):
    """The colors of a zip's images as they are stored."""
    with zipfile.ZipFile(path) as file:
        names = sorted(
            name for name in file.namelist() if name.endswith(".png") and "mask" not in name
        )
        return [np.asarray(Image.open(file.open(name)))[..., :3] for name in names]


def test_jpeg_before_white_is_recognized(tmp_path):
    def jpeg(rgb):
        encoded = io.BytesIO()
        Image.fromarray(rgb).save(encoded, format="JPEG", quality=90)
        return encoded.getvalue()

    dataset = ImageDataset(write_discs(tmp_path / "discs.zip", over=WHITE, encode=jpeg))
    torch.testing.assert_close(dataset.backdrop, torch.ones(3), atol=0.01, rtol=0)


def test_eight_bits_lose_no_more_than_rounding():
    random = np.random.RandomState(0)
    own, alpha = random.rand(32, 32, 3), random.randint(1, 256, (32, 32))
    share = alpha[..., None] / 255
    seen = np.rint(255 * (own * share + 1 - share)).astype(np.uint8)
    straight = (
        own_colors(
            torch.from_numpy(seen).permute(2, 0, 1),
            torch.from_numpy(alpha.astype(np.uint8))[None],
            torch.ones(3),
        )
        .permute(1, 2, 0)
        .numpy()
    )
    assert np.abs(straight * share + 255 * (1 - share) - seen).max() <= 0.51


def test_broken_images_do_not_hide_the_backdrop(tmp_path):
    path = write_discs(tmp_path / "discs.zip", over=WHITE, count=4)
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    first = next(name for name in members if name.endswith(".png") and "mask" not in name)
    members[first] = members[first][: len(members[first]) // 2]
    with zipfile.ZipFile(tmp_path / "broken.zip", "w") as file:
        for name, data in members.items():
            file.writestr(name, data)
    dataset = ImageDataset(tmp_path / "broken.zip")
    assert dataset.backdrop is not None
    with pytest.raises(UserError, match=first):
        dataset.get(0)
    captures = formats.read(tmp_path / "broken.zip").resize(16)  # which asks for the backdrop
    assert torch.equal(captures.backdrop, dataset.backdrop) and captures.get(1).rgb.shape == (
        3,
        16,
        16,
    )
    with pytest.raises(UserError, match=first):
        captures.get(0)


def test_training_and_metrics_see_the_images_that_were_made(tmp_path):
    """Images of a GAN's data over white are the stored ones; with their own backgrounds nothing
    is touched."""
    path = write_discs(tmp_path / "discs.zip", over=WHITE)
    stored = torch.from_numpy(np.stack(stored_colors(path))).permute(0, 3, 1, 2)
    masked = open_dataset(DataConfig(path=str(path)), 64)
    white = MetricSet(masked, "frd4", background=(1, 1, 1), cache_dir=tmp_path)
    assert (next(white.real_batches(range(8))).int() - stored.int()).abs().max() <= 1
    plain = open_dataset(DataConfig(path=str(path), background="image"), 64)
    assert plain.backdrop is None
    as_they_are = MetricSet(plain, "frd4", cache_dir=tmp_path)
    assert torch.equal(next(as_they_are.real_batches(range(8))), stored)
