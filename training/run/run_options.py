"""Options that every command has which trains step by step, and what a resumed run accepts."""

from collections.abc import Callable
from pathlib import Path

import click

from gghead.torch_utils import cli
from gghead.torch_utils.errors import UserError


def run_options(unit: str = "Steps") -> Callable:
    """Decorate a command with --outdir, --resume, --tick, --snap, --seed, --device and
    --dry-run."""
    options = (
        cli.outdir("Where the run folder is made", default="training-runs"),
        click.option(
            "--resume", metavar="RUN", help="Continue a run exactly where its last state was saved"
        ),
        click.option("--tick", type=click.IntRange(min=1), help=f"{unit} between status lines"),
        click.option("--snap", type=click.IntRange(min=1), help="Ticks between snapshots"),
        cli.seed("Seed of everything random  [default: 0]", default=None),
        cli.device(),
        cli.dry_run(),
    )

    def decorate(function: Callable) -> Callable:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def run_changes(options: dict) -> dict:
    """--tick, --snap and --seed, as far as they were given, -> the keys that every such config
    has."""
    keys = {"tick": "tick", "snap": "snapshot_ticks", "seed": "seed"}
    return {key: options[name] for name, key in keys.items() if options[name] is not None}


def check_outdir(outdir: Path, resume: str | None, dry_run: bool) -> None:
    """Raise ``UserError`` where the run cannot be written, before anything is loaded."""
    if resume is not None:
        cli.check_writable(resume, "--resume", folder=True)
    elif not dry_run:
        cli.check_writable(outdir, "--outdir", folder=True)


def refuse_with_resume(options: dict, allowed: set[str]) -> None:
    """Raise ``UserError`` for an option that a resumed run does not take."""
    given = [name for name, value in options.items() if value is not None and name not in allowed]
    if given:
        raise UserError(
            "--resume continues a run with its own options; leave out"
            f" --{given[0].replace('_', '-')}."
        )


def require_same_network(own: str | None, given: str | None, resume: str) -> None:
    """Check the perceptual network of a run that is resumed: ``own`` of its options against
    ``given`` by the user.

    The options of a run may be a stranger's. TorchScript is a program and an address leads to
    somebody's server, so neither is used unless the user names it too. Raises ``UserError`` for
    that, and for another network than the run's.
    """
    from gghead.perceptual.load import is_program

    if given is not None and given != own:
        raise UserError(
            f"{resume} was trained with --perceptual-net={own or 'nothing'}, not {given}; leave the"
            " option out, or start a new run."
        )
    if own is not None and given is None and (is_program(own) or "://" in own):
        what = "TorchScript, which is a program" if is_program(own) else "which would be downloaded"
        raise UserError(
            f"The options of {resume} name the perceptual network {own}, {what}; if you trust it,"
            f" resume with --perceptual-net={own} too."
        )
