"""Videos of seeds and latents: the camera turns around each head, and several per cell flow into each other."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
import torch
from torch import Tensor

from gghead.cli.common import default_network, pick_device
from gghead.cli.gen_samples import seed_latents
from gghead.sheets import beside, to_uint8
from gghead.torch_utils import cli
from gghead.torch_utils.errors import UserError
from gghead.video import check_writable, save_video

if TYPE_CHECKING:
    from gghead.inversion.latents import Latent

CAMERA_PATHS = ("turntable", "sweep", "spiral")


def camera_path(name: str, frames: int, pitch: float = 0.0, device: torch.device | str = "cpu"):
    """Return ``Cameras`` with batch shape (frames,): all the way round, to and fro in front, or a loop in front."""
    from gghead.cameras import Cameras

    options = {} if name == "spiral" else {"pitch": pitch}
    return getattr(Cameras, name)(frames, **options).to(device)


def closed_path(
    keys: Tensor,  # [K, ...]
    frames: int,
    at: Sequence[int] | None = None,  # which frames; None = all
) -> Tensor:  # [frames, ...] or [len(at), ...]
    """Interpolate ``keys`` by a periodic cubic spline: the first frame shows the first key, the last flows into it."""
    at = range(frames) if at is None else at
    if len(keys) == 1:
        return keys.expand(len(at), *keys.shape[1:])
    from scipy.interpolate import CubicSpline

    closed = torch.cat([keys, keys[:1]]).double().cpu().numpy()
    spline = CubicSpline(np.arange(len(closed)), closed, bc_type="periodic", axis=0)
    return torch.from_numpy(spline(np.asarray(at) * (len(keys) / frames))).to(keys)


@torch.no_grad()
def generate_frames(
    model,
    seeds: Sequence[int],
    cameras,  # Cameras, batch shape (T,)
    *,
    grid: tuple[int, int] = (1, 1),  # columns, rows
    size: int | None = None,  # pixels per cell; None = the size the network was trained at
    truncation_psi: float = 1.0,
    truncation_cutoff: int | None = None,
    latents: Sequence["Latent"] = (),  # further heads, after the seeds
) -> Iterator[np.ndarray]:  # T times uint8 [rows * H, columns * H, 3]
    """Yield one picture per camera. The heads are dealt to the cells; a cell with several interpolates between them.

    Raises ``UserError`` if they cannot be dealt evenly.
    """
    from gghead.inversion.latents import stack

    columns, rows = grid
    cells = columns * rows
    heads = [*seed_latents(model, seeds, truncation_psi, truncation_cutoff),
             *(latent.truncated(model, truncation_psi, truncation_cutoff) for latent in latents)]
    if not heads or len(heads) % cells:
        raise UserError(
            f"--grid={columns}x{rows} needs a multiple of {cells} seeds or latents, but there are {len(heads)}: "
            f"name {cells}, or more for an interpolation in every cell."
        )
    size = size or model.config.image_size
    frames, keys = cameras.shape[0], len(heads) // cells
    groups = [stack(heads[start : start + keys]) for start in range(0, len(heads), keys)]

    def generate(group: "Latent", frame: int):
        latent = group.map(lambda values: closed_path(values, frames, [frame]))
        return latent.gaussians(model), model.background_image(latent.ws, size)

    still = [generate(group, 0) for group in groups] if keys == 1 else None
    for frame in range(frames):
        drawn = []
        for cell, group in enumerate(groups):
            head, background = still[cell] if still else generate(group, frame)
            color = model.render(head, cameras[frame : frame + 1], size, background=background).color
            drawn.append(to_uint8(color[0, 0]))
        yield np.concatenate([beside(drawn[row * columns : (row + 1) * columns]) for row in range(rows)], axis=0)


def parse_grid(text: str) -> tuple[int, int]:
    """``4x2`` -> (4, 2): four columns, two rows."""
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if not match:
        raise UserError(f"--grid={text} is not of the form COLUMNSxROWS, such as 4x2.")
    return int(match[1]), int(match[2])


@cli.command()
@click.option("--network", metavar="FILE|RUN|demo",
              help="Snapshot, run folder, or the shipped network  [default: newest in training-runs, else demo]")
@click.option("--seeds", type=cli.IntRangeList(), default=(), help="One per cell, or more to interpolate: 0,1,4-6")
@click.option("--latents", metavar="FILE[,FILE…]|DIR", help="Latent files of scripts/invert.py, after the seeds")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="The video: .mp4, .webp or .gif")
@click.option("--trunc", type=float, default=1.0, show_default=True, help="Truncation psi: 1 = off, 0 = average head")
@click.option("--trunc-cutoff", type=click.IntRange(min=0), help="Truncate this many first layers only  [default: all]")
@click.option("--frames", type=click.IntRange(min=1), default=120, show_default=True, help="Frames in the whole loop")
@click.option("--fps", type=click.FloatRange(min=0, min_open=True), default=30.0, show_default=True,
              help="Frames per second")
@click.option("--grid", metavar="COLUMNSxROWS", default="1x1", show_default=True, help="Cells in the picture")
@click.option("--camera", type=click.Choice(CAMERA_PATHS), default="turntable", show_default=True,
              help="All the way round, to and fro in front, or a loop in front")
@click.option("--pitch", type=float, default=0.0, show_default=True, help="Pitch of turntable and sweep, in radians")
@click.option("--size", type=click.IntRange(min=1), help="Pixels per cell  [default: the training size]")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda|…", help="Where to compute")
def main(network, seeds, latents, output, trunc, trunc_cutoff, frames, fps, grid, camera, pitch, size, device):
    """Turn the heads of --seeds and --latents, or let them flow into each other, in a looping video.

    \b
    python scripts/gen_video.py --seeds=0-7 --grid=4x2 --camera=sweep --output=out/heads.webp
    """
    import gghead
    from gghead.inversion import latents as latent_files

    cells = parse_grid(grid)
    check_writable(output)
    network = network or default_network()
    device = pick_device(device)
    model = gghead.load(network, device=device, kind="generator")
    cameras = camera_path(camera, frames, pitch, device)
    loaded = [] if latents is None else [latent_files.load(file, model) for file in latent_files.find(latents)]
    pictures = generate_frames(
        model, seeds, cameras, grid=cells, size=size, truncation_psi=trunc, truncation_cutoff=trunc_cutoff,
        latents=loaded,
    )
    save_video(list(pictures), output, fps)
    print(output)
