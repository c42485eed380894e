"""Options that every command has which trains step by step, and what a resumed run accepts."""

from collections.abc import Callable
from pathlib import Path

import click

from gghead.torch_utils import cli
from gghead.torch_utils.errors import UserError


def run_options(function: Callable) -> Callable:
    """Decorate a command with --outdir, --resume, --set, --device, --threads and --dry-run.

    The other options of a run are fields of its config (``gghead.torch_utils.config_options``).
    """
    for option in (
        cli.dry_run(),
        cli.device(),
        click.option(
            "--set",
            multiple=True,
            metavar="KEY=VALUE",
            help="Any other option by its path, as --dry-run prints them, such as loss.l1=2",
        ),
        click.option(
            "--resume",
            metavar="RUN",
            help="Continue a run where its last state was saved; on a CPU bit for bit",
        ),
        cli.outdir("Where the run folder is made", default="training-runs"),
    ):
        function = option(function)
    return function


def check_outdir(outdir: Path, resume: str | None, dry_run: bool) -> None:
    """Raise ``UserError`` where the run cannot be written, before anything is loaded."""
    if resume is not None:
        cli.check_writable(resume, "`resume`", folder=True)
    elif not dry_run:
        cli.check_writable(outdir, "`outdir`", folder=True)


def require_same_network(own: str | None, given: str | None, resume: str) -> None:
    """Check the perceptual network of a run that is resumed.

    ``own`` of its options must be ``given`` by the user.

    The options of a run may be a stranger's. TorchScript is a program and an address leads to
    somebody's server, so neither is used unless the user names it too. Raises ``UserError`` for
    that, and for another network than the run's.
    """
    from gghead.perceptual.load import is_program

    if given is not None and given != own:
        raise UserError(
            f"{resume} was trained with `perceptual_net={own or 'nothing'}`, not {given}; leave the"
            " option out, or start a new run."
        )
    if own is not None and given is None and (is_program(own) or "://" in own):
        what = "TorchScript, which is a program" if is_program(own) else "which would be downloaded"
        raise UserError(
            f"The options of {resume} name the perceptual network {own}, {what}; if you trust it,"
            f" resume with `perceptual_net={own}` too."
        )
