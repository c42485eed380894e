"""How well heads made of a few views show the views that were not given, and where their surfaces
lie.

Pictures are put over white by the data's masks. The views that judge are the same for every number
of inputs.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from gghead.data.captures import FRONT, Captures, ViewChoice, choose_views
from gghead.gaussians import Gaussians
from gghead.reconstruction.inputs import InputViews, from_captures
from gghead.reconstruction.report import compare
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.files import write_atomically
from gghead.training.encoder.losses import TrueSurface, mean_distance, read_surface

Method = Callable[[InputViews], tuple[Gaussians, dict]]
"""Views -> head, batch shape (1,), and what to record."""

COLUMNS = {
    "psnr_mask": ("PSNR in mask", 2),
    "psnr": ("PSNR", 2),
    "ssim": ("SSIM", 3),
    "iou": ("mask IoU", 3),
    "inputs_psnr_mask": ("inputs", 2),
    "behind_psnr_mask": ("behind", 2),
    "distance": ("distance %", 2),
    "seconds": ("seconds", 2),
}


@dataclass
class Scores:
    """One record per method, number of views, subject and expression."""

    records: list[dict] = field(default_factory=list)

    def of(self, method: str, views: int) -> list[dict]:
        return [
            record
            for record in self.records
            if record["method"] == method and record["views"] == views
        ]

    def means(self) -> list[dict]:
        """One row per method and number of views, in order of appearance."""
        rows = []
        for method, views in dict.fromkeys(
            (record["method"], record["views"]) for record in self.records
        ):
            found = self.of(method, views)
            row = {"method": method, "views": views, "heads": len(found)}
            for key in COLUMNS:
                values = [record[key] for record in found if record.get(key) is not None]
                if values:
                    row[key] = round(float(np.mean(values)), 4)
            rows.append(row)
        return rows

    def gains(self, method: str, opponent: str, key: str = "psnr_mask") -> list[dict]:
        """One figure of one method minus that of another on the heads that both have, per number of
        views."""
        rows = []
        for views in dict.fromkeys(record["views"] for record in self.records):
            theirs = {_head(record): record[key] for record in self.of(opponent, views)}
            ours = {_head(record): record[key] for record in self.of(method, views)}
            gains = [ours[head] - theirs[head] for head in ours if head in theirs]
            if gains:
                rows.append(
                    {
                        "views": views,
                        "heads": len(gains),
                        "gain": round(float(np.mean(gains)), 4),
                        "least": round(min(gains), 4),
                    }
                )
        return rows


def _head(record: dict) -> tuple[str, str]:
    return record["subject"], record["expression"]


@dataclass(frozen=True, eq=False)
class TestHead:
    """A head whose every view is known."""

    __test__ = False  # no test of pytest's

    subject: str
    expression: str
    every: InputViews
    surface: TrueSurface | None = None


def capture_heads(
    captures: Captures,
    subjects: Iterable[str],
    expressions: Sequence[str] | None = None,
    geometry: Path | None = None,
    device: torch.device | str = "cpu",
) -> Iterator[TestHead]:
    """Read the heads of captures one by one; meshes are known of the first expression (the neutral
    one) only.

    Raises ``UserError`` for subjects and expressions that do not exist.
    """
    for subject in subjects:
        known = captures.expressions_of(subject)
        for expression in expressions or known:
            surface = (
                read_surface(geometry, subject)
                if geometry is not None and expression == known[0]
                else None
            )
            yield TestHead(
                subject,
                expression,
                from_captures(captures, subject, expression, device=device),
                surface,
            )


def score(
    methods: dict[str, Method],
    heads: Iterable[TestHead],
    counts: Sequence[int],
    *,
    targets: int = 4,
    limits: dict[str, tuple[str, ...]] | None = None,  # method -> the only subjects it is tried on
    scores: Scores | None = None,
    # called after every record
    seen: Callable[[dict, Gaussians, InputViews, ViewChoice], None] = lambda *_: None,
) -> Scores:
    """Give every method the same views of every head, render the held-out ones, measure.

    Raises ``UserError`` for more views than there are.
    """
    scores = scores if scores is not None else Scores()
    for test in heads:
        every = test.every
        choice = choose_views(every.names, every.cameras, counts, targets)
        front = every.cameras[(every.cameras.angles()[0].abs() < FRONT).nonzero()[:, 0]]
        for count in counts:
            for method, make in methods.items():
                if limits and test.subject not in limits.get(method, (test.subject,)):
                    continue
                given = every.pick(choice.inputs[count])
                begin = time.perf_counter()
                head, about = make(given)
                seconds = time.perf_counter() - begin
                record = {
                    "method": method,
                    "views": count,
                    "subject": test.subject,
                    "expression": test.expression,
                    "seconds": round(seconds, 3),
                    **about,
                    **_judge(head, every, choice, count),
                }
                if test.surface is not None:
                    record["distance"] = round(
                        mean_distance(head, front, every.size, test.surface), 4
                    )
                scores.records.append(record)
                seen(record, head, every, choice)
    return scores


def _judge(head: Gaussians, every: InputViews, choice: ViewChoice, count: int) -> dict:
    unseen = [name for name in choice.behind if name not in choice.inputs[count]]
    parts = {"": choice.targets, "inputs_": choice.inputs[count], "behind_": unseen}
    return {
        prefix + key: value
        for prefix, names in parts.items()
        if names
        for key, value in means_over_views(head, every.pick(names)).items()
    }


def means_over_views(head: Gaussians, truth: InputViews) -> dict[str, float]:
    """The figures of ``compare``, averaged over the views."""
    return {name: round(float(value.mean()), 4) for name, value in compare(head, truth)[0].items()}


def table(scores: Scores) -> str:
    """Return means as text: a line per method and number of views."""
    rows = scores.means()
    keys = [key for key in COLUMNS if any(key in row for row in rows)]
    lines = [f"{'method':10s} views heads  " + "  ".join(f"{COLUMNS[key][0]:>12s}" for key in keys)]
    for row in rows:
        cells = [
            f"{row[key]:12.{COLUMNS[key][1]}f}" if key in row else f"{'-':>12s}" for key in keys
        ]
        lines.append(
            f"{row['method']:10s} {row['views']:5d} {row['heads']:5d}  " + "  ".join(cells)
        )
    return "\n".join(lines)


def write_scores(path: Path, header: dict, scores: Scores) -> None:
    """Write what was scored, the means and every record, whole or not at all."""
    text = (
        json.dumps({**header, "means": scores.means(), "records": scores.records}, indent=1) + "\n"
    )
    write_atomically(path, lambda file: file.write(text.encode()))


def read_records(path: Path, methods: tuple[str, ...]) -> list[dict]:
    """Read the records of these methods from an earlier ``scores.json``; raises ``UserError`` if it
    has none."""
    try:
        found = [
            record
            for record in json.loads(path.read_bytes())["records"]
            if record["method"] in methods
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no scores.json of score_encoder.py ({error}); name another one."
        ) from error
    if not found:
        raise UserError(
            f"{path} holds no scores of a {' or '.join(methods)}; "
            "run score_encoder.py with --baseline-seconds."
        )
    return found
