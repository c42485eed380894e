"""Image grids and strips of a training run."""

import math

import numpy
import pytest
import torch
from PIL import Image

from gghead.torch_utils.errors import UserError
from gghead.training.gan import images


@pytest.mark.parametrize(
    ("resolution", "expected"),
    [(32, (16, 10)), (64, (12, 8)), (128, (6, 4)), (256, (30, 16)), (512, (15, 8)), (1024, (7, 4))],
)
def test_grid_sizes(resolution, expected):
    assert images.grid_size(resolution) == expected


@pytest.mark.parametrize("available", [0, 1, 2, 7, 30, 95])
def test_grids_do_not_exceed_what_is_there(available):
    columns, rows = images.grid_size(64, available)
    assert 1 <= columns * rows <= max(available, 1)
    assert columns * rows >= 0.6 * available


def test_grid_order_and_values(tmp_path):
    levels = torch.tensor([-1.0, 0.0, 1.0, 5.0])[:, None, None, None].expand(4, 3, 2, 3)
    saved = images.save_image_grid(levels, tmp_path / "grid.png", (2, 2))
    assert saved.shape == (4, 6, 3)
    assert (
        saved[0, 0, 0] == 0
        and saved[0, 3, 0] == 128
        and saved[2, 0, 0] == 255
        and saved[2, 3, 0] == 255
    )
    numpy.testing.assert_array_equal(numpy.asarray(Image.open(tmp_path / "grid.png")), saved)
    assert [path.name for path in tmp_path.iterdir()] == ["grid.png"]


def test_missing_images_are_white_and_nans_black():
    sheet = images.make_grid(torch.full((1, 1, 2, 2), math.nan), (2, 1))
    assert sheet[:, :2].max() <= 128 and sheet[:, 2:].min() == 255


def test_bytes_pass_unchanged():
    pixels = torch.randint(0, 256, (1, 3, 4, 4), dtype=torch.uint8)
    numpy.testing.assert_array_equal(
        images.make_grid(pixels, (1, 1)), pixels[0].permute(1, 2, 0).numpy()
    )


def test_yaw_strip_has_a_row_per_head():
    heads = torch.linspace(-1, 1, 6).reshape(2, 3, 1, 1, 1).expand(2, 3, 3, 32, 32)
    plain = images.make_yaw_strip(heads)
    assert plain.shape == (64, 96, 3)
    assert plain[0, 40, 0] < plain[0, 70, 0] < plain[40, 0, 0]
    labeled = images.make_yaw_strip(heads, seeds=[7, 12], yaws=[-0.4, 0.0, 0.4])
    height, width = labeled.shape[:2]
    assert height > 64 and width > 96
    numpy.testing.assert_array_equal(labeled[-64:, -96:], plain)
    assert labeled[: height - 64].min() < 128  # something is written in the border
    with pytest.raises(ValueError, match="as many"):
        images.make_yaw_strip(heads, seeds=[1])


def test_strip_with_labels(tmp_path):
    shown = images.save_strip(
        torch.zeros(3, 3, 24, 24), tmp_path / "strip.png", ["real", "start", "end"]
    )
    assert shown.shape[1] == 72 and shown.shape[0] > 24
    with pytest.raises(ValueError, match="labels"):
        images.save_strip(torch.zeros(3, 3, 24, 24), tmp_path / "strip.png", ["real"])


def test_an_unwritable_place_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="could not be written"):
        images.save_image_grid(torch.zeros(1, 3, 4, 4), tmp_path / "absent" / "x.png")


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match="images"):
        images.make_grid(torch.zeros(1, 4, 8, 8))
