"""Avatars that differ in one thing, trained for equally many iterations and scored on the same
held-out frames.

The paper's ablations are variants, and so are other widths, numbers of points and starts. What is
compared are paired differences, frame by frame; neighboring frames err alike, so that their
standard error is taken over blocks of frames.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from results import read_rows, write_rows

from gghead.animation.frames import Frames, read_sequence, split_or_all
from gghead.animation.show import avatar_images
from gghead.checkpoints import save
from gghead.models.avatar import Avatar
from gghead.perceptual import Distance
from gghead.torch_utils import config as config_json
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.files import make_folder
from gghead.torch_utils.progress import progress, track
from gghead.training.avatar.config import ABLATIONS, AvatarTrainConfig
from gghead.training.avatar.score import compare, region_masks, side_frames
from gghead.training.avatar.trainer import AvatarTrainer
from gghead.training.run.run_folder import provenance

RESULTS = "variants.json"
FULL = "full"
_OPTIONS = {
    "coefficients": (None, "coefficients", int),
    "feature-dim": ("avatar", "feature_dim", int),
    "sh-degree": ("avatar", "sh_degree", int),
    "sh-every": (None, "sh_every", int),
    "points": (None, "points", int),
    "max-gaussians": ("densify", "max_gaussians", int),
    "init-head": (None, "init_head", str),
    "motion": (None, "motion", str),
    "motion-rate": ("rates", "motion", float),
    "mirrored-grid": ("avatar", "mirrored_grid", int),
    "eyeballs": (None, "eyeballs", float),
    "perceptual": ("loss", "perceptual", float),
}


@dataclass(frozen=True)
class VariantPlan:
    """Which avatars are trained, and when they are scored."""

    variants: tuple[str, ...]
    """"full", an ablation, or OPTION=VALUE; several joined by "+". The others are held against the
    first."""
    seeds: tuple[int, ...] = (0,)
    """Each variant is trained once with each."""
    at: tuple[int, ...] = ()
    """Iterations to score at, besides the last; 0 is the start."""
    split: str = "test"
    """Frames to score."""


def variant_config(config: AvatarTrainConfig, name: str) -> AvatarTrainConfig:
    """The config with one variant's changes. Raises ``UserError`` for a variant that there is
    not."""
    changes: dict = {}
    keys = [part.partition("=")[0] for part in name.split("+")]
    for part in name.split("+"):
        key, equals, value = part.partition("=")
        if part in ABLATIONS:
            config = config_json.replace(config, ABLATIONS[part])
        elif equals and key in _OPTIONS:
            group, field, kind = _OPTIONS[key]
            value = _number(part, value, kind) if kind is not str else value
            changes = {group: {field: value}} if group else {field: value}
            config = config_json.replace(config, changes)
        elif part != FULL:
            raise UserError(
                f"There is no variant '{part}'; choose from {FULL}, {', '.join(ABLATIONS)}, or an"
                f" option with its value, such as points=1000 ({', '.join(_OPTIONS)})."
            )
    if "motion-rate" in keys and config.motion == "features":
        raise UserError(
            f"The variant '{name}' has no motion whose rate it could change; add motion=blendshapes"
            " to it."
        )
    return config


def measure(
    config: AvatarTrainConfig,
    plan: VariantPlan,
    outdir: Path,
    device: torch.device,
    say: Callable[[str], object] = print,
    network: Distance | None = None,
) -> list[dict]:
    """Train and score what is not yet in ``variants.json``; return all rows. Repeating the command
    continues.

    A row is a variant with a seed at an iteration. Avatars are saved beside the results.
    ``network`` is what besides PSNR and SSIM measures "perceptual".

    Raises ``UserError`` as training and scoring do, and for results of other settings in the
    folder.
    """
    path = outdir / RESULTS
    for name in plan.variants:
        variant_config(config, name)
    at = sorted({step for step in plan.at if step < config.iterations} | {config.iterations})
    settings = {"config": config_json.to_dict(config), "split": plan.split, "at": at}
    if network is not None:
        settings["perceptual"] = network.name
    rows = read_rows(path, settings, "compare_avatars.py")
    with progress(f"Reading {config.data}"):
        sequence = read_sequence(config.data, config.resolution, config.extras, config.coefficients)
    train, test = (
        Frames(split_or_all(sequence, name), config.cache_mb) for name in ("train", plan.split)
    )
    if network is not None:
        network.check_size(*test.size)
    make_folder(outdir)
    for seed in plan.seeds:
        for name in plan.variants:
            if any((row["variant"], row["seed"]) == (name, seed) for row in rows):
                continue
            say(f"training {name}, seed {seed}")
            own = config_json.replace(variant_config(config, name), {"seed": seed})
            own_train, own_test = (
                frames.with_first(own.coefficients) if own.coefficients else frames
                for frames in (train, test)
            )
            rows += [
                {"variant": name, "seed": seed, **row}
                for row in _train(
                    own,
                    own_train,
                    own_test,
                    at,
                    device,
                    say,
                    avatar_file(outdir, name, seed),
                    network,
                )
            ]
            write_rows(path, settings, rows)
    sequence.close()
    return [row for row in rows if row["variant"] in plan.variants and row["seed"] in plan.seeds]


def _train(
    config: AvatarTrainConfig,
    train: Frames,
    test: Frames,
    at: Sequence[int],
    device: torch.device,
    say: Callable,
    path: Path,
    network: Distance | None,
) -> list[dict]:
    trainer, rows, seconds = AvatarTrainer(config, train, device), [], 0.0
    for stop in at:
        begin = time.time()
        with progress("Training", config.iterations, "iterations", trainer.iteration) as bar:
            while trainer.iteration < stop:
                trainer.step()
                bar.update(trainer.iteration)
        seconds += time.time() - begin
        rows.append(
            {
                "iteration": stop,
                "gaussians": trainer.avatar.num,
                "seconds": round(seconds, 1),
                "frames": frame_scores(trainer.avatar, test, network),
            }
        )
        say(
            f"  iteration {stop}: {mean_score(rows[-1:], 'psnr'):.2f} dB, {trainer.avatar.num}"
            f" Gaussians, {seconds:.0f} s"
        )
    save(
        trainer.avatar.eval(),
        path,
        done=trainer.iteration,
        provenance=provenance(config.preset, config.data),
    )
    return rows


@torch.no_grad()
def frame_scores(avatar: Avatar, frames: Frames, network: Distance | None = None) -> list[dict]:
    """What ``compare`` says of every frame; ``network`` measures "perceptual"."""
    networks = {"perceptual": network} if network is not None else {}
    avatar.eval()
    shown, side = (
        avatar_images(avatar, frames.expression, frames.cameras, frames.size),
        side_frames(frames.cameras),
    )
    scores = [
        compare(
            image.cpu(),
            frames.over(index),
            region_masks(frames, index),
            networks,
            aside=index in side,
        )
        for index, image in enumerate(track(shown, "Scoring", len(frames), "frames"))
    ]
    avatar.train()
    return scores


def mean_score(rows: Sequence[dict], key: str) -> float:
    """Mean of one figure over the frames of all rows that have it; NaN where none has."""
    values = [frame[key] for row in rows for frame in row["frames"] if key in frame]
    return float(np.mean(values)) if values else float("nan")


def _number(part: str, value: str, kind: type) -> int | float:
    try:
        number = kind(value)
    except ValueError:
        number = -1
    if not 0 <= number < float("inf"):
        raise UserError(
            f"The variant '{part}' needs a {'whole ' if kind is int else ''}number behind '='."
        )
    return number


def avatar_file(outdir: Path, name: str, seed: int) -> Path:
    """Where ``measure`` saves the avatar of a variant and seed."""
    plain = "".join(letter if letter.isalnum() or letter in "=+-" else "_" for letter in name)
    return outdir / f"avatar-{plain}-{seed}.safetensors"
