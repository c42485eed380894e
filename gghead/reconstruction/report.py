"""What a reconstruction is worth.

Checks, distances in given and held-out views, the written report.
"""

import io
import json
import math
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from gghead import latent as latent_files
from gghead.cameras import Cameras, OrbitOptions
from gghead.data.check.cameras import angles, check_cameras
from gghead.data.check.findings import ERROR, sort_findings
from gghead.data.check.silhouettes import check_silhouettes, fit, small_mask
from gghead.figures import beside, to_uint8, with_labels, write_png
from gghead.gaussians import Gaussians
from gghead.image_metrics import psnr, ssim
from gghead.inversion.objective import draw
from gghead.latent import Latent
from gghead.models.generator import Generator
from gghead.reconstruction.inputs import InputViews
from gghead.rendering import render
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.files import write_atomically
from gghead.video import save_video


def check_views(views: InputViews, where: str) -> list[str]:
    """Return warnings about the views.

    Cameras are compared with the head's place, and masks with the projected template.

    Raises ``UserError`` where cameras cannot be those of the images (axes, units, crop, left and
    right), with the likely cause and the remedy.
    """
    labels = views.cameras.label().double().cpu().numpy()
    names = list(views.names)
    findings, usable = check_cameras(labels, names)
    if views.masked and usable.any():
        chosen = usable.nonzero()[0].tolist()
        masks = (views.alpha[:, 0] * 255).round().to(torch.uint8).cpu().numpy()
        fits = [fit(labels[index], small_mask(masks[index])) for index in chosen]
        findings += check_silhouettes(
            fits, angles(labels[chosen])[:, 0], [names[index] for index in chosen]
        )
    for found in sort_findings(findings):
        # one view may well be of the back of a head
        alone = found.code == "from-behind" and len(views) == 1
        if found.severity == ERROR and not alone:
            raise UserError(f"{where}: {found.sentence()} `check=0` goes on all the same.")
    return [found.sentence() for found in sort_findings(findings)]


@torch.no_grad()
def compare(head: Gaussians, truth: InputViews) -> tuple[dict[str, Tensor], Tensor]:
    """Compare a head (batch shape (1,)) with the views: four figures, and its images.

    The figures are psnr_mask (inside the mask), psnr, ssim and iou (of the masks at 0.5), each [V].
    The images over white are [V, 3, H, W].
    """
    out = render(head, truth.cameras, truth.size, background=1.0, depth=False)
    color, shown, mask = out.color[0], out.alpha[0] > 0.5, truth.alpha > 0.5
    union = (shown | mask).flatten(1).sum(1).clamp_min(1)
    return {
        "psnr_mask": psnr(color, truth.rgb, truth.alpha),
        "psnr": psnr(color, truth.rgb),
        "ssim": ssim(color, truth.rgb),
        "iou": (shown & mask).flatten(1).sum(1) / union,
    }, color


NOVEL_YAWS = (-60, -30, 0, 30, 60)  # degrees
_SHOWN = 8  # input views in the sheet
_FPS = 20
_ODD = (6.0, 3)  # a view so many dB below the median of at least so many views is pointed at
# of the members of .npz files, so that equal latents give equal files
_TIME = (1980, 1, 1, 0, 0, 0)


def orbit_like(views: InputViews) -> OrbitOptions:
    """Radius and focal length of the views (medians), for novel views framed alike.

    Options of ``Cameras.orbit``.
    """
    distance = views.cameras.position.norm(dim=-1).median()
    return {"radius": float(distance), "focal": float(views.cameras.intrinsics[:, 0, 0].median())}


@torch.no_grad()
def write_results(
    outdir: Path,
    model: Generator,
    latent: Latent,
    head: Gaussians,
    views: InputViews,
    *,
    size: int,
    frames: int,
    npz: bool,
    about: dict,
    turn: str = "auto",
) -> dict:
    """Write all files and return the report, which is also report.json.

    latent.safetensors (and latent.npz), head.ply, views.png (inputs, the head from the same
    cameras, their difference), novel.png (from around), with ``frames`` above 0 turntable.webp or
    sweep.webp: ``turn`` says which, or "auto" (``turn_for``).
    """
    latent_files.save(outdir / "latent.safetensors", latent, model)
    if npz:
        _write_npz(outdir / "latent.npz", latent)
    head[0].save_ply(outdir / "head.ply")
    values, color = compare(head, views)
    write_png(outdir / "views.png", views_sheet(views, color, values["psnr_mask"].tolist()))
    around = orbit_like(views)
    yaws = torch.deg2rad(torch.tensor(NOVEL_YAWS, dtype=torch.float32))
    images = _draw(model, latent, head, Cameras.orbit(yaws, **around), size)
    write_png(
        outdir / "novel.png",
        with_labels(beside(images), [f"{yaw:+d}°" if yaw else "0°" for yaw in NOVEL_YAWS], None),
    )
    if frames:
        name, reach = turn_for(views, turn)
        path = (
            Cameras.turntable(frames, **around)
            if name == "turntable"
            else Cameras.sweep(frames, yaw_range=reach, **around)
        )
        save_video(_draw(model, latent, head, path, size), outdir / f"{name}.webp", _FPS)
    per_view = {
        name: {key: round(float(value[index]), 4) for key, value in values.items()}
        for index, name in enumerate(views.names)
    }
    report = {
        **about,
        "gaussians": head.num,
        "views": per_view,
        "mean": {key: round(float(value.mean()), 4) for key, value in values.items()},
        "unlike_the_others": odd_views(per_view),
    }
    text = (json.dumps(report, indent=2) + "\n").encode()
    write_atomically(outdir / "report.json", lambda file: file.write(text))
    return report


def turn_for(views: InputViews, turn: str = "auto") -> tuple[str, float]:
    """``turntable`` where the views see the head from all sides, else ``sweep``.

    And how far the sweep turns (radians).

    All sides: no direction on the level is more than 60 degrees from a view. A sweep goes 15
    degrees beyond the views and at least 35 degrees to each side.
    """
    yaws = views.cameras.angles()[0].double().sort().values
    gaps = torch.cat([yaws.diff(), yaws[:1] + 2 * math.pi - yaws[-1:]])
    if turn == "auto":
        turn = "turntable" if float(gaps.max()) <= 2 * math.radians(60) else "sweep"
    return turn, min(max(float(yaws.abs().max()) + math.radians(15), math.radians(35)), math.pi)


def odd_views(per_view: dict[str, dict[str, float]]) -> list[str]:
    """Views that the head shows far worse than the others.

    They are of someone else, or have a wrong camera.
    """
    below, least = _ODD
    values = {name: figures["psnr_mask"] for name, figures in per_view.items()}
    median = float(np.median(list(values.values())))
    return [
        name for name, value in values.items() if len(values) >= least and value < median - below
    ]


def views_sheet(views: InputViews, color: torch.Tensor, psnr: list[float]) -> np.ndarray:
    """Draw what was given, what the head looks like from there, and the difference.

    Each is a row. The difference is times three, dark on white.
    """
    count = min(len(views), _SHOWN)
    error = 1 - (3 * (color - views.rgb).abs()).clamp(0, 1)
    rows = [beside(list(to_uint8(part[:count]))) for part in (views.rgb, color, error)]
    names = [
        f"{name.rsplit('/', 1)[-1][-12:]} {value:.1f}"
        for name, value in zip(views.names, psnr, strict=True)
    ]
    return with_labels(np.concatenate(rows), names[:count], ["input", "head", "error"])


def _draw(
    model: Generator, latent: Latent, head: Gaussians, cameras: Cameras, size: int
) -> list[np.ndarray]:
    return [
        to_uint8(
            draw(model, head, latent.ws, cameras[index : index + 1].to(head.device), size).color[
                0, 0
            ]
        )
        for index in range(len(cameras))
    ]


def _write_npz(path: Path, latent: Latent) -> None:
    """The tensors of one latent as numpy reads them (``np.load``): ws, residual, camera."""
    arrays = {"ws": latent.ws, "residual": latent.residual, "camera": latent.camera}

    def write(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            for name, value in arrays.items():
                if value is not None:
                    buffer = io.BytesIO()
                    np.save(buffer, value[0].float().cpu().numpy())
                    archive.writestr(zipfile.ZipInfo(f"{name}.npy", _TIME), buffer.getvalue())

    write_atomically(path, write)
