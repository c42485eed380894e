"""How well a head that was seen neutral shows a captured expression.

The cameras were no input.

Methods: ``neutral`` (as it is), ``blendshapes`` (no training), ``transformer`` (where one is
given), and what the reconstructor could do at best: ``encoded``, the expression encoded from its
own images by the same cameras.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gghead.animation.animate import BLENDSHAPES, Motion, animate_gaussians, sliders
from gghead.cameras import Cameras
from gghead.data.captures import Captures, Views
from gghead.figures import with_labels
from gghead.gaussians import Gaussians
from gghead.image_metrics import psnr
from gghead.models.expression import ExpressionModel
from gghead.models.reconstructor import Reconstructor
from gghead.rendering import render
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.files import write_atomically
from gghead.torch_utils.progress import progress
from gghead.training.avatar.score import region_boxes
from gghead.training.expression.data import Pair, pairs_of
from gghead.training.gan import images

# cosine of the largest angle between face and camera at which mouth and eyes are measured apart
_FACING = 0.5
_SHEET_ROWS = 3


@dataclass(frozen=True, eq=False)
class Trial:
    """A pair of moments, scored."""

    record: dict
    """Subject, coefficients, and {method: {"psnr", "mouth_psnr", "eyes_psnr"}}."""
    images: dict[str, Tensor]
    """Truth, neutral truth and methods [3, H, W], the face at the target camera that it looks at
    most."""


@torch.no_grad()
def score(
    captures: Captures,
    model: Reconstructor,
    motion: ExpressionModel | None = None,
    views: int = 8,
    size: int | None = None,
) -> list[Trial]:
    """One trial per pair of neutral moment and expression.

    Raises ``UserError`` for captures without such pairs.
    """
    size = size or model.generator.config.image_size
    if motion is not None:
        motion.check(model.generator)
    captures = captures.resize(size)
    pairs, trials = pairs_of(captures), []
    with progress("Scoring", len(pairs), "expressions") as bar:
        for pair in pairs:
            trials.append(_trial(captures, pair, model, motion, views, size))
            bar.advance()
    return trials


def _trial(
    captures: Captures,
    pair: Pair,
    model: Reconstructor,
    motion: ExpressionModel | None,
    views: int,
    size: int,
) -> Trial:
    seen = [captures.camera_names[code] for code in captures.camera[pair.expression]]
    inputs, targets = split_cameras(seen, views, pair.subject)
    neutral, expression = (
        captures.moments[captures.moment[frames[0]]] for frames in (pair.neutral, pair.expression)
    )
    source = [captures.views(pair.subject, moment, inputs) for moment in (neutral, expression)]
    truth = captures.views(pair.subject, expression, targets)
    latent, encoded = (
        model.encode(over_white(part)[None], part.cameras.reshape(1, -1)) for part in source
    )
    heads = {"neutral": latent.gaussians(model.generator)}
    ways: tuple[tuple[str, Motion | None], ...] = (
        ("blendshapes", BLENDSHAPES),
        ("transformer", motion),
    )
    for name, way in ways:
        if way is not None:
            table, _ = sliders(model.generator, way).take(
                captures.coefficient_names or (),
                pair.table[None],
                str(captures.images.source.path),
            )
            heads[name] = animate_gaussians(latent, table, model.generator, way)
    heads["encoded"] = encoded.gaussians(model.generator)
    wanted, mask, regions = (
        over_white(truth),
        truth.alpha.float() / 255,
        _regions(captures, truth, (size, size)),
    )
    facing = _facing(truth.cameras)
    record = {
        "subject": pair.subject,
        "expression": expression,
        "inputs": inputs,
        "cameras": targets,
        "coefficients": dict(
            zip(captures.coefficient_names or (), pair.table.tolist(), strict=False)
        ),
    }
    front = int(facing.argmax())
    first = captures.views(pair.subject, neutral, [targets[front]])
    drawn = {"neutral truth": over_white(first)[0], "truth": wanted[front]}
    for name, head in heads.items():
        shown = _render(head, truth.cameras, size)
        record[name] = {"psnr": float(psnr(shown, wanted, mask).mean())}
        for region, boxes in regions.items():
            values = [float(psnr(shown[index], wanted[index], box)) for index, box in boxes.items()]
            if values:
                record[name][f"{region}_psnr"] = float(np.mean(values))
        drawn[name] = shown[front]
    return Trial(
        record, {name: _close(image, captures, truth, front) for name, image in drawn.items()}
    )


def _close(image: Tensor, captures: Captures, views: Views, view: int) -> Tensor:
    """The face, twice as large, where there are landmarks; else the whole image."""
    landmarks, size = captures.landmarks, image.shape[-1]
    if landmarks is None:
        return image
    middle = landmarks[int(views.indices[view])].float().mean(0)
    (place,), _ = views.cameras[view].project(middle[None])
    column, row = (size * place - size / 4).round().clamp(0, size - size // 2).int().tolist()
    part = image[None, :, row : row + size // 2, column : column + size // 2]
    return F.interpolate(part, scale_factor=2, mode="bicubic", antialias=True)[0].clamp(0, 1)


def split_cameras(names: list[str], views: int, subject: str) -> tuple[list[str], list[str]]:
    """``views`` cameras spread evenly over the list, and the others.

    Raises ``UserError`` if none would be left.
    """
    if views >= len(names):
        raise UserError(
            f"Subject {subject} was seen by {len(names)} cameras, so `views={views}` leaves none to"
            " compare with; choose fewer."
        )
    chosen = np.unique(np.linspace(0, len(names) - 1, views).round().astype(int))
    return [names[index] for index in chosen], [
        name for index, name in enumerate(names) if index not in chosen
    ]


def over_white(views: Views) -> Tensor:  # [V, 3, H, W] in [0, 1]
    """The images put over white by their masks."""
    return views.over_white()


def _render(head: Gaussians, cameras: Cameras, size: int) -> Tensor:  # [V, 3, S, S]
    cameras = cameras.reshape(1, -1).to(head.device)
    return render(head, cameras, size, background=1.0, depth=False).color[0].clamp(0, 1).cpu()


def _facing(cameras: Cameras) -> Tensor:  # [V]
    """Cosine of the angle between where the face looks (+z) and the camera."""
    return cameras.position[:, 2] / cameras.position.norm(dim=1)


def _regions(
    captures: Captures, views: Views, size: tuple[int, int]
) -> dict[str, dict[int, Tensor]]:
    """{"mouth", "eyes"} -> {view: box [1, H, W]} for views that face the head.

    Empty without landmarks.
    """
    found: dict[str, dict[int, Tensor]] = {}
    landmarks = captures.landmarks
    if landmarks is None or landmarks.shape[1] != 68:
        return found
    for index in (_facing(views.cameras) > _FACING).nonzero()[:, 0].tolist():
        boxes = region_boxes(
            landmarks[int(views.indices[index])], views.cameras[index : index + 1], size
        )
        for name, box in boxes.items():
            found.setdefault(name, {})[index] = box
    return found


def means(trials: list[Trial]) -> dict[str, dict[str, float]]:
    """{method: {metric: mean over trials}}, and ``better``.

    The latter says how often a method beats the neutral head.
    """
    records = [trial.record for trial in trials]
    methods = [
        name for name in ("neutral", "blendshapes", "transformer", "encoded") if name in records[0]
    ]
    result = {}
    for method in methods:
        keys = sorted(
            {key for record in records for key in record[method]},
            key=lambda key: (key != "psnr", key),
        )
        result[method] = {
            key: float(np.mean([r[method][key] for r in records if key in r[method]]))
            for key in keys
        }
        result[method]["better"] = float(
            np.mean([r[method]["psnr"] > r["neutral"]["psnr"] for r in records])
        )
    return result


def table(results: dict[str, dict[str, float]]) -> str:
    """The means as lines of text, a method each."""
    keys = list(results["neutral"])
    lines = ["".join([f"{'':<13s}", *(f"{key:>12s}" for key in keys)])]
    for method, values in results.items():
        lines.append(
            "".join([f"{method:<13s}", *(f"{values.get(key, float('nan')):12.2f}" for key in keys)])
        )
    return "\n".join(lines)


def write_report(outdir: Path, header: dict, trials: list[Trial]) -> None:
    """Write ``scores.json`` and ``sheet.png``.

    The sheet has a row per trial, those first in which the expressions change most.
    """
    report = {**header, "results": means(trials), "trials": [trial.record for trial in trials]}
    write_atomically(
        outdir / "scores.json",
        lambda file: file.write((json.dumps(report, indent=1) + "\n").encode()),
    )
    rows = sorted(
        trials,
        key=lambda trial: trial.record["neutral"].get(
            "mouth_psnr", trial.record["neutral"]["psnr"]
        ),
    )
    rows = rows[:_SHEET_ROWS]
    columns = list(rows[0].images)
    grid = torch.stack([trial.images[name] for trial in rows for name in columns])
    sheet = images.make_grid(grid * 2 - 1, (len(columns), len(rows)))
    images.save_image(
        with_labels(sheet, columns, [trial.record["subject"] for trial in rows]),
        outdir / "sheet.png",
    )
