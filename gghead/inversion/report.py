"""What inversion leaves behind for people.

Images, strips, videos and metrics of every target, and a table of all.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gghead.figures import beside, to_uint8, with_labels, write_png
from gghead.inversion.cameras import cameras_of, turn_cameras
from gghead.inversion.objective import draw
from gghead.inversion.stages import StageResult
from gghead.latent_stages import STAGES
from gghead.models.generator import Generator
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.files import write_atomically
from gghead.video import save_video

NOVEL_YAWS = (-25.0, -12.0, 0.0, 12.0, 25.0)  # degrees from the image's own camera
_DRAWN = 128  # pixels of a view in strips; larger where the network is
_SHEET_ROWS = 40
METRICS = "metrics.json"


@torch.no_grad()
def novel_views(model: Generator, result: StageResult) -> np.ndarray:  # uint8 [B, V, H, W, 3]
    """Draw the heads from around their images' cameras, at ``NOVEL_YAWS``."""
    cameras = turn_cameras(cameras_of(result.latent), list(NOVEL_YAWS))
    size = max(model.config.image_size, _DRAWN)
    return to_uint8(
        draw(model, result.latent.gaussians(model), result.latent.ws, cameras, size).color
    )


def save_images(
    folder: Path,
    results: Sequence[StageResult],
    views: Sequence[np.ndarray],
    index: int,
    video: str | None,
) -> None:
    """Write the images of target ``index`` of a batch.

    ``views`` are those of ``novel_views``, stage by stage.

    target.png, <stage>.png, strip.png (a row per stage, from -25 to +25 degrees), row.png (this
    target's row of the contact sheet) and optimization.webp or .mp4.
    """
    wanted = to_uint8(results[0].wanted[index])
    write_png(folder / "target.png", wanted)
    for result in results:
        write_png(folder / f"{result.stage}.png", to_uint8(result.color[index]))
    side = views[0].shape[2]
    large = _enlarge(wanted, side)
    rows = [beside([large, *stage[index]]) for stage in views]
    columns = ["target", *(f"{yaw:+.0f}°" if yaw else "0°" for yaw in NOVEL_YAWS)]
    write_png(
        folder / "strip.png",
        with_labels(np.concatenate(rows), columns, [result.stage for result in results]),
    )
    middle = NOVEL_YAWS.index(0.0)
    write_png(
        folder / "row.png",
        beside(
            [
                large,
                *(stage[index, middle] for stage in views),
                views[-1][index, 0],
                views[-1][index, -1],
            ]
        ),
    )
    if video:
        frames = np.concatenate([result.frames[:, index] for result in results])
        save_video(
            [beside([large, _enlarge(frame, side)]) for frame in frames],
            folder / f"optimization.{video}",
            12,
        )


def write_json(path: Path, content: dict) -> None:
    """Write JSON, whole or not at all."""
    data = (json.dumps(content, indent=2) + "\n").encode()
    write_atomically(path, lambda file: file.write(data))


def read_metrics(folder: Path) -> dict | None:
    """What an earlier run wrote for a target, or ``None``.

    Raises ``UserError`` if the file is broken.
    """
    path = folder / METRICS
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(
            f"{path} is no valid JSON ({error}); remove it to invert this image again."
        ) from error


def summarize(outdir: Path, names: Sequence[str]) -> str:
    """Write metrics.json and contact.png of all finished targets among ``names``.

    Return the table of means.
    """
    found = {
        name: metrics for name in names if (metrics := read_metrics(outdir / name)) is not None
    }
    if not found:
        return ""
    means: dict[str, dict[str, float]] = {}
    for stage in STAGES:
        entries = [
            metrics["stages"][stage] for metrics in found.values() if stage in metrics["stages"]
        ]
        if entries:
            keys = [key for key in entries[0] if all(key in entry for entry in entries)]
            means[stage] = {
                key: round(float(np.mean([entry[key] for entry in entries])), 4) for key in keys
            }
            means[stage]["targets"] = len(entries)
    write_json(outdir / METRICS, {"mean": means, "targets": found})
    rows, labels = [], []
    for name in list(found)[:_SHEET_ROWS]:
        with Image.open(outdir / name / "row.png", formats=("PNG",)) as image:
            rows.append(np.asarray(image.convert("RGB")))
        labels.append(name.rsplit("_", 1)[-1][-12:])
    stages = list(found[next(iter(found))]["stages"])
    if len({row.shape for row in rows}) == 1:  # one method in this folder
        columns = ["target", *stages, f"{NOVEL_YAWS[0]:+.0f}°", f"{NOVEL_YAWS[-1]:+.0f}°"]
        write_png(outdir / "contact.png", with_labels(np.concatenate(rows), columns, labels))
    return _table(means)


def _table(means: dict[str, dict[str, float]]) -> str:
    columns = {
        "targets": ("targets", 0),
        "PSNR": ("psnr", 2),
        "in mask": ("psnr_mask", 2),
        "aside": ("psnr_aside", 2),
        "SSIM": ("ssim", 3),
        "ssim in mask": ("ssim_mask", 3),
        "LPIPS": ("lpips", 3),
        "identity": ("identity", 3),
        "seconds": ("seconds", 2),
    }
    columns = {
        title: column
        for title, column in columns.items()
        if any(column[0] in mean for mean in means.values())
    }
    lines = ["stage  " + "  ".join(f"{title:>7s}" for title in columns)]
    for stage, mean in means.items():
        cells = [
            (f"{mean[key]:.{digits}f}" if key in mean else "-").rjust(max(len(title), 7))
            for title, (key, digits) in columns.items()
        ]
        lines.append(f"{stage:5s}  " + "  ".join(cells))
    return "\n".join(lines)


# uint8 [S, S, 3] -> [side, side, 3], pixels stay squares
def _enlarge(image: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.NEAREST))
