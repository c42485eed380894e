"""The contact sheet.

Photos, the same with the template drawn over them by their cameras, and histograms of poses.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gghead.data.check.cameras import angles
from gghead.data.check.report import CheckReport
from gghead.data.check.silhouettes import project
from gghead.data.files import read_image
from gghead.template import load_template, rasterize_triangles
from gghead.template.preview import head_colors
from gghead.torch_utils.errors import UserError

CELL, GAP, CAPTION, COLUMNS, SAMPLES = 176, 6, 32, 4, 24
OUTLINE, GRID_LINES, FEATURES = (0, 255, 255), (60, 220, 60), (255, 60, 200)
_INK, _FAINT, _ALARM, _PAPER = (20, 20, 20), (120, 120, 120), (200, 0, 0), (250, 250, 250)
_STEP = 0.08  # world units between the lines drawn on the template


# [S, S, 3] uint8, [25] -> [S, S, 3] uint8
def overlay(image: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Draw the template as its camera sees it.

    The drawing has the outline, eyes, brows and lips, and lines of equal height and side.
    """
    size = 2 * len(image)  # supersampled, then the lines are averaged
    template = load_template("head")
    xy, depth = project(template.vertices, label)
    if not np.isfinite(xy).all() or (depth <= 0).all() or np.abs(xy).max() > 1e4:
        return image
    face, bary = rasterize_triangles(xy * size, depth, template.faces, size, size, perspective=True)
    seen = face >= 0
    points = (bary[..., None] * template.vertices[template.faces[face]]).sum(2)
    kind = np.unique(head_colors(points).reshape(-1, 3), axis=0, return_inverse=True)[1].reshape(
        size, size
    )
    lines = np.floor(points[..., :2] / _STEP).astype(int)
    shown = image.astype(np.float32)
    for color, edges, strength in (
        (GRID_LINES, _edges(lines[..., 0], seen) | _edges(lines[..., 1], seen), 0.9),
        (FEATURES, _edges(kind, seen), 1.5),
        (OUTLINE, _edges(seen.astype(int), np.ones_like(seen)), 1.5),
    ):
        weight = edges.reshape(len(image), 2, len(image), 2).mean((1, 3))[..., None]
        weight = np.minimum(weight * strength, 0.95)
        shown = shown * (1 - weight) + np.array(color) * weight
    return np.rint(shown).astype(np.uint8)


def _edges(values: np.ndarray, inside: np.ndarray) -> np.ndarray:  # [S, S] -> [S, S] bool
    edges = np.zeros(values.shape, bool)
    edges[:, 1:] |= (values[:, 1:] != values[:, :-1]) & inside[:, 1:] & inside[:, :-1]
    edges[1:] |= (values[1:] != values[:-1]) & inside[1:] & inside[:-1]
    return edges


def choose(report: CheckReport, count: int = SAMPLES) -> list[tuple[int, str]]:
    """Choose (image, reason) to show.

    The worst suspects come first, at most half, and then an even spread over yaw.
    """
    suspects: dict[int, str] = {}
    index = {name: i for i, name in enumerate(report.names)}
    for found in report.findings:
        if len(found.files) < 0.5 * len(report.names):  # what concerns nearly all shows anyhow
            for name in found.files[:4]:
                if name in index:
                    suspects.setdefault(index[name], found.code)
    # as a rule long hair, but worth a look
    for i in sorted(report.fits, key=lambda i: report.fits[i].iou)[:4]:
        suspects.setdefault(i, "")
    chosen = list(suspects.items())[: count // 2]
    rest = np.array([i for i in range(len(report.names)) if i not in dict(chosen)], int)
    yaw = (
        angles(np.nan_to_num(report.labels[rest], posinf=0, neginf=0))[:, 0] if len(rest) else rest
    )
    spread = rest[np.argsort(yaw, kind="stable")]
    picks = np.unique(
        np.linspace(0, len(spread) - 1, min(count - len(chosen), len(spread))).round().astype(int)
    )
    return chosen + [(int(i), "") for i in spread[picks]]


def contact_sheet(report: CheckReport) -> Image.Image:
    """Draw the sheet of a checked set."""
    shown = choose(report)
    rows = -(-len(shown) // COLUMNS)
    width, height = COLUMNS * (2 * CELL + 3 * GAP), CELL + CAPTION + 2 * GAP
    top, bottom = 36 + 16 * min(len(report.findings) + 1, 9), 190
    sheet = Image.new("RGB", (width, top + rows * height + bottom), _PAPER)
    draw = ImageDraw.Draw(sheet)
    _heading(draw, report, width)
    for place, (index, reason) in enumerate(shown):
        x, y = place % COLUMNS * (2 * CELL + 3 * GAP) + GAP, top + place // COLUMNS * height
        _cell(sheet, draw, report, index, reason, x, y)
    _histograms(draw, report, top + rows * height, width)
    return sheet


def _heading(draw: ImageDraw.ImageDraw, report: CheckReport, width: int) -> None:
    verdict = "training may start" if report.ok else "training must not start"
    draw.text(
        (GAP, 8),
        f"{report.path.name}: {len(report.names)} images, {verdict}",
        _INK if report.ok else _ALARM,
        _font(15),
    )
    legend = "cyan: outline; magenta: eyes, brows, lips; green: lines of equal height and side"
    draw.text((width // 2, 8), legend, _FAINT, _font(13))
    lines = [
        f"{found.severity}  {found.code}: {found.count} {found.texts()[0]}"
        for found in report.findings
    ]
    lines = (
        lines[:7] + [f"and {len(lines) - 7} more"]
        if len(lines) > 8
        else lines or ["nothing wrong was found"]
    )
    for i, line in enumerate(lines):
        draw.text((GAP, 30 + 16 * i), line, _ALARM if line.startswith("error") else _INK, _font(13))


def _cell(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    report: CheckReport,
    index: int,
    reason: str,
    x: int,
    y: int,
) -> None:
    inventory, at = report.place(index)
    label = report.labels[index]
    try:
        image = read_image(inventory.source, inventory.names[at], "RGB").resize(
            (CELL, CELL), Image.Resampling.BOX
        )
    except UserError:
        draw.rectangle((x, y, x + 2 * CELL + GAP, y + CELL), outline=_ALARM)
        draw.text((x + GAP, y + CELL // 2), "cannot be decoded", _ALARM, _font(13))
        image = None
    if image is not None:
        sheet.paste(image, (x, y))
        drawn = overlay(np.asarray(image), label)
        sheet.paste(Image.fromarray(drawn), (x + CELL + GAP, y))
        if np.array_equal(drawn, np.asarray(image)):
            note = "no head in this camera's view"
            draw.rectangle((x + CELL + GAP, y + 4, x + 2 * CELL + GAP, y + 22), _PAPER)
            draw.text((x + CELL + GAP + 4, y + 5), note, _ALARM, _font(12))
    if np.isfinite(label).all():
        yaw, pitch, _ = angles(label[None])[0]
        text = f"yaw {yaw:+.0f}  pitch {pitch:+.0f}"
    else:
        text = "no camera"
    if index in report.fits:
        text += f"  IoU {report.fits[index].iou:.2f}"
    draw.text((x, y + CELL + 1), text, _INK, _font(13))
    name = report.names[index]
    draw.text((x, y + CELL + 16), name[-34:] if not reason else name[-22:], _FAINT, _font(11))
    draw.text((x + CELL + GAP, y + CELL + 1), reason, _ALARM, _font(13))


def _histograms(draw: ImageDraw.ImageDraw, report: CheckReport, top: int, width: int) -> None:
    """Yaw and pitch of all usable cameras."""
    if not report.usable.any():
        draw.text((GAP, top + 20), "no usable camera, so no histograms", _ALARM, _font(13))
        return
    yaw, pitch, _ = angles(report.labels[report.usable]).T
    half = width // 2
    for x, title, values, reach in ((GAP, "yaw", yaw, 180), (half + GAP, "pitch", pitch, 90)):
        limit = next((limit for limit in (30, 60, 90) if np.abs(values).max() <= limit), reach)
        counts, _ = np.histogram(values, bins=60, range=(-limit, limit))
        left, right, base, tall = x + 10, x + half - 30, top + 150, 110
        step = (right - left) / len(counts)
        for i, count in enumerate(counts):
            bar = round(tall * count / max(counts.max(), 1))
            if count:
                draw.rectangle(
                    (left + i * step, base - max(bar, 1), left + (i + 1) * step - 2, base),
                    (90, 130, 200),
                )
        draw.line((left, base, right, base), _INK)
        for degrees in range(-limit, limit + 1, limit // 3):
            at = left + (degrees + limit) / (2 * limit) * (right - left)
            draw.line((at, base, at, base + 4), _INK)
            draw.text((at - 10, base + 6), f"{degrees:+d}", _FAINT, _font(12))
        low, middle, high = np.percentile(values, [5, 50, 95])
        draw.text(
            (left, top + 8),
            f"{title} in degrees: median {middle:+.1f}, 90 % within {low:+.1f} and {high:+.1f}; "
            f"tallest bar {counts.max()} images",
            _INK,
            _font(13),
        )


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
