"""Cutting out heads: the backdrop is found where there is one, and taken off without a seam."""

import numpy as np
import torch
from helpers.avatar_sequence import write_sequence
from helpers.capture_zip import write_captures

from gghead.data import formats
from gghead.data.backdrop import find_backdrop, foreground
from gghead.data.resize import resize_composite, resize_image, resize_straight_alpha


def test_a_known_backdrop_leaves_no_trace():
    random = torch.Generator().manual_seed(0)
    head, alpha = torch.rand(2, 3, 8, 8, generator=random), torch.rand(2, 1, 8, 8, generator=random)
    green, blue = torch.tensor([0.2, 0.9, 0.1]), torch.tensor([0.0, 0.1, 0.8])
    seen = head * alpha + (1 - alpha) * green[:, None, None]
    cut = foreground(seen, alpha, green)
    torch.testing.assert_close(cut, head * alpha)
    other = (1 - alpha) * blue[:, None, None]
    torch.testing.assert_close(cut + other, head * alpha + other)
    assert (foreground(seen, alpha, None) - head * alpha).abs().max() > 0.1  # the usual product keeps a seam


def test_the_backdrop_of_a_set(tmp_path):
    captures = formats.read(write_captures(tmp_path / "white.zip", subjects=2, views=3))
    torch.testing.assert_close(find_backdrop(captures), torch.ones(3), atol=0.01, rtol=0)
    assert find_backdrop(formats.read(write_sequence(tmp_path / "no-masks", masks=False))) is None


def test_pictures_with_something_behind_the_head_have_none(tmp_path, monkeypatch):
    captures = formats.read(write_captures(tmp_path / "white.zip", subjects=2, views=3))
    read = type(captures).get

    def noisy(self, index):
        frame = read(self, index)
        frame.rgb.copy_(torch.where(frame.alpha > 0, frame.rgb.float(), 255 * torch.rand(frame.rgb.shape)).byte())
        return frame

    monkeypatch.setattr(type(captures), "get", noisy)
    assert find_backdrop(captures) is None


def test_smaller_mixtures_are_what_a_smaller_camera_would_see():
    """A grey disc over white, shrunk to half: taking the backdrop off leaves the disc's grey up to its outline."""
    fine = np.hypot(*(np.mgrid[:512, :512] + 0.5 - 256)) < 200
    alpha = fine.reshape(64, 8, 64, 8).mean((1, 3))
    rgb = np.repeat((100 * alpha + 255 * (1 - alpha))[..., None], 3, -1).round().astype(np.uint8)
    alpha = (255 * alpha).round().astype(np.uint8)

    def grey(pair):
        colours, mask = (torch.from_numpy(part.copy()).float() / 255 for part in pair)
        cut = foreground(colours.permute(2, 0, 1), mask[None], torch.ones(3))
        return cut[:, mask > 0.3] / mask[mask > 0.3]

    small = resize_composite(rgb, alpha, 32)
    np.testing.assert_array_equal(small[0], resize_image(rgb, 32))
    assert (grey(small) * 255 - 100).abs().max() < 4
    assert (grey(resize_straight_alpha(rgb, alpha, 32)) * 255 - 100).abs().max() > 20  # a dark rim


def test_resized_captures_over_white_stay_over_white(tmp_path):
    captures = formats.read(write_captures(tmp_path / "white.zip", subjects=1, views=2))
    whole, half = captures.get(0), captures.resized(captures.size(0)[0] // 2).get(0)
    expected = resize_image(whole.rgb.permute(1, 2, 0).numpy(), captures.size(0)[0] // 2)
    np.testing.assert_array_equal(half.rgb.permute(1, 2, 0).numpy(), expected)
