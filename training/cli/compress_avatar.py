"""``python scripts/compress_avatar.py --avatar=RUN --dest=FILE``."""

from pathlib import Path

import click

from gghead.cli.common import avatar_option
from gghead.models.avatar_config import CompressionPlan
from gghead.torch_utils import cli
from gghead.torch_utils.config_options import ConfigOptions
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.progress import progress

OPTIONS = ConfigOptions(CompressionPlan)


@cli.command()
@avatar_option()
@cli.dest("The small avatar")
@click.option(
    "--data",
    metavar="DIR|ZIP|box",
    help=(
        "Sequence whose training frames say how coefficients are used; "
        "box: only the range of each  [default: the run's]"
    ),
)
@click.option(
    "--bits",
    type=click.Choice(["8", "16", "32"]),
    default="8",
    show_default=True,
    help="Bits per number",
)
@OPTIONS
@cli.overwrite("an avatar")
@cli.device()
def main(
    network: str,
    dest: Path,
    data: str | None,
    bits: str,
    overwrite: bool,
    device: str,
    **options: float | None,
) -> None:
    """Make an avatar small: its file, and the memory and time it runs in.

    \b
    python scripts/compress_avatar.py --avatar=RUN --dest=small.safetensors
    python scripts/score_avatar.py --avatar=small.safetensors --data=sequence

    The result is an avatar for all commands. How much is lost for how much: scripts/benchmark.py
    compression.
    """
    if dest.suffix != ".safetensors":
        raise UserError(
            f"--dest={dest} must end in .safetensors, the format that avatars are kept in."
        )
    cli.check_writable(dest, "--dest")
    import gghead
    from gghead.checkpoints import save, snapshot_file
    from gghead.cli.common import find_network, pick_device
    from gghead.models.compression import factorize
    from gghead.torch_utils.files import make_folder
    from gghead.training.avatar.data import open_avatar

    chosen, network = pick_device(device), find_network(network, "avatar", "--avatar")
    if dest.exists() and dest.resolve() == snapshot_file(network).resolve():
        raise UserError(
            f"--dest={dest} is the avatar itself; choose another name, the original cannot be got"
            " back."
        )
    cli.check_new(dest, overwrite)
    if data == "box":
        path = snapshot_file(network)
        avatar, expression = gghead.load(path, device=chosen, kind="avatar"), None
    else:
        source = open_avatar(network, data, chosen)
        path, avatar = source.path, source.avatar
        expression = source.coefficients("train")
    plan = OPTIONS.apply(CompressionPlan(), options)
    with progress("Finding shared movements"):
        small = factorize(avatar, expression, plan)
        small = small if bits == "32" else small.quantize(int(bits))
    make_folder(dest.parent)
    save(small, dest, provenance={"compressed_from": path.name})
    groups = small.config.factors
    assert groups is not None  # factorize says what it made
    print(
        f"{small.num} Gaussians, movements used: "
        + ", ".join(
            f"{rank} by {count}" for rank, count in zip(groups.ranks, groups.counts, strict=True)
        )
    )
    print(
        f"file {path.stat().st_size / 1e6:.2f} -> {dest.stat().st_size / 1e6:.2f} MB, running "
        f"{avatar.nbytes / avatar.num:.0f} -> {small.nbytes / small.num:.0f} bytes per Gaussian, "
        f"{avatar.nbytes / small.nbytes:.1f} times smaller"
    )
    print(dest)
