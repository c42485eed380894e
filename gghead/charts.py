"""Line charts as pictures, drawn with Pillow alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gghead.torch_utils.errors import UserError

_COLOURS = ("#1f5fbf", "#d2691e", "#2e8b57", "#8b2e7a", "#555555")
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 30, 44
_ROW = 14  # of the legend
_FINE = 2  # drawn so many times as large and shrunk: smooth lines


@dataclass(frozen=True)
class Line:
    """Points of one line, in the order of x."""

    name: str
    points: Sequence[tuple[float, float]]


def line_chart(
    lines: Sequence[Line],
    title: str,
    x_name: str,
    y_name: str,
    *,
    log_x: bool = False,
    size: tuple[int, int] = (420, 300),
) -> np.ndarray:  # uint8 [H, W, 3]
    """Draw lines with markers, ticks at the given x and round values of y, and a legend where there
    are several lines.

    Raises ``UserError`` where there is no point, one is not finite, or x is not positive on a
    logarithmic axis.
    """
    points = [point for line in lines for point in line.points]
    if not points or not np.isfinite(points).all():
        raise UserError(f"The chart '{title}' needs at least one point, all of finite numbers.")
    if log_x and min(x for x, _ in points) <= 0:
        raise UserError(
            f"The chart '{title}' has a logarithmic axis, so that every x must be positive."
        )
    width, height = (side * _FINE for side in size)
    picture = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(11 * _FINE)
    legend = _ROW * len(lines) + 8 if len(lines) > 1 else 0  # above the lines, where it hides none
    left, right, top, bottom = (
        _LEFT * _FINE,
        width - _RIGHT * _FINE,
        (_TOP + legend) * _FINE,
        height - _BOTTOM * _FINE,
    )
    at_x = math.log if log_x else float
    xs, ys = sorted({x for x, _ in points}), [y for _, y in points]
    ticks = round_ticks(min(ys), max(ys))
    x_span = max(at_x(xs[-1]) - at_x(xs[0]), 1e-9)

    def place(x: float, y: float) -> tuple[float, float]:
        share = (at_x(x) - at_x(xs[0])) / x_span if len(xs) > 1 else 0.5
        inner = left + 14 * _FINE, right - 14 * _FINE
        return (
            inner[0] + share * (inner[1] - inner[0]),
            bottom - (y - ticks[0]) / (ticks[-1] - ticks[0]) * (bottom - top),
        )

    for tick in ticks:
        y = place(xs[0], tick)[1]
        draw.line([(left, y), (right, y)], "#dddddd", _FINE)
        draw.text((left - 6 * _FINE, y), f"{tick:g}", "black", font, anchor="rm")
    for x in xs:
        draw.text((place(x, ticks[0])[0], bottom + 6 * _FINE), f"{x:g}", "black", font, anchor="mt")
    draw.line([(left, top), (left, bottom), (right, bottom)], "black", _FINE)
    draw.text((width / 2, 6 * _FINE), title, "black", font, anchor="mt")
    draw.text(((left + right) / 2, height - 6 * _FINE), x_name, "black", font, anchor="mb")
    draw.text((6 * _FINE, top - 8 * _FINE), y_name, "black", font, anchor="lb")
    for index, line in enumerate(lines):
        colour = _COLOURS[index % len(_COLOURS)]
        path = [place(x, y) for x, y in line.points]
        if len(path) > 1:
            draw.line(path, colour, 2 * _FINE, joint="curve")
        for x, y in path:
            draw.ellipse([x - 4 * _FINE, y - 4 * _FINE, x + 4 * _FINE, y + 4 * _FINE], colour)
        if legend:
            draw.text(
                (left + 10 * _FINE, (_TOP - 8 + _ROW * index) * _FINE),
                line.name,
                colour,
                font,
                anchor="lt",
            )
    return np.asarray(picture.resize(size, Image.Resampling.BOX))


def round_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten that enclose [low, high]; at least two."""
    span = max(high - low, 1e-9, abs(high) * 1e-6)
    raw = span / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    return [round(index * step, 12) for index in range(first, last + 1)]
