"""Pictures and splats of seeds: ``seed0003.png`` with three views side by side, ``seed0003.ply`` on request."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
import numpy as np
import torch

from gghead.cli.common import beside, default_network, pick_device, to_uint8, write_png
from torch_utils import cli, rng
from torch_utils.errors import UserError

if TYPE_CHECKING:
    from gghead.gaussians import Gaussians

EG3D_YAWS = (0.4, 0.0, -0.4)  # radians, the three views EG3D's gen_samples.py draws, in its order


@dataclass(frozen=True)
class Sample:
    """One seed, generated and drawn."""

    seed: int
    image: np.ndarray
    """uint8 [H, V * W, 3]: the V views side by side."""
    gaussians: "Gaussians"
    """The head itself, batch shape [1]."""


@torch.no_grad()
def generate_samples(
    model,
    seeds: Iterable[int],
    *,
    yaws: Sequence[float] = EG3D_YAWS,  # radians, > 0: the camera stands at the subject's left
    pitch: float = 0.0,  # radians, > 0: the camera stands above
    size: int | None = None,  # pixels; None = the size the network was trained at
    fov_deg: float | None = None,  # horizontal field of view; None = FFHQ's focal length, 13.38 degrees
    truncation_psi: float = 1.0,
    truncation_cutoff: int | None = None,  # number of leading layers that are truncated; None = all
    noise_mode: Literal["const", "random", "none"] = "const",
) -> Iterator[Sample]:
    """Yield one ``Sample`` per seed, in order.

    z comes from ``numpy.random.RandomState(seed).randn(1, z_dim)``, random noise from a generator derived from the
    seed. Every seed runs through the network alone: convolution libraries choose other summation orders for other
    batch sizes, and a seed's picture shall not depend on its neighbours.
    """
    from gghead.cameras import FFHQ_FOCAL, Cameras, focal_from_fov_deg

    device, size = model.device, size or model.config.image_size
    focal = FFHQ_FOCAL if fov_deg is None else focal_from_fov_deg(fov_deg)
    cameras = Cameras.orbit(torch.tensor(yaws, dtype=torch.float32), pitch=pitch, focal=focal).to(device)
    for seed in seeds:
        # One label for all views, so that only the camera moves and never the head.
        ws = model.mapping(model.seed_to_z(seed), model.neutral_label(), truncation_psi, truncation_cutoff)
        generator = rng.generator(seed, "sample-noise", device=device) if noise_mode == "random" else None
        gaussians = model.gaussians(ws, noise_mode, generator)
        background = model.background_image(ws, size)
        color = model.render(gaussians, cameras, size, background=background).color  # [1, V, 3, H, W]
        yield Sample(seed, beside(to_uint8(color[0])), gaussians)


def spread_yaws(views: int) -> tuple[float, ...]:
    """Return ``views`` yaw angles evenly from +0.4 to -0.4 radians; one view is frontal."""
    return tuple(np.linspace(EG3D_YAWS[0], EG3D_YAWS[-1], views).tolist()) if views > 1 else (0.0,)


@cli.command()
@click.option("--network", metavar="FILE|RUN|demo",
              help="Snapshot, run folder, or the shipped network  [default: newest in training-runs, else demo]")
@click.option("--seeds", type=cli.IntRangeList(), required=True, help="Seeds such as 0,1,4-6")
@click.option("--trunc", type=float, default=1.0, show_default=True, help="Truncation psi: 1 = off, 0 = average head")
@click.option("--trunc-cutoff", type=click.IntRange(min=0), help="Truncate this many first layers only  [default: all]")
@click.option("--outdir", type=click.Path(path_type=Path), default="out", show_default=True, help="Where the files go")
@click.option("--views", type=click.IntRange(min=1), help="Number of views, evenly from yaw +0.4 to -0.4  [default: 3]")
@click.option("--yaw", type=cli.FloatList(), metavar="LIST", help="Yaw of every view in radians  [default: 0.4,0,-0.4]")
@click.option("--pitch", type=float, default=0.0, show_default=True, help="Pitch in radians, > 0: seen from above")
@click.option("--size", type=click.IntRange(min=1), help="Pixels per view  [default: the training size]")
@click.option("--shapes", type=cli.BOOL, default=False, show_default=True, help="Write seed0000.ply splats as well")
@click.option("--fov-deg", type=click.FloatRange(0, 180, min_open=True, max_open=True),
              help="Horizontal field of view (EG3D's 18.837 was the diagonal one)  [default: FFHQ's, 13.38]")
@click.option("--noise-mode", type=click.Choice(["const", "random", "none"]), default="const", show_default=True,
              help="Noise inputs: as trained, drawn from the seed, or off")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda|…", help="Where to compute")
def main(network, seeds, trunc, trunc_cutoff, outdir, views, yaw, pitch, size, shapes, fov_deg, noise_mode, device):
    """Draw the heads of --seeds from several sides.

    \b
    python gen_samples.py --network=training-runs/00000-tiny-heads --seeds=0-7 --trunc=0.7 --shapes=1
    """
    if views is not None and yaw is not None:
        raise UserError("--views and --yaw exclude each other: --yaw=0.4,0,-0.4 already says how many views there are.")
    import gghead

    network = network or default_network()
    model = gghead.load(network, device=pick_device(device), kind="generator")
    print(f"Drawing {len(seeds)} seeds of {network}")
    samples = generate_samples(
        model,
        seeds,
        yaws=yaw if yaw is not None else spread_yaws(views or len(EG3D_YAWS)),
        pitch=pitch,
        size=size,
        fov_deg=fov_deg,
        truncation_psi=trunc,
        truncation_cutoff=trunc_cutoff,
        noise_mode=noise_mode,
    )
    for sample in samples:
        path = outdir / f"seed{sample.seed:04d}.png"
        write_png(path, sample.image)
        print(path)
        if shapes:
            sample.gaussians[0].save_ply(path.with_suffix(".ply"))
            print(path.with_suffix(".ply"))
