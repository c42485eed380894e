"""Videos of seeds: the camera turns around each head, and several seeds per cell flow into each other."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

from gghead.cli.common import beside, default_network, pick_device, to_uint8
from gghead.video import save_video
from torch_utils import cli
from torch_utils.errors import UserError

CAMERA_PATHS = ("turntable", "sweep", "spiral")


def camera_path(name: str, frames: int, pitch: float = 0.0, device: torch.device | str = "cpu"):
    """Return ``Cameras`` with batch shape (frames,): all the way round, to and fro in front, or a loop in front."""
    from gghead.cameras import Cameras

    options = {} if name == "spiral" else {"pitch": pitch}
    return getattr(Cameras, name)(frames, **options).to(device)


def closed_path(
    keys: Tensor,  # [K, num_ws, w_dim]
    frames: int,
) -> Tensor:  # [frames, num_ws, w_dim]
    """Interpolate ``keys`` by a periodic cubic spline: the first frame shows the first key, the last flows into it."""
    if len(keys) == 1:
        return keys.expand(frames, -1, -1)
    from scipy.interpolate import CubicSpline

    closed = torch.cat([keys, keys[:1]]).double().cpu().numpy()
    spline = CubicSpline(np.arange(len(closed)), closed, bc_type="periodic", axis=0)
    return torch.from_numpy(spline(np.arange(frames) * (len(keys) / frames))).to(keys)


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
) -> Iterator[np.ndarray]:  # T times uint8 [rows * H, columns * H, 3]
    """Yield one picture per camera. The seeds are dealt to the cells; a cell with several interpolates between them.

    Raises ``UserError`` if the seeds cannot be dealt evenly.
    """
    columns, rows = grid
    cells = columns * rows
    if not seeds or len(seeds) % cells:
        raise UserError(
            f"--grid={columns}x{rows} needs a multiple of {cells} seeds, but --seeds has {len(seeds)}: "
            f"name {cells} seeds, or more for an interpolation in every cell."
        )
    size = size or model.config.image_size
    label, frames, keys = model.neutral_label(), cameras.shape[0], len(seeds) // cells
    ws = torch.cat([model.mapping(model.seed_to_z(seed), label, truncation_psi, truncation_cutoff) for seed in seeds])
    paths = [closed_path(part, frames) for part in ws.split(keys)]

    def generate(ws: Tensor):
        return model.gaussians(ws), model.background_image(ws, size)

    still = [generate(path[:1]) for path in paths] if keys == 1 else None
    for frame in range(frames):
        drawn = []
        for cell, path in enumerate(paths):
            head, background = still[cell] if still else generate(path[frame : frame + 1])
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
@click.option("--seeds", type=cli.IntRangeList(), required=True, help="One per cell, or more to interpolate: 0,1,4-6")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="The video: .mp4, .webp or .gif")
@click.option("--trunc", type=float, default=1.0, show_default=True, help="Truncation psi: 1 = off, 0 = average head")
@click.option("--trunc-cutoff", type=click.IntRange(min=0), help="Truncate this many first layers only  [default: all]")
@click.option("--frames", type=click.IntRange(min=1), default=120, show_default=True, help="Frames in the whole loop")
@click.option("--fps", type=float, default=30.0, show_default=True, help="Frames per second")
@click.option("--grid", metavar="COLUMNSxROWS", default="1x1", show_default=True, help="Cells in the picture")
@click.option("--camera", type=click.Choice(CAMERA_PATHS), default="turntable", show_default=True,
              help="All the way round, to and fro in front, or a loop in front")
@click.option("--pitch", type=float, default=0.0, show_default=True, help="Pitch of turntable and sweep, in radians")
@click.option("--size", type=click.IntRange(min=1), help="Pixels per cell  [default: the training size]")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda|…", help="Where to compute")
def main(network, seeds, output, trunc, trunc_cutoff, frames, fps, grid, camera, pitch, size, device):
    """Turn the heads of --seeds, or let them flow into each other, in a looping video.

    \b
    python scripts/gen_video.py --seeds=0-7 --grid=4x2 --camera=sweep --output=out/heads.webp
    """
    import gghead

    network = network or default_network()
    device = pick_device(device)
    model = gghead.load(network, device=device, kind="generator")
    cells = parse_grid(grid)
    cameras = camera_path(camera, frames, pitch, device)
    pictures = generate_frames(
        model, seeds, cameras, grid=cells, size=size, truncation_psi=trunc, truncation_cutoff=trunc_cutoff
    )
    save_video(list(pictures), output, fps)
    print(output)
