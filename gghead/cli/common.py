"""What commands share: options, which network, device and people, and where they write.

Light: torch is imported when it is needed.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gghead.snapshot_files import SHIPPED, expect_kind, latest_run, read_header, snapshot_file
from gghead.torch_utils import cli
from gghead.torch_utils.cli import expand
from gghead.torch_utils.errors import UserError

if TYPE_CHECKING:
    import torch

    from gghead.models.generator import Generator

LATEST = "latest"
OUT = Path("out")
"""Where files go unless told otherwise."""
PSI = 0.7
"""Truncation of the seeds that commands draw, film, edit and animate; scores have 1."""
VIEW_SIZE = 256  # pixels of a drawn view, unless the network was trained on larger images


def pick_device(name: str) -> "torch.device":
    """Return the torch device for ``--device``; ``auto`` takes CUDA where there is one.

    Raises ``UserError`` for a device that this torch does not know or does not have.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"--device={name} does not work here; use --device=cpu or --device=auto."
        ) from error
    return device


def network_option(default: str | None = "demo", text: str = "Whose heads") -> Callable:
    """``--network``: a shipped name, ``latest``, a run folder or a snapshot."""
    return click.option(
        "--network",
        default=default,
        show_default=default is not None,
        metavar=f"{'|'.join(SHIPPED)}|{LATEST}|RUN|FILE",
        help=(
            f"{text}: the shipped network, the newest run in training-runs, a run folder or a file"
        ),
    )


def reconstructor_option() -> Callable:
    """``--network`` of commands that need an encoder."""
    return click.option(
        "--network",
        required=True,
        metavar="FILE|RUN",
        help="Reconstructor (scripts/train_encoder.py), or run folder (its newest)",
    )


def subjects_option(text: str) -> Callable:
    """``--subjects``: names for ``listed``."""
    return click.option(
        "--subjects", metavar="LIST", help=f"{text}, such as 108-119 or anna,ben  [default: all]"
    )


def view_resolution_option() -> Callable:
    """``--resolution`` of the views that an encoder is given."""
    return click.option(
        "--resolution",
        type=cli.Resolution(square=True, smallest=16),
        help="Of the views  [default: the network's]",
    )


def size_option(text: str = "Pixels per view", smallest: int = 1) -> Callable:
    """``--size``: what ``default_size`` takes."""
    return click.option(
        "--size",
        type=click.IntRange(min=smallest),
        help=f"{text}  [default: {VIEW_SIZE}, or the training size if larger]",
    )


def avatar_option() -> Callable:
    """``--avatar``: an avatar to measure or change; the function gets it as ``network``."""
    return click.option(
        "--avatar",
        "network",
        required=True,
        metavar="FILE|RUN",
        help="Avatar, or run folder (its newest)",
    )


def lpips_option(text: str = "Report LPIPS by") -> Callable:
    """``--lpips-net``: what ``gghead.perceptual.load_metric`` takes."""
    return click.option(
        "--lpips-net",
        metavar="SPEC",
        help=(
            f"{text} lpips-alex[:FILES], lpips-vgg[:FILES] or a TorchScript file; see"
            " docs/perceptual.md  [default: no LPIPS]"
        ),
    )


def view_options(of: str = "") -> Callable:
    """``--camera``, ``--masks``, ``--landmarker``: how images with one head each are read.

    See ``gghead.inversion.targets``.
    """
    options = [
        click.option(
            "--camera",
            metavar="label|auto|frontal|FILE",
            help=(
                f"Cameras{of}: from dataset.json, estimated from the face (finds, crops and cuts it"
                " out), frontal, or a file  [default: label where there are labels, else auto]"
            ),
        ),
        click.option(
            "--masks",
            metavar="FILE|DIR|ZIP|none",
            help=f"Masks{of}  [default: dataset.json's, else alpha channels]",
        ),
        click.option(
            "--landmarker",
            default="mediapipe",
            show_default=True,
            help="Of --camera=auto: as in dataset_tool.py photos",
        ),
    ]

    def add(function: Callable) -> Callable:
        for option in reversed(options):
            function = option(function)
        return function

    return add


def trunc_option(text: str = "Truncation psi of seeds", default: float = PSI) -> Callable:
    """``--trunc``: how far a seed's head is from the average one."""
    return click.option(
        "--trunc",
        type=float,
        default=default,
        show_default=True,
        help=f"{text}: 1 = off, 0 = average head",
    )


def trunc_all_option(others: str = "latent files") -> Callable:
    """``--trunc`` of commands that can truncate ``others`` as well, for ``psi_of``."""
    return click.option(
        "--trunc",
        type=float,
        help=(
            "Truncation psi: 1 = off, 0 = average head"
            f"  [default: {PSI:g} for seeds, off for {others}]"
        ),
    )


def psi_of(trunc: float | None, seeds: bool) -> float:
    """What ``--trunc`` is for seeds (of the network itself), or for everything else."""
    if trunc is not None:
        return trunc
    return PSI if seeds else 1.0


def trunc_cutoff_option() -> Callable:
    """``--trunc-cutoff``: the layers that ``--trunc`` holds for."""
    return click.option(
        "--trunc-cutoff",
        type=click.IntRange(min=0),
        help="Truncate this many first layers only  [default: all]",
    )


def find_network(name: str, kind: str, option: str = "--network") -> str:
    """Return what ``gghead.load`` is to be given for ``name``, by the file's header alone.

    ``latest`` is the newest run in training-runs. A file or folder that is called like a shipped
    network, or latest, is not meant; a line says so. Raises ``UserError`` as ``gghead.load`` for
    what is missing, foreign or of another kind.
    """
    if (name in SHIPPED or name == LATEST) and Path(name).exists():
        meant = "the shipped network" if name in SHIPPED else "the newest run in training-runs"
        click.echo(
            f"{option}={name} is {meant}; what is called {name} in this folder is"
            f" {option}=./{name}.",
            err=True,
        )
    if name == LATEST:
        name = str(latest_run())
    path = snapshot_file(name)
    expect_kind(path, read_header(path), kind)
    return name


def short_name(network: str) -> str:
    """What files made with a network are called after.

    ``demo``, or the name of its run folder or file.
    """
    path = Path(network).resolve()
    if network in SHIPPED or path.is_dir():
        return path.name
    return path.parent.name if path.name.startswith("network-snapshot-") else path.stem


def default_size(model: "Generator", size: int | None) -> int:
    """Pixels of a view: ``size``, else 256 or the training size where that is larger.

    Splats render at any.
    """
    return size or max(model.config.image_size, VIEW_SIZE)


def parse_names(text: str, names: tuple[str, ...], option: str) -> tuple[str, ...]:
    """Names of a list such as ``108-119,7``; raises ``UserError`` for one that does not exist."""
    found = expand(text, names)
    if not found:
        raise UserError(
            f"{option} names nobody; there are"
            f" {', '.join(names[:8])}{' …' if len(names) > 8 else ''}."
        )
    by_number = {int(name): name for name in names if name.isdecimal()}
    known = []
    for name in found:
        number = int(name) if name.isdecimal() else -1
        if name not in names and number not in by_number:
            raise UserError(
                f"{option}={text}: there is no subject {name}; there are "
                f"{', '.join(names[:8])}{' …' if len(names) > 8 else ''}."
            )
        known.append(name if name in names else by_number[number])
    return tuple(known)


# --------------------------------------------------------------------------------------- outputs
def free_path(stem: str, ending: str = "") -> Path:
    """Return ``out/STEM`` with ``ending``, or the first name of its kind that is free.

    The others are ``out/STEM-2``, ``out/STEM-3``, …
    """
    path, number = OUT / f"{stem}{ending}", 1
    while os.path.lexists(path):
        number += 1
        path = OUT / f"{stem}-{number}{ending}"
    return path


def check_outputs(paths: Iterable[Path], overwrite: bool, option: str = "--outdir") -> None:
    """Raise ``UserError`` where a file of ``paths`` cannot be written.

    It also stands where a file is there already, without ``overwrite``.
    """
    paths = list(paths)
    for path in paths:
        cli.check_writable(path, option)
    there = [path for path in paths if os.path.lexists(path)]
    if there and not overwrite:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise UserError(
            f"{there[0]} exists already{more}; give --overwrite to replace it, or another {option}."
        )
