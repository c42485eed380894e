"""Shaded images of the template."""

import numpy as np
import pytest
from PIL import Image

from gghead.template import load_template, preview
from gghead.template.preview import shade, sheet


@pytest.fixture(scope="module")
def head():
    return load_template("head")


def outline(image):
    return (image < 250).any(-1)


def test_the_head_stands_upright_in_the_middle_of_white(head):
    image = shade(head, head.vertices, size=64)
    assert image.shape == (64, 64, 3) and image.dtype == np.uint8
    inside = outline(image)
    assert not inside[:, [0, -1]].any() and 0.2 < inside.mean() < 0.8
    assert abs(np.nonzero(inside)[1].mean() - 31.5) < 1
    assert inside[0].sum() < inside[32].sum() and inside[-1].any()  # the neck is below
    colors = image[inside].astype(int)
    assert (colors[:, 0] > colors[:, 2]).mean() > 0.9  # skin is red rather than blue


def test_the_camera_goes_to_the_side_that_yaw_says(head):
    """The head is symmetric, and so are the outlines from both sides. A camera at +x sees the face,
    which looks to +z, on its left."""
    left, right = (shade(head, head.vertices, yaw, size=64) for yaw in (-1.57, 1.57))
    assert (outline(left)[:, ::-1] != outline(right)).mean() < 0.02
    plain = shade(head, head.vertices, 1.57, size=64, painted=False)
    painted = np.nonzero((right != plain).any(-1))[1]
    assert len(painted) > 10 and painted.max() < 32


def test_paint_changes_colors_and_not_the_shape(head):
    painted = shade(head, head.vertices, size=64)
    plain = shade(head, head.vertices, size=64, painted=False)
    assert np.array_equal(outline(painted), outline(plain))
    changed = np.nonzero((painted != plain).any(-1))
    assert 20 < len(changed[0]) < 0.2 * outline(plain).sum()  # brows, eyes and lips


def test_a_sheet_has_five_views_above_five_expressions(head):
    image = sheet(head, 32)
    assert image.shape == (64, 160, 3)
    assert np.array_equal(image[:32, :32], shade(head, head.vertices, size=32))
    tiles = [image[row : row + 32, at : at + 32] for row in (0, 32) for at in range(0, 160, 32)]
    assert all(outline(tile).mean() > 0.2 for tile in tiles)
    assert len({tile.tobytes() for tile in tiles}) == 10


def test_the_sheet_is_written_where_dest_says(tmp_path, monkeypatch, capsys, head):
    monkeypatch.setattr(preview, "sheet", lambda template: sheet(template, 16))
    dest = tmp_path / "new" / "template.png"
    preview.main([f"--dest={dest}"])
    with Image.open(dest) as written:
        assert written.size == (80, 32)
    assert capsys.readouterr().out == f"Wrote {dest}.\n"
    with pytest.raises(SystemExit, match="Unknown argument 'template.png'; use --dest=FILE.png"):
        preview.main(["template.png"])
