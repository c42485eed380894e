"""What a study has measured so far, in one JSON file, so that a repeated command goes on; and line
charts of it."""

import importlib.util
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gghead.torch_utils.errors import UserError
from gghead.torch_utils.files import write_atomically

CHART_FORMATS = (".png", ".svg", ".pdf")
_DOTS_PER_INCH = 100


def read_rows(path: Path, settings: dict, script: str) -> list[dict]:
    """Return the rows that ``script`` wrote for the same settings; none where there is no file.

    Raises ``UserError`` for a file of another kind or of other settings.
    """
    if not path.is_file():
        return []
    try:
        content = json.loads(path.read_bytes())
        known, rows = content["settings"], content["rows"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no file of {script} ({error}); remove it or choose another --outdir."
        ) from error
    if known != settings:
        raise UserError(f"{path} was made with other settings; choose another --outdir.")
    return rows


def write_rows(path: Path, settings: dict, rows: list[dict]) -> None:
    """Write all rows anew, atomically."""
    text = json.dumps({"settings": settings, "rows": rows}) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


@dataclass(frozen=True)
class Line:
    """Points (x, y) of one line, in the order of x."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Chart:
    """Lines over the same axes."""

    title: str
    x_name: str
    y_name: str
    lines: Sequence[Line]
    log_x: bool = False


def check_chart(path: Path, option: str) -> None:
    """Raise ``UserError`` where no chart can be drawn to ``path``, before anything is measured."""
    if path.suffix.lower() not in CHART_FORMATS:
        raise UserError(f"{option}={path} must end in one of {', '.join(CHART_FORMATS)}.")
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError(
            f"{option} draws with matplotlib, which is not installed; run"
            " pip install 'gghead[research]' (in a checkout: pip install -e '.[research]')."
        )


def write_charts(path: Path, charts: Sequence[Chart], size: tuple[int, int] = (420, 300)) -> None:
    """Write the charts side by side, ``size`` (width, height) pixels each, with a tick at every x.

    Raises ``UserError`` for a chart without a point, one that is not finite, or x that is not
    positive on a logarithmic axis.
    """
    for chart in charts:
        points = [point for line in chart.lines for point in line.points]
        if not points or not all(math.isfinite(x) and math.isfinite(y) for x, y in points):
            raise UserError(
                f"The chart '{chart.title}' needs at least one point, all of finite numbers."
            )
        if chart.log_x and min(x for x, _ in points) <= 0:
            raise UserError(
                f"The chart '{chart.title}' has a logarithmic axis, so that every x must be"
                " positive."
            )
    # the figure without pyplot, which would choose a window system
    from matplotlib.figure import Figure

    inches = (size[0] * len(charts) / _DOTS_PER_INCH, size[1] / _DOTS_PER_INCH)
    figure = Figure(inches, dpi=_DOTS_PER_INCH, layout="constrained")
    for axes, chart in zip(figure.subplots(1, len(charts), squeeze=False)[0], charts, strict=True):
        for line in chart.lines:
            axes.plot(*zip(*line.points, strict=True), marker="o", label=line.name)
        if chart.log_x:
            axes.set_xscale("log")
        ticks = sorted({x for line in chart.lines for x, _ in line.points})
        axes.set_xticks(ticks, [f"{x:g}" for x in ticks])
        axes.minorticks_off()
        axes.set(xlabel=chart.x_name, ylabel=chart.y_name)
        axes.grid(axis="y", color="#dddddd")
        if len(chart.lines) > 1:  # above the lines, where it hides none
            above = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "frameon": False}
            axes.legend(title=chart.title, ncols=2, fontsize="x-small", **above)
        else:
            axes.set_title(chart.title)
    form = path.suffix.lower().removeprefix(".")
    write_atomically(path, lambda file: figure.savefig(file, format=form))
