"""Charts of studies: what is drawn is what was measured; kinds of files; nonsense is refused."""

import sys

import pytest
import results
from PIL import Image
from results import Chart, Line, check_chart, write_charts

from gghead.torch_utils.errors import UserError


@pytest.fixture
def drawn(monkeypatch):
    """The axes of the figures that are saved."""
    from matplotlib.figure import Figure

    found, save = [], Figure.savefig

    def savefig(self, *args, **settings):
        found.extend(self.axes)
        save(self, *args, **settings)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return found


def test_lines_ticks_and_names_are_those_given(tmp_path, drawn):
    points = [(1, 0.5), (10, 1.0), (100, 2.0)]
    lines = [Line("seen", points), Line("unseen", points[:2])]
    charts = [
        Chart("people", "identities", "PSNR, dB", lines, log_x=True),
        Chart("alone", "iterations", "PSNR, dB", [Line("one", points)]),
    ]
    write_charts(tmp_path / "a.png", charts, size=(300, 200))
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (600, 200)
    left, right = drawn
    assert [list(map(tuple, line.get_xydata())) for line in left.lines] == [points, points[:2]]
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["seen", "unseen"]
    assert left.get_legend().get_title().get_text() == "people"
    assert right.get_legend() is None and right.get_title() == "alone"
    assert (left.get_xscale(), right.get_xscale()) == ("log", "linear")
    assert left.get_xlabel() == "identities" and right.get_ylabel() == "PSNR, dB"
    for axes in drawn:
        assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "10", "100"]
        assert not axes.get_xticks(minor=True).size


def test_the_ending_says_the_kind_of_file(tmp_path):
    write_charts(tmp_path / "a.SVG", [Chart("t", "x", "y", [Line("a", [(0, 1.0), (1, 2.0)])])])
    assert b"<svg" in (tmp_path / "a.SVG").read_bytes()
    with pytest.raises(UserError, match="--plot=a.txt must end in one of .png, .svg, .pdf"):
        check_chart(tmp_path.relative_to(tmp_path) / "a.txt", "--plot")


def test_a_missing_matplotlib_is_said_with_its_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(results.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'gghead\[research\]'"):
        check_chart(tmp_path / "a.png", "--plot")


@pytest.mark.parametrize(
    "lines, log_x, what",
    [
        ([], False, "at least one point"),
        ([Line("a", [(1, float("nan"))])], False, "finite"),
        ([Line("a", [(0, 1.0)])], True, "must be positive"),
    ],
)
def test_nonsense_is_refused(tmp_path, lines, log_x, what):
    with pytest.raises(UserError, match=what):
        write_charts(tmp_path / "a.png", [Chart("t", "x", "y", lines, log_x)])
    assert not list(tmp_path.iterdir())
