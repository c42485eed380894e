"""Whether masks lie where the cameras put the template, and left where left is."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from gghead.cameras import Cameras
from gghead.data.check.findings import ERROR, WARNING, Finding, findings_where
from gghead.template import load_template, rasterize_triangles

GRID = 48  # side at which silhouettes are compared
_LOW, _DROP = 0.45, 0.2  # an odd image: below this, and by so much below the set's median
_FAR = 0.45  # median below which a set as a whole does not fit; healthy ones have 0.7 to 0.9
_HAIR = 1.06  # usual width of a head with hair in units of the template's
_WIDTHS = (0.8, 1.33)  # medians beyond which the heads have another size than the cameras say
_TURNED = 5.0  # degrees of yaw from which a head's outline tells left from right
_ENOUGH = 24  # neighbors of different poses that tell whether labels slipped
_EVIDENCE = -4.0  # standard errors by which flipped masks, or other cameras, must fit better


@dataclass(frozen=True)
class Fit:
    """How one mask and the projected template agree."""

    iou: float
    """Overlap above the chin (masks reach down to the shoulders, the template does not)."""
    flipped: float
    """The same with the mask flipped."""
    inverted: float
    """The same with foreground and background exchanged."""
    width: float
    """Width of the mask between brows and nose in units of the template's; nan where the image
    cuts it off."""
    outline: np.ndarray
    """[GRID, GRID] bool, the template."""
    inside: np.ndarray
    """[GRID, GRID] bool, the mask."""
    below: int
    """First row below the template's chin."""


def small_mask(mask: np.ndarray) -> np.ndarray:  # [H, W] uint8 -> [GRID, GRID] uint8
    """Shrink a mask for comparison."""
    return np.asarray(Image.fromarray(mask).resize((GRID, GRID), Image.Resampling.BOX))


def project(points: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """World points [V, 3] as seen by a label [25], in float64.

    Returns [V, 2] in image widths and [V] depth.
    """
    camera = Cameras.from_label(torch.as_tensor(label, dtype=torch.float64))
    places, depth = camera.project(torch.from_numpy(points))
    return places.numpy(), depth.numpy()


def fit(label: np.ndarray, mask: np.ndarray) -> Fit:  # [25], [GRID, GRID] uint8
    """Compare one mask with the template seen by its camera."""
    template, inside = load_template("head"), mask > 127
    xy, depth = project(template.vertices, label)
    if (depth <= 0.1).any() or np.abs(xy).max() > 1e4:
        return Fit(0.0, 0.0, 0.0, np.nan, np.zeros_like(inside), inside, 0)
    outline = rasterize_triangles(xy * GRID, None, template.faces, GRID, GRID)[0] >= 0
    names = ("chin", "noseTip", "browMiddleLeft", "browMiddleRight")
    rows = project(np.stack([template.landmarks[name] for name in names]), label)[0][:, 1] * GRID
    chin, nose, brow = int(np.clip(np.ceil(rows[0]), 0, GRID)), rows[1], rows[2:].min()
    top, bottom = int(np.clip(brow, 0, GRID)), int(np.clip(np.ceil(nose), 0, GRID))
    return Fit(
        _overlap(outline, inside, chin),
        _overlap(outline, inside[:, ::-1], chin),
        _overlap(outline, ~inside, chin),
        _width(xy[:, 0] * GRID, xy[:, 1] * GRID, inside, top, bottom),
        outline,
        inside,
        chin,
    )


def _overlap(outline: np.ndarray, mask: np.ndarray, below: int) -> float:
    outline, mask = outline[:below], mask[:below]
    union = np.count_nonzero(outline | mask)
    return np.count_nonzero(outline & mask) / union if union else 0.0


def _width(x: np.ndarray, y: np.ndarray, inside: np.ndarray, top: int, bottom: int) -> float:
    """Mean width of the mask over that of the template.

    Rows count that the mask does not leave, the same for both.
    """
    between = x[(y >= top) & (y < bottom)]
    rows = inside[top:bottom]
    rows = rows[~(rows[:, 0] | rows[:, -1]) & rows.any(1)]
    return float(rows.sum(1).mean() / np.ptp(between)) if len(rows) and len(between) else np.nan


# yaw: [N] degrees
def check_silhouettes(fits: list[Fit], yaw: np.ndarray, names: list[str]) -> list[Finding]:
    """Return what the overlaps of masks and template say about a set.

    A few dozen images say enough.
    """
    columns = ("iou", "flipped", "inverted", "width")
    iou, flipped, inverted, width = (
        np.array([getattr(fit, column) for fit in fits]) for column in columns
    )
    around = np.array(
        [(fit.inside & ~fit.outline).sum() / max((~fit.outline).sum(), 1) for fit in fits]
    )
    exchanged = (inverted > iou + 0.3) & (inverted > 0.4) & (around > 0.6)
    findings = findings_where("mask-inverted", exchanged, names)
    fair = ~exchanged
    if not fair.any():
        return findings
    median, sizes = float(np.median(iou[fair])), width[fair & np.isfinite(width)]
    factor = float(np.median(sizes)) if len(sizes) >= max(3, 0.2 * fair.sum()) else _HAIR
    if not _WIDTHS[0] < factor < _WIDTHS[1]:
        return [
            *findings,
            *findings_where("silhouette-scale", fair, names, values={"factor": factor / _HAIR}),
        ]
    turned = fair & (np.abs(yaw) > _TURNED) & (np.abs(yaw) < 180 - _TURNED)
    gain = (iou - flipped)[turned]
    if (
        len(gain) >= 8
        and gain.mean() < 0
        and gain.mean() * len(gain) ** 0.5 < _EVIDENCE * max(gain.std(), 1e-3)
    ):
        return [*findings, *findings_where("mirrored-poses", turned, names)]
    if median < _FAR:
        return [*findings, *findings_where("silhouette", fair & (iou < _FAR), names)]
    if slip := _slip(fits, fair, yaw):
        return [*findings, *findings_where("slipped", fair, names, values={"slip": slip})]
    odd = fair & (iou < _LOW) & (iou < median - _DROP)
    severity = {"severity": ERROR if odd.mean() > 0.2 else WARNING}
    return [*findings, *findings_where("silhouette-outlier", odd, names, **severity)]


def _slip(fits: list[Fit], fair: np.ndarray, yaw: np.ndarray) -> int:
    """By how many places the cameras of other images fit the masks clearly better than their own.

    0 if none do.
    """
    for offset in (1, -1, 2, -2):
        pairs = [(i, i + offset) for i in range(max(-offset, 0), len(fits) - max(offset, 0))]
        pairs = [
            (i, j) for i, j in pairs if fair[i] and fair[j] and abs(yaw[i] - yaw[j]) > 2 * _TURNED
        ]
        gain = np.array(
            [
                fits[i].iou - _overlap(fits[j].outline, fits[i].inside, fits[j].below)
                for i, j in pairs
            ]
        )
        if len(gain) >= _ENOUGH and gain.mean() * len(gain) ** 0.5 < _EVIDENCE * gain.std():
            return offset
    return 0
