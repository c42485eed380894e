"""How well heads made of a few views show other views, and where their surfaces lie.

What is scored (``Method``), on which heads, and how that looks.

Images are put over white by the data's masks. The views that judge are the same for every number
of inputs.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gghead import checkpoints
from gghead.cameras import Cameras
from gghead.checkpoints import snapshot_file
from gghead.data.captures import FRONT, Captures, ViewChoice, choose_views, spread
from gghead.figures import beside, to_uint8, with_labels, write_png
from gghead.gaussians import Gaussians
from gghead.models.generator import Generator
from gghead.models.reconstructor import Reconstructor
from gghead.reconstruction.config import NO_REFINEMENT, RefineConfig
from gghead.reconstruction.inputs import InputViews, from_captures
from gghead.reconstruction.refine import refine
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
YAWS = (*range(-75, 76, 10), 90, -90, 135, 180)  # degrees; cameras around generated heads
PITCHES = (15, -10, 5, 25, 0, -15, 10, 20)  # degrees, in turn
FOCAL = 2.9  # shows the whole head
_GAIN = 3  # of a sheet's errors, shown dark on white


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

    def has(self, method: str, views: int, subject: str, expression: str) -> bool:
        """Whether there is a record of this head."""
        head = {"subject": subject, "expression": expression}
        return any(head.items() <= record.items() for record in self.of(method, views))

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
    """Read the heads of captures one by one.

    Meshes are known of the first expression (the neutral one) only.

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


def are_gan_heads(data: str) -> bool:
    """Whether ``data`` (gan, or gan:SEEDS) means heads of the network's own generator."""
    return data == "gan" or data.startswith("gan:")


@torch.no_grad()
def gan_heads(
    model: Generator, seeds: Sequence[int], size: int, psi: float = 0.7
) -> Iterator[TestHead]:
    """Yield the heads of seeds, truncated to ``psi``, drawn in 8 bits over white from 20 cameras.

    Raises ``UserError`` for a generator that has never made heads of seeds: that of an encoder
    trained on captures alone.
    """
    if not bool(model.mapping.w_avg.any()):
        raise UserError(
            "The generator behind this encoder was not trained as a GAN, so its seeds are no heads;"
            " score an encoder that was trained from a GAN's generator."
        )
    yaw = torch.tensor(YAWS, dtype=torch.float32)
    pitch = torch.tensor(
        [PITCHES[index % len(PITCHES)] for index in range(len(YAWS))], dtype=torch.float32
    )
    cameras = Cameras.orbit(torch.deg2rad(yaw), torch.deg2rad(pitch), focal=FOCAL).to(model.device)
    names = tuple(f"{index:02d}" for index in range(len(YAWS)))
    for seed in seeds:
        ws = model.mapping(model.seed_to_z(seed), model.neutral_label(), psi)
        out = model.render(model.gaussians(ws), cameras, size, depth=False)
        rgb, alpha = (
            ((value[0].clamp(0, 1) * 255).round() / 255) for value in (out.color, out.alpha)
        )
        yield TestHead(str(seed), "0", InputViews(rgb, alpha, cameras, names))


def load_encoder(network: str | Path, device: torch.device) -> tuple[Path, Reconstructor]:
    """Load a reconstructor; return its file, too. Raises ``UserError`` as ``gghead.load``."""
    path = snapshot_file(network)
    return path, checkpoints.load(path, device=device, kind="reconstructor")


def encoder_method(model: Reconstructor, refinement: RefineConfig = NO_REFINEMENT) -> Method:
    """One pass of the encoder, then the steps of ``refinement`` on the views."""

    def encode(views: InputViews) -> tuple[Gaussians, dict]:
        latent = model.encode(views.rgb[None], views.cameras.reshape(1, len(views)))
        if refinement.steps:
            latent = refine(model.generator, latent, views, refinement)
        with torch.no_grad():
            return latent.gaussians(model.generator), {}

    return encode


def score(
    methods: dict[str, Method],
    heads: Iterable[TestHead],
    counts: Sequence[int],
    *,
    targets: int = 4,
    scores: Scores | None = None,
    # called after every record
    seen: Callable[[dict, Gaussians, InputViews, ViewChoice], None] = lambda *_: None,
) -> Scores:
    """Give every method the same views of every head, render the held-out ones, measure.

    What ``scores`` holds already is not made again. Raises ``UserError`` for more views than there
    are.
    """
    scores = scores if scores is not None else Scores()
    for test in heads:
        every = test.every
        choice = choose_views(every.names, every.cameras, counts, targets)
        front = every.cameras[(every.cameras.angles()[0].abs() < FRONT).nonzero()[:, 0]]
        for count in counts:
            for method, make in methods.items():
                if scores.has(method, count, test.subject, test.expression):
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


class ScoreSheet:
    """Collects rows of one head and writes them; two of the held-out views are shown."""

    def __init__(self, subject: str, expression: str) -> None:
        self.subject, self.expression = subject, expression
        self.rows: list[np.ndarray] = []
        self.labels: list[str] = []

    def add(self, record: dict, head: Gaussians, every: InputViews, choice: ViewChoice) -> None:
        """Take a row if the record is of this head."""
        if (record["subject"], record["expression"]) != (self.subject, self.expression):
            return
        shown = every.pick(spread(choice.targets, min(2, len(choice.targets))))
        values, color = compare(head, shown)
        error = 1 - (_GAIN * (color - shown.rgb).abs()).clamp(0, 1)
        cells = [montage(every.pick(choice.inputs[record["views"]]).rgb)]
        for index in range(len(shown)):
            cells += [to_uint8(color[index]), to_uint8(shown.rgb[index]), to_uint8(error[index])]
        self.rows.append(beside(cells))
        self.labels.append(
            f"{record['method']} {record['views']}: {float(values['psnr_mask'].mean()):.1f} dB"
        )

    def write(self, path: Path) -> None:
        """Write the PNG; nothing where no row was taken."""
        if not self.rows:
            return
        columns = [
            "inputs",
            *["reconstruction", "truth", f"error x{_GAIN}"]
            * ((self.rows[0].shape[1] // self.rows[0].shape[0] - 1) // 3),
        ]
        write_png(path, with_labels(np.concatenate(self.rows), columns, self.labels))


def montage(views: Tensor) -> np.ndarray:  # [V, 3, H, W] -> uint8 [H, W, 3]
    """All views in the area of one, white where the last line is not full."""
    height, width = views.shape[-2:]
    side = math.ceil(math.sqrt(len(views)))
    small = F.interpolate(views, size=(height // side, width // side), mode="area")
    canvas = torch.ones(3, height, width, device=views.device)
    for index, view in enumerate(small):
        top, left = (
            place * length
            for place, length in zip(divmod(index, side), view.shape[-2:], strict=True)
        )
        canvas[:, top : top + view.shape[-2], left : left + view.shape[-1]] = view
    return to_uint8(canvas)
