"""Line charts: points land where they belong, ticks are round, nonsense is refused."""

import numpy as np
import pytest

from gghead.charts import Line, line_chart, round_ticks
from gghead.torch_utils.errors import UserError


def blobs(picture, colour):
    """Centre columns and rows of what is drawn in a colour, left to right."""
    near = np.abs(picture.astype(int) - colour).sum(-1) < 60
    rows, columns = np.nonzero(near)
    return columns, rows


@pytest.mark.parametrize("low, high", [(18.2, 26.9), (0, 1), (0.931, 0.944), (-3, 250), (5, 5)])
def test_ticks_are_round_and_enclose(low, high):
    ticks = round_ticks(low, high)
    steps = np.diff(ticks)
    assert ticks[0] <= low and ticks[-1] >= high and 2 <= len(ticks) <= 8
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)
    mantissa = steps[0] / 10 ** np.floor(np.log10(steps[0] * 1.0001))
    assert any(mantissa == pytest.approx(value, rel=1e-6) for value in (1, 2, 5, 10))


def test_higher_values_are_drawn_higher_and_logarithms_evenly():
    blue = (31, 95, 191)
    picture = line_chart(
        [Line("a", [(1, 0.0), (10, 1.0), (100, 2.0)])], "t", "x", "y", log_x=True, size=(300, 200)
    )
    assert picture.shape == (200, 300, 3) and picture.dtype == np.uint8
    columns, rows = blobs(picture, blue)
    left, right = columns.min(), columns.max()
    middle = (left + right) / 2
    parts = columns <= left + 3, np.abs(columns - middle) < 3, columns >= right - 3
    first, second, third = (rows[part].mean() for part in parts)
    assert first > second > third
    marked = np.bincount(columns, minlength=300)  # columns of markers hold most pixels
    assert (
        marked[int(middle) - 2 : int(middle) + 3].max() > marked[left + 20 : int(middle) - 20].max()
    )


def test_every_line_has_its_colour_and_name():
    one = line_chart([Line("a", [(0, 1.0), (1, 2.0)])], "t", "x", "y")
    two = line_chart(
        [Line("a", [(0, 1.0), (1, 2.0)]), Line("b", [(0, 2.0), (1, 1.0)])], "t", "x", "y"
    )
    orange = (210, 105, 30)
    assert not len(blobs(one, orange)[0]) and len(blobs(two, orange)[0]) > 50


def test_nonsense_is_refused():
    for lines, options, what in (
        ([], {}, "at least one point"),
        ([Line("a", [(1, float("nan"))])], {}, "finite"),
        ([Line("a", [(0, 1.0)])], {"log_x": True}, "must be positive"),
    ):
        with pytest.raises(UserError, match=what):
            line_chart(lines, "t", "x", "y", **options)
