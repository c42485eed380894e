"""How held-out quality grows with identities, cameras and width: HeadsUp's scaling curves in small.

Every point is an encoder of its own, trained for the same number of steps and scored on the same held-out people.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from gghead.charts import Line, line_chart
from gghead.sheets import write_png
from torch_utils import config as config_json
from torch_utils.errors import UserError
from torch_utils.files import write_atomically
from training.encoder.config import EncoderTrainConfig
from training.encoder.data import read_captures
from training.encoder.methods import encoder_method, load_encoder
from training.encoder.run import run
from training.encoder.score import capture_heads, score

RESULTS = "scaling.json"
AXES = {"identities": ("people", "identities seen in training"), "cameras": ("cameras", "cameras of each head"),
        "width": ("width", "width of the tokens")}


@dataclass(frozen=True)
class ScalingPlan:
    """Which encoders are trained, and how they are judged."""

    values: dict[str, tuple[int, ...]]
    """Axis (identities, cameras, width) -> its values; the other axes stay as the config has them."""
    subjects: tuple[str, ...]
    """Held-out people to score on."""
    counts: tuple[int, ...] = (1, 4)
    """Numbers of input views to score."""
    targets: int = 4
    """Views that judge."""


def config_at(config: EncoderTrainConfig, axis: str, value: int) -> EncoderTrainConfig:
    """The config with one axis changed. Raises ``UserError`` for an unknown axis."""
    if axis not in AXES:
        raise UserError(f"There is no scaling axis '{axis}'; choose from {', '.join(AXES)}.")
    part = "model" if axis == "width" else "data"
    return config_json.replace(config, {part: {axis: value}})


def measure(config: EncoderTrainConfig, plan: ScalingPlan, outdir: Path, device: torch.device,
            say: Callable[[str], object] = print) -> list[dict]:
    """Train and score what is not yet in ``scaling.json``; return all points. Repeating the command continues.

    Raises ``UserError`` as training and scoring do, and for results of other settings in the folder.
    """
    path = outdir / RESULTS
    outdir.mkdir(parents=True, exist_ok=True)
    settings = {"config": config_json.to_dict(config), "subjects": list(plan.subjects), "counts": list(plan.counts),
                "targets": plan.targets}
    points = _read(path, settings)
    captures = read_captures(config.data.path)
    for axis, values in plan.values.items():
        for value in values:
            if any((point["axis"], point["value"]) == (axis, value) for point in points):
                continue
            say(f"training with {AXES[axis][0]} = {value}")
            folder = run(config_at(config, axis, value), outdir / "runs", device)
            _, model = load_encoder(folder, device)
            size = config.stages[-1].image_size
            scores = score({"encoder": encoder_method(model)},
                           capture_heads(captures.resized(size), plan.subjects, device=device), plan.counts,
                           targets=plan.targets)
            points.append({"axis": axis, "value": value, "run": folder.name, "means": scores.means()})
            text = json.dumps({"settings": settings, "points": points}, indent=1) + "\n"
            write_atomically(path, lambda file, text=text: file.write(text.encode()))
            say("  " + ", ".join(f"N={row['views']}: {row['psnr_mask']:.2f} dB" for row in points[-1]["means"]))
    return points


def _read(path: Path, settings: dict) -> list[dict]:
    if not path.is_file():
        return []
    try:
        content = json.loads(path.read_bytes())
        known, points = content["settings"], content["points"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no file of scaling_curves.py ({error}); remove it or choose another --outdir.") \
            from error
    if known != settings:
        raise UserError(f"{path} was made with other settings; choose another --outdir.")
    return points


def draw(points: Sequence[dict], path: Path, key: str = "psnr_mask", name: str = "PSNR in mask, dB") -> None:
    """Write one chart per axis, side by side, with a line per number of input views. Raises ``UserError`` without a
    point."""
    charts = []
    for axis, (_, x_name) in AXES.items():
        own = sorted((point for point in points if point["axis"] == axis), key=lambda point: point["value"])
        if not own:
            continue
        views = [row["views"] for row in own[0]["means"]]
        lines = [Line(f"{count} input view{'s'[: count > 1]}",
                      [(point["value"], row[key]) for point in own for row in point["means"] if row["views"] == count])
                 for count in views]
        charts.append(line_chart(lines, f"held-out people, held-out views: {axis}", x_name, name, log_x=True))
    if not charts:
        raise UserError("There are no points to draw; train at least one encoder.")
    write_png(path, np.concatenate(charts, axis=1))
