"""Many targets to files: in batches, resumable, one broken image does not stop the others."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from gghead import latent as latents
from gghead.inversion.config import InversionConfig
from gghead.inversion.own_heads import OwnHeads
from gghead.inversion.report import (
    METRICS,
    novel_views,
    read_metrics,
    save_images,
    summarize,
    write_json,
)
from gghead.inversion.stages import Inversion
from gghead.inversion.targets import Target, TargetReader
from gghead.latent_stages import STAGES
from gghead.models.generator import Generator
from gghead.models.reconstructor import Reconstructor
from gghead.perceptual import Distance
from gghead.torch_utils.config import to_dict
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.progress import progress

Say = Callable[[str], None]
_STOPPED = "stopped"  # instead of the key of an image whose loss was no longer finite


def invert_all(
    model: Generator,
    reader: TargetReader | OwnHeads,
    outdir: Path,
    config: InversionConfig,
    batch: int = 8,
    video: str | None = "webp",
    say: Say = print,
    perceptual: Distance | None = None,
    reported: Mapping[str, Distance] | None = None,
    encoder: Reconstructor | None = None,
    overwrite: bool = False,
) -> str:
    """Invert every target into ``outdir/<name>/`` and return the table of means.

    A target whose files are complete for the same image, network and options is skipped, so the
    same command continues after an interruption; one that was interrupted starts again. A folder
    holds one inversion: that of other options, or of another image of the same name, is replaced
    with ``overwrite`` only. ``perceptual``, ``reported`` and ``encoder`` are as in ``Inversion``.

    Raises:
        UserError: before anything is computed, for finished results of other options without
            ``overwrite``; at the end, naming the images that could not be read or whose loss was
            no longer finite (their last good state is saved and marked so); a single image's own
            sentence is raised as it is.
    """
    own = latents.fingerprints(model)
    reported = dict(reported or {})
    networks = {"perceptual": perceptual, **reported}
    named = {use: network.name for use, network in networks.items() if network is not None}
    names = [reader.name(index) for index in range(len(reader))]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(
            f"Two images would both be written to {outdir / twice}; rename one of them."
        )
    encoded = {} if encoder is None else {"encoder": latents.fingerprint(encoder)}
    keys: dict[str, str] = {}
    broken: dict[str, str] = {}
    for index, name in enumerate(names):
        try:
            keys[name] = _key(reader, index, config, own | named | encoded)
        # bytes that cannot be read: a member of a zip with another checksum, a mask
        except UserError as error:
            broken[name] = str(error)
    pending = [
        index
        for index, name in enumerate(names)
        if name in keys and not _is_done(outdir / name, keys[name])
    ]
    others = [
        name
        for index, name in enumerate(names)
        if index in set(pending) and _is_finished(outdir / name)
    ]
    if others and not overwrite:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise UserError(
            f"{outdir / others[0]}{more} holds the inversion of another image, network or"
            " options; write to another `outdir=DIR`, or replace it with `overwrite=True`."
        )
    if len(pending) < len(keys):
        say(f"{len(keys) - len(pending)} of {len(names)} are done already")
    for targets in _batches(reader, pending, batch, broken):
        if targets[0].mask is None and model.config.background.kind == "none":
            say(
                f"{targets[0].name}{' and others have' if len(targets) > 1 else ' has'} no mask:"
                " the whole image is matched, background included, although this network draws"
                " heads only"
            )
        for name, step in _invert(
            model,
            reader,
            targets,
            keys,
            outdir,
            config,
            video,
            say,
            perceptual,
            reported,
            encoder,
            named,
        ).items():
            broken[name] = (
                f"{name}: the loss was no longer finite at {step}; its last good state is saved"
            )
    table = summarize(outdir, names)
    if broken:
        if len(names) == 1:
            raise UserError(next(iter(broken.values())))
        raise UserError(
            f"{len(broken)} of {len(names)} images failed, the others are in {outdir}. "
            + " ".join(broken.values())
        )
    return table


def _invert(
    model: Generator,
    reader: TargetReader | OwnHeads,
    targets: list[Target],
    keys: dict[str, str],
    outdir: Path,
    config: InversionConfig,
    video: str | None,
    say: Say,
    perceptual: Distance | None,
    reported: Mapping[str, Distance],
    encoder: Reconstructor | None,
    named: dict[str, str],
) -> dict[str, str]:  # name of a stopped target -> where it stopped
    inversion = Inversion(model, targets, config, perceptual, reported, encoder)
    results, views, metrics = [], [], []
    nets = {f"{use}_net": name for use, name in named.items()}
    started = time.perf_counter()
    for target in targets:
        _clear(outdir / target.name)
    for result in inversion.run():
        seconds = (time.perf_counter() - started) / len(targets)
        results.append(result)
        views.append(novel_views(model, result))
        metrics.append(
            [
                {
                    **values,
                    **reader.judge(targets[b], _one(result.latent, b)),
                    "seconds": round(seconds, 2),
                }
                for b, values in enumerate(result.metrics)
            ]
        )
        mean = sum(values["psnr"] for values in result.metrics) / len(targets)
        say(
            f"{result.stage:3s}  {mean:.2f} dB  {len(targets)} image{'s'[: len(targets) > 1]},"
            f" {seconds:.1f} s each"
        )
        for b, target in enumerate(targets):
            info = {
                "target": target.name,
                "stage": result.stage,
                "metrics": result.metrics[b],
                "config": to_dict(config),
                "stopped": b in result.stopped,
                **nets,
            }
            latents.save(
                outdir / target.name / f"latent-{result.stage}.safetensors",
                replace(_one(result.latent, b), info=info),
                model,
            )
        started = time.perf_counter()
    omega, shift = (value.detach() for value in inversion.refinement.increments())
    for b, target in enumerate(targets):
        folder = outdir / target.name
        with progress(f"Writing {folder}"):
            save_images(folder, results, views, b, video)
        write_json(
            folder / METRICS,
            {
                "target": target.name,
                "key": keys[target.name] if b not in inversion.stopped else _STOPPED,
                "masked": target.mask is not None,
                **nets,
                "camera": {
                    "label": results[-1].latent.camera[b].tolist(),
                    "start": target.label.tolist(),
                    "turned_degrees": round(float(torch.rad2deg(omega[b].norm())), 3),
                    "shift": round(float(shift[b].norm()), 4),
                },
                "stages": {
                    result.stage: stage[b] for result, stage in zip(results, metrics, strict=True)
                },
            },
        )
    return {targets[b].name: where for b, where in inversion.stopped.items()}


def _clear(folder: Path) -> None:
    """Remove what another inversion left in the folder.

    One of another image, by another network or with other options: a later stage of it would be
    taken for the result of this one.
    """
    (folder / METRICS).unlink(missing_ok=True)
    for stage in STAGES:
        (folder / f"latent-{stage}.safetensors").unlink(missing_ok=True)
        (folder / f"{stage}.png").unlink(missing_ok=True)


def _one(latent: latents.Latent, index: int) -> latents.Latent:
    return latent[index : index + 1]


def _batches(
    reader: TargetReader | OwnHeads, pending: list[int], batch: int, broken: dict[str, str]
) -> Iterator[list[Target]]:
    """Read targets and group those with and those without a mask.

    Images that cannot be read go to ``broken``.
    """
    waiting: dict[bool, list[Target]] = {True: [], False: []}
    for index in pending:
        try:
            target = reader.read(index)
        except UserError as error:
            broken[reader.name(index)] = str(error)
            continue
        group = waiting[target.mask is not None]
        group.append(target)
        if len(group) == batch:
            yield group.copy()
            group.clear()
    yield from (group for group in waiting.values() if group)


def _key(
    reader: TargetReader | OwnHeads, index: int, config: InversionConfig, own: dict[str, str]
) -> str:
    """A hash of everything that the result depends on."""
    text = json.dumps([reader.identity(index), to_dict(config), own])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _is_finished(folder: Path) -> bool:
    metrics = read_metrics(folder)
    return metrics is not None and metrics.get("key") != _STOPPED


def _is_done(folder: Path, key: str) -> bool:
    metrics = read_metrics(folder)
    return metrics is not None and metrics.get("key") == key
