"""How quality grows with identities, input views, cameras and width: HeadsUp's scaling curves in
small.

Every point is an encoder of its own, trained for the same number of steps and scored on the same
people: unseen ones, and some of those that every encoder was trained on, so that learning by heart
shows. All axes meet in one base.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from results import Chart, Line, read_rows, write_charts, write_rows

from gghead.data.captures import Captures
from gghead.torch_utils import config as config_json
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.files import make_folder
from gghead.torch_utils.progress import progress
from gghead.training.encoder.config import PRESETS, EncoderTrainConfig
from gghead.training.encoder.data import CaptureHeads, read_captures
from gghead.training.encoder.run import run
from gghead.training.encoder.score import capture_heads, encoder_method, load_encoder, score
from gghead.training.run import run_folder

RESULTS = "scaling.json"
AXES = {
    "identities": "identities seen in training",
    "cameras": "cameras of each head in training",
    "width": "width of the tokens",
    "guided": "1: looks up where texels project to, 0: plain cross-attention",
}
PEOPLE = {"unseen": "unseen people", "seen": "training people"}

# 4,096 Gaussians, 256 tokens, images of 64 pixels a side, 64 tokens per view: about 0.15 seconds
# a step of one core.
QUICK = config_json.replace(
    PRESETS["tiny"],
    {
        "preset": "quick",
        "steps": 600,
        "tick": 100,
        "rates": {"warmup": 60},
        "model": {
            "width": 64,
            "channels": [32, 64, 96],
            "layers": 2,
            "corrections": 0,
            "generator": {
                "plane_resolution": 64,
                "latent_resolution": 16,
                "cbase": 1024,
                "cmax": 64,
                "grid": 64,
                "image_size": 64,
            },
        },
        "stages": [{"image_size": 64, "views": [1, 2, 4], "targets": 4, "batch": 4}],
    },
)
BASES = {"quick": QUICK, "tiny": PRESETS["tiny"], "small": PRESETS["small"]}
"""What an encoder is where no axis changes it."""


@dataclass(frozen=True)
class ScalingPlan:
    """Which encoders are trained, and how they are judged."""

    values: dict[str, tuple[int, ...]]
    """Axis -> its values; the other axes stay as the config has them."""
    unseen: tuple[str, ...]
    """Held-out people to score on."""
    seen: tuple[str, ...]
    """People to score on that every encoder is trained on."""
    counts: tuple[int, ...] = (1, 2, 4, 8)
    """Numbers of input views to score."""
    targets: int = 4
    """Views that judge."""


def config_at(config: EncoderTrainConfig, axis: str, value: int) -> EncoderTrainConfig:
    """The config with one axis changed. Raises ``UserError`` for an unknown axis."""
    if axis not in AXES:
        raise UserError(f"There is no scaling axis '{axis}'; choose from {', '.join(AXES)}.")
    part = "model" if axis in ("width", "guided") else "data"
    return config_json.replace(config, {part: {axis: bool(value) if axis == "guided" else value}})


def place(config: EncoderTrainConfig) -> dict[str, int]:
    """Where a config stands on every axis."""
    return {
        axis: int(getattr(config.model if axis in ("width", "guided") else config.data, axis))
        for axis in AXES
    }


def complete(config: EncoderTrainConfig, captures: Captures) -> EncoderTrainConfig:
    """The config with "all identities" and "all cameras" as the numbers that they are in these
    captures."""
    heads = CaptureHeads(captures, config.data, config.stages[0].image_size)
    return config_json.replace(
        config,
        {
            "data": {
                "identities": heads.subjects,
                "cameras": max(len(group) for group in heads.heads),
            }
        },
    )


def measure(
    config: EncoderTrainConfig,
    plan: ScalingPlan,
    outdir: Path,
    device: torch.device,
    say: Callable[[str], object] = print,
) -> list[dict]:
    """Train and score what is not yet in ``scaling.json``; return all points, the base first.

    Repeating the command continues, also in the middle of a training that was interrupted. Raises
    ``UserError`` as training and scoring do, for more identities or cameras than there are, and for
    results of other settings.
    """
    path = outdir / RESULTS
    make_folder(outdir)
    with progress(f"Reading {config.data.path}"):
        captures = read_captures(config.data.path)
        base = complete(config, captures)
    wanted = [base] + [
        config_at(base, axis, value) for axis, values in plan.values.items() for value in values
    ]
    for changed in wanted:
        for axis in ("identities", "cameras"):
            most, value = place(base)[axis], place(changed)[axis]
            if value > most:
                raise UserError(
                    f"--{axis} asks for {value}, but {config.data.path} has {most} to train on; ask"
                    " for fewer."
                )
    settings = {
        "config": config_json.to_dict(base),
        "unseen": list(plan.unseen),
        "seen": list(plan.seen),
        "counts": list(plan.counts),
        "targets": plan.targets,
    }
    points = read_rows(path, settings, "scaling_curves.py")
    for changed in wanted:
        at = place(changed)
        if any(point["at"] == at for point in points):
            continue
        say("training with " + ", ".join(f"{axis}={value}" for axis, value in at.items()))
        folder = run(
            changed, outdir / "runs", device, resume=_find_interrupted(outdir / "runs", changed)
        )
        assert folder is not None  # a single process is the first one
        _, model = load_encoder(folder, device)
        resized = captures.resize(base.stages[-1].image_size)
        point = {"at": at, "run": folder.name}
        for people in PEOPLE:
            heads = capture_heads(resized, getattr(plan, people), device=device)
            point[people] = score(
                {"encoder": encoder_method(model)}, heads, plan.counts, targets=plan.targets
            ).means()
            say(
                f"  {PEOPLE[people]}, dB in mask: "
                + ", ".join(f"N={row['views']} {row['psnr_mask']:.2f}" for row in point[people])
            )
        points.append(point)
        write_rows(path, settings, points)
    return points


def _find_interrupted(runs: Path, config: EncoderTrainConfig) -> Path | None:
    """The run of this very config that has saved a state but was not scored."""
    for folder in sorted(runs.glob("*-*"), reverse=True):
        if (
            any(folder.glob("training-state-*.pt"))
            and run_folder.read_options(folder, EncoderTrainConfig) == config
        ):
            return folder
    return None


def curve(points: Sequence[dict], axis: str) -> list[dict]:
    """The points that differ from the base (the first) at most along ``axis``, in its order."""
    base = points[0]["at"]
    return sorted(
        (point for point in points if {**point["at"], axis: base[axis]} == base),
        key=lambda point: point["at"][axis],
    )


def draw(
    points: Sequence[dict],
    path: Path,
    counts: Sequence[int] = (1, 4),
    key: str = "psnr_mask",
    name: str = "PSNR in mask, dB",
) -> None:
    """Write one chart per axis with two values and more, side by side, and one against the number
    of input views.

    A line per number of input views (of ``counts``) and people; the last chart has the base and, if
    it was trained, the encoder without guidance.
    """

    def figures(point: dict, people: str) -> dict[int, float]:
        return {row["views"]: row[key] for row in point[people]}

    charts = []
    for axis in AXES:
        found = curve(points, axis)
        if axis == "guided" or len(found) < 2:
            continue
        lines = [
            Line(
                f"N = {count}, {who}",
                [(point["at"][axis], figures(point, people)[count]) for point in found],
            )
            for count in sorted(counts, reverse=True)
            for people, who in reversed(PEOPLE.items())
            if count in figures(found[0], people)
        ]
        charts.append(Chart(axis, AXES[axis], name, lines, log_x=True))
    lines = [
        Line(
            f"{'guided' if point['at']['guided'] else 'plain cross-attention'}, {who}",
            list(figures(point, people).items()),
        )
        for point in reversed(curve(points, "guided"))
        for people, who in reversed(PEOPLE.items())
    ]
    charts.append(Chart("input views", "input views N", name, lines, log_x=True))
    write_charts(path, charts)


def table(points: Sequence[dict], key: str = "psnr_mask", digits: int = 2) -> str:
    """All points in Markdown: what differs from the base, and a figure per number of input views
    and people."""
    base = points[0]["at"]
    counts = [row["views"] for row in points[0]["unseen"]]
    heads = [f"{who}, N = {count}" for who in PEOPLE.values() for count in counts]
    lines = ["| | " + " | ".join(heads) + " |", "|---" * (1 + len(heads)) + "|"]
    for axis in AXES:
        for point in curve(points, axis):
            if point["at"] != base or (axis == "identities"):
                said = ", ".join(
                    f"{name} {value}"
                    for name, value in point["at"].items()
                    if point["at"] == base or value != base[name]
                )
                cells = [f"{row[key]:.{digits}f}" for people in PEOPLE for row in point[people]]
                lines.append(f"| {said} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
