"""How variants of an avatar differ: a table of paired differences, a chart, close-ups side by
side."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from results import Chart, Line, write_charts
from torch import Tensor
from variants import VariantPlan, avatar_file, mean_score

from gghead.animation.frames import Frames, read_sequence, split_or_all
from gghead.animation.player import Player
from gghead.checkpoints import load
from gghead.figures import with_labels, write_png
from gghead.models.avatar import AvatarModel
from gghead.torch_utils.errors import UserError
from gghead.training.avatar.config import AvatarTrainConfig
from gghead.training.avatar.score import region_masks
from gghead.training.gan import images

_SHOWN = 6  # frames of a sheet of closeups
_BLOCKS = 10  # runs of neighboring frames that the standard error is taken over
_COLUMNS = {
    "psnr": ("PSNR", 2),
    "ssim": ("SSIM", 4),
    "l2": ("L2 x 1000", 2),
    "mouth_psnr": ("mouth", 2),
    "eyes_psnr": ("eyes", 2),
    "side_psnr": ("side", 2),
    "perceptual": ("perceptual", 4),
}
_SIZES = {"mouth": (144, 144), "eyes": (192, 84)}  # width and height of a cut-out in pixels


def table(rows: Sequence[dict], variants: Sequence[str]) -> str:
    """The last iteration in Markdown: means over frames and seeds, and in brackets the mean paired
    difference from the first variant with its standard error over blocks of frames.

    "by seed" has the difference in PSNR for each seed, whose spread is what another training
    changes.
    """
    last = max(row["iteration"] for row in rows)
    rows = [row for row in rows if row["iteration"] == last]
    keys = [key for key in _COLUMNS if any(key in frame for row in rows for frame in row["frames"])]
    first = [row for row in rows if row["variant"] == variants[0]]
    lines = [
        [
            "variant",
            *(_COLUMNS[key][0] for key in keys),
            "by seed",
            "spread over frames",
            "Gaussians",
        ]
    ]
    for name in variants:
        own, cells = [row for row in rows if row["variant"] == name], []
        matched = [(row, other) for row in own for other in first if row["seed"] == other["seed"]]
        for key in keys:
            factor, digits = (1000 if key == "l2" else 1), _COLUMNS[key][1]
            cells.append(f"{mean_score(own, key) * factor:.{digits}f}")
            if name != variants[0] and matched:
                mean, error = block_error(
                    factor * np.mean([pair_differences(*pair, key) for pair in matched], 0)
                )
                cells[-1] += f" ({mean:+.{digits}f} ± {error:.{digits}f})"
        by_seed = (
            ", ".join(f"{pair_differences(*pair).mean():+.2f}" for pair in matched)
            if name != variants[0]
            else ""
        )
        spread = np.std([frame["psnr"] for row in own for frame in row["frames"]])
        lines.append(
            [
                name,
                *cells,
                by_seed,
                f"{spread:.2f}",
                f"{np.mean([row['gaussians'] for row in own]):.0f}",
            ]
        )
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def pair_differences(row: dict, other: dict, key: str = "psnr") -> np.ndarray:  # [frames]
    """Differences, frame by frame, of two rows over the same frames."""
    return np.array(
        [a[key] - b[key] for a, b in zip(row["frames"], other["frames"], strict=True) if key in a]
    )


def block_error(values: np.ndarray) -> tuple[float, float]:
    """Mean of a series and its standard error over ten blocks of neighbors (fewer where it is
    short)."""
    blocks = [block.mean() for block in np.array_split(values, min(_BLOCKS, len(values)))]
    error = np.std(blocks, ddof=1) / np.sqrt(len(blocks)) if len(blocks) > 1 else float("nan")
    return float(values.mean()), float(error)


def draw(
    rows: Sequence[dict],
    variants: Sequence[str],
    path: Path,
    labels: Sequence[str],
    title: str = "held-out frames",
) -> None:
    """Write PSNR against iterations, a line per variant: means over frames and seeds."""
    lines = []
    for name, label in zip(variants, labels, strict=True):
        own = [row for row in rows if row["variant"] == name]
        steps = sorted({row["iteration"] for row in own})
        lines.append(
            Line(
                label,
                [
                    (step, mean_score([row for row in own if row["iteration"] == step], "psnr"))
                    for step in steps
                ],
            )
        )
    write_charts(path, [Chart(title, "iterations", "PSNR, dB", lines)], size=(560, 360))


def closeup_sheet(
    config: AvatarTrainConfig,
    plan: VariantPlan,
    outdir: Path,
    path: Path,
    region: str,
    chosen: Sequence[int] | None,
    labels: Sequence[str],
) -> None:
    """Write what ``measure`` trained with the first seed beside the truth: ``region`` in the
    ``chosen`` frames."""
    avatars = [
        load(avatar_file(outdir, name, plan.seeds[0]), kind="avatar") for name in plan.variants
    ]
    sequence = read_sequence(config.data, config.resolution, config.extras, config.coefficients)
    frames = Frames(split_or_all(sequence, plan.split), config.cache_mb)
    evenly = np.linspace(0, len(frames) - 1, min(_SHOWN, len(frames))).round().astype(int).tolist()
    write_png(path, closeups(avatars, labels, frames, chosen or evenly, region))
    sequence.close()


@torch.no_grad()
def closeups(
    avatars: Sequence[AvatarModel],
    labels: Sequence[str],
    frames: Frames,
    chosen: Sequence[int],
    region: str,
) -> np.ndarray:  # uint8 [H, W, 3]
    """A column per chosen frame (its place in ``frames``); a row for the truth and one per avatar.

    ``region`` is a key of ``score.REGIONS``. Raises ``UserError`` for frames that there are not or
    whose landmarks are missing.
    """
    players, rows = [Player(avatar) for avatar in avatars], [[] for _ in range(1 + len(avatars))]
    for index in chosen:
        if not 0 <= index < len(frames):
            raise UserError(
                f"There is no frame {index} to cut out of; the frames are 0 to {len(frames) - 1}."
            )
        mask = region_masks(frames, index).get(region)
        if mask is None:
            raise UserError(
                f"Frame {index} has no {region} to cut out: it is out of sight, or the sequence has"
                " no 68 landmarks."
            )
        shown = [
            player.draw(
                frames.expression[index][: player.avatar.config.width],
                frames.camera(index),
                frames.size,
            )
            for player in players
        ]  # avatars of fewer coefficients take the first
        for row, image in zip(rows, [frames.over(index), *shown], strict=True):
            row.append(_cut_out(image.cpu(), mask[0], *_SIZES[region]))
    sheet = images.make_grid(
        torch.cat([torch.stack(row) for row in rows]) * 2 - 1, (len(chosen), len(rows))
    )
    return with_labels(sheet, [str(index) for index in chosen], ["truth", *labels])


# [3, H, W], [H, W] -> [3, h, w]
def _cut_out(image: Tensor, mask: Tensor, width: int, height: int) -> Tensor:
    """The smallest rectangle of this shape around the mask that lies in the image, at this
    size."""
    shape, lines = (height, width), (mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0])
    scale = max(len(line) / side for line, side in zip(lines, shape, strict=True))
    scale = min(scale, *(most / side for most, side in zip(mask.shape, shape, strict=True)))
    parts = []
    for line, side, most in zip(lines, shape, mask.shape, strict=True):
        count = min(max(round(scale * side), 1), most)
        first = int((line[0] + line[-1] + 1 - count) // 2)
        first = min(max(first, 0), most - count)
        parts.append(slice(first, first + count))
    return F.interpolate(image[None, :, *parts], shape, mode="bicubic", align_corners=False)[
        0
    ].clamp(0, 1)
