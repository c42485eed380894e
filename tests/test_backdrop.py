"""Cutting out heads: the backdrop is found where there is one, and taken off without a seam."""

import torch
from helpers.avatar_sequence import write_sequence
from helpers.capture_zip import write_captures

from gghead.data import formats
from gghead.data.backdrop import find_backdrop, foreground


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
