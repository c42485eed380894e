"""What compressing an avatar costs on held-out frames, setting by setting.

This is ``gghead benchmark compression``.
"""

import statistics
import tempfile
from pathlib import Path

import click
import torch

from gghead.animation.frames import Frames, split_or_all
from gghead.animation.show import avatar_images
from gghead.checkpoints import save
from gghead.models.avatar import AvatarModel
from gghead.models.compression import CompressionPlan, factorize
from gghead.training.avatar.data import open_avatar
from gghead.training.avatar.score import compare, region_masks


def quality(avatar: AvatarModel, frames: Frames) -> dict[str, float]:
    """Means over white; mouth and eyes apart where the sequence has 68 landmarks."""
    scores = [
        compare(image.cpu(), frames.over(index), region_masks(frames, index))
        for index, image in enumerate(
            avatar_images(avatar, frames.expression, frames.cameras, frames.size)
        )
    ]
    names = sorted({name for score in scores for name in score})
    return {
        name: statistics.fmean(score[name] for score in scores if name in score) for name in names
    }


def file_bytes(avatar: AvatarModel) -> int:
    """Size of the avatar's file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "avatar.safetensors"
        save(avatar, path)
        return path.stat().st_size


def measure(
    network: str,
    data: str | None,
    rank: list[int],
    bits: list[int],
    prune: list[float],
    combinations: int,
    split: str,
    every: int,
) -> dict:
    """Score every setting, print a row for each, and return the report.

    The arguments are the command's options.
    """
    source = open_avatar(network, data, torch.device("cpu"))
    avatar, expression = source.avatar, source.coefficients("train")
    held_out = split_or_all(source.sequence, split)
    frames = Frames(held_out.take(list(range(0, len(held_out), every))))
    rows = [_row(avatar, frames, rank=None, prune=None, bits=32)]
    click.echo(
        f"{avatar.num} Gaussians, {len(frames)} frames of '{split}' at"
        f" {frames.size[0]}x{frames.size[1]}; changes in dB against the avatar as it was trained"
    )
    click.echo(
        f"{'rank':>5} {'prune':>6} {'bits':>5} {'file MB':>8} {'x':>6} {'bytes/G':>8} {'x':>6}"
        f" {'PSNR':>7} {'change':>7} {'mouth':>7} {'eyes':>7} {'SSIM':>7}"
    )
    click.echo(_line(rows[0], rows[0]))
    for count in rank:
        for share in prune:
            whole = factorize(avatar, expression, CompressionPlan(count, combinations, share))
            for width in bits:
                small = (whole if width == 32 else whole.quantize(width)).requires_grad_(False)
                rows.append(_row(small, frames, rank=count, prune=share, bits=width))
                click.echo(_line(rows[-1], rows[0]))
    return {"gaussians": avatar.num, "rows": rows}


def _row(avatar: AvatarModel, frames: Frames, **setting) -> dict:
    factors = avatar.config.factors
    groups = None if factors is None else list(zip(factors.ranks, factors.counts, strict=True))
    return {
        **setting,
        "file_bytes": file_bytes(avatar),
        "bytes_per_gaussian": avatar.nbytes / avatar.num,
        "groups": groups,
        **quality(avatar, frames),
    }


def _line(row: dict, first: dict) -> str:
    name = ["-" if row[key] is None else str(row[key]) for key in ("rank", "prune", "bits")]
    change = [
        f"{row[key] - first[key]:+7.3f}" if key in row else f"{'-':>7}"
        for key in ("psnr", "mouth_psnr", "eyes_psnr")
    ]
    return (
        f"{name[0]:>5} {name[1]:>6} {name[2]:>5} {row['file_bytes'] / 1e6:8.2f} "
        f"{first['file_bytes'] / row['file_bytes']:6.1f} {row['bytes_per_gaussian']:8.0f} "
        f"{first['bytes_per_gaussian'] / row['bytes_per_gaussian']:6.1f} {row['psnr']:7.3f} "
        f"{' '.join(change)} {row['ssim']:7.4f}"
    )
