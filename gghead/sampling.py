"""Seeds, priors, latent files and condition vectors: what heads are drawn from."""

import csv
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack

import numpy as np
import torch
from torch import Tensor

from gghead.figures import beside, to_uint8
from gghead.torch_utils import rng
from gghead.torch_utils.errors import UserError

if TYPE_CHECKING:
    from gghead.cameras import Cameras
    from gghead.editing.regions import PlaneBlend
    from gghead.gaussians import Gaussians
    from gghead.latent import Latent
    from gghead.models.generator import Generator
    from gghead.models.prior import Prior


def read_vectors(path: str | Path) -> dict[str, np.ndarray]:
    """Read vectors by name: the arrays of an .npz, or the rows of a .csv.

    In a row the name comes first. A header line may stand above.

    Raises ``UserError`` for a broken file, vectors of different lengths, and numbers that are not
    finite.
    """
    path = Path(path)
    try:
        if path.suffix.lower() == ".npz":
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
                vectors = {
                    name: np.asarray(archive[name], dtype=np.float32).ravel()
                    for name in archive.files
                }
        elif path.suffix.lower() == ".csv":
            with open(path, newline="", encoding="utf-8") as file:
                rows = [row for row in csv.reader(file) if row]
            if rows and not _is_number(rows[0][-1]):
                rows = rows[1:]
            vectors = {
                row[0].strip(): np.array([float(cell) for cell in row[1:]], dtype=np.float32)
                for row in rows
            }
        else:
            raise UserError(f"{path} is neither .npz nor .csv; conditions are read from these.")
    except UserError:
        raise
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} holds no vectors that can be read ({error}).") from error
    lengths = {len(vector) for vector in vectors.values()}
    if len(lengths) != 1 or lengths == {0}:
        raise UserError(
            f"{path} must hold one vector per name, all of one length, but its lengths are "
            f"{sorted(lengths)}."
        )
    bad = next((name for name, vector in vectors.items() if not np.isfinite(vector).all()), None)
    if bad is not None:
        raise UserError(f"The vector '{bad}' in {path} holds numbers that are not finite.")
    return vectors


def pick_vector(text: str) -> np.ndarray:
    """``FILE`` with a single vector, or ``FILE:NAME``. Raises ``UserError`` as ``read_vectors``."""
    path, _, name = text.rpartition(":")
    if not path or Path(text).is_file():
        path, name = text, ""
    vectors = read_vectors(path)
    known = ", ".join(list(vectors)[:8]) + ", …" * (len(vectors) > 8)
    if not name and len(vectors) > 1:
        raise UserError(f"{path} holds {len(vectors)} vectors ({known}); name one as {path}:NAME.")
    if name and name not in vectors:
        raise UserError(f"{path} has no vector '{name}'; it has: {known}.")
    return vectors[name] if name else next(iter(vectors.values()))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


EG3D_YAWS = (0.4, 0.0, -0.4)  # radians, the three views EG3D's gen_samples.py draws, in its order


@dataclass(frozen=True)
class Sample:
    """One head, generated and drawn."""

    name: str
    """Of its files: ``seed0003``, or ``<target>-<stage>`` of a latent file."""
    image: np.ndarray
    """uint8 [H, V * W, 3]: the V views side by side."""
    gaussians: "Gaussians"
    """The head itself, batch shape [1]."""


class ViewOptions(TypedDict, total=False):
    """From where ``draw_latent`` looks at a head."""

    yaws: Sequence[float]
    pitch: float
    size: int | None
    fov_deg: float | None


def seed_latents(
    model: "Generator",
    seeds: Iterable[int],
    truncation_psi: float = 1.0,
    truncation_cutoff: int | None = None,  # number of leading layers that are truncated; None = all
) -> Iterator["Latent"]:
    """Yield the styles of each seed.

    z is ``numpy.random.RandomState(seed).randn(1, z_dim)``, as StyleGAN draws it.
    """
    from gghead.latent import Latent

    for seed in seeds:
        # left before the yield: the caller goes on with gradients as they were
        with torch.no_grad():
            # One label for all views, so that only the camera moves and never the head.
            ws = model.mapping(
                model.seed_to_z(seed), model.neutral_label(), truncation_psi, truncation_cutoff
            )
        yield Latent(ws)


def prior_latents(
    prior: "Prior",
    seeds: Iterable[int],
    *,
    steps: int = 20,  # of the solver, two evaluations each
    guidance: float = 1.0,
    cond: str | None = None,  # FILE or FILE:NAME; None = unconditional
) -> Iterator["Latent"]:
    """Yield the latent that the prior draws for each seed; the noise depends on the seed alone."""

    vector = None if cond is None else torch.from_numpy(pick_vector(cond))[None]
    for seed in seeds:
        yield prior.sample(seed, steps=steps, guidance=guidance, cond=vector)


def generate_samples(
    model: "Generator",
    seeds: Iterable[int],
    *,
    truncation_psi: float = 1.0,
    truncation_cutoff: int | None = None,
    noise_mode: Literal["const", "random", "none"] = "const",
    **views: Unpack[ViewOptions],  # of ``draw_latent``
) -> Iterator[Sample]:
    """Yield one ``Sample`` per seed, in order.

    Random noise comes from a generator derived from the seed. Every seed runs through the network
    alone: convolution libraries choose other summation orders for other batch sizes, and a seed's
    image shall not depend on its neighbors.
    """
    for seed in seeds:
        (latent,) = seed_latents(model, [seed], truncation_psi, truncation_cutoff)
        yield draw_latent(model, latent, f"seed{seed:04d}", noise_mode, seed, **views)


@torch.no_grad()
def draw_latent(
    model: "Generator",
    latent: "Latent | PlaneBlend",  # one head
    name: str,
    noise_mode: Literal["const", "random", "none"] = "const",
    noise_seed: int = 0,  # of noise mode "random"
    *,
    yaws: Sequence[float] = EG3D_YAWS,  # radians, > 0: the camera stands at the subject's left
    pitch: float = 0.0,  # radians, > 0: the camera stands above
    size: int | None = None,  # pixels; None = the training size
    # horizontal field of view; None = FFHQ's focal length, 13.38 degrees
    fov_deg: float | None = None,
) -> Sample:
    """Draw one head from several sides."""
    from gghead.cameras import FFHQ_FOCAL, Cameras, focal_from_fov_deg

    device, size = model.device, size or model.config.image_size
    focal = FFHQ_FOCAL if fov_deg is None else focal_from_fov_deg(fov_deg)
    cameras = Cameras.orbit(torch.tensor(yaws, dtype=torch.float32), pitch=pitch, focal=focal).to(
        device
    )
    generator = (
        rng.generator(noise_seed, "sample-noise", device=device) if noise_mode == "random" else None
    )
    gaussians = latent.gaussians(model, noise_mode, generator)
    background = model.background_image(latent.ws, size)
    color = model.render(gaussians, cameras, size, background=background).color  # [1, V, 3, H, W]
    return Sample(name, beside(to_uint8(color[0])), gaussians)


def spread_yaws(views: int) -> tuple[float, ...]:
    """Return ``views`` yaw angles evenly from +0.4 to -0.4 radians; one view is frontal."""
    return tuple(np.linspace(EG3D_YAWS[0], EG3D_YAWS[-1], views).tolist()) if views > 1 else (0.0,)


def camera_path(
    name: str,
    frames: int,
    pitch: float = 0.0,
    device: torch.device | str = "cpu",
    yaw_range: float | None = None,
) -> "Cameras":
    """Return ``Cameras`` with batch shape (frames,) along a path.

    ``sweep`` goes to and fro in front, ``turntable`` all the way round, ``spiral`` in a loop in
    front. Angles in radians; ``yaw_range`` None is that of ``Cameras.sweep`` or ``spiral``.
    """
    from gghead.cameras import Cameras

    options = {} if name == "spiral" else {"pitch": pitch}
    if yaw_range is not None:
        options["yaw_range"] = yaw_range
    return getattr(Cameras, name)(frames, **options).to(device)


def closed_path(
    keys: Tensor,  # [K, ...]
    frames: int,
    at: Sequence[int] | None = None,  # which frames; None = all
) -> Tensor:  # [frames, ...] or [len(at), ...]
    """Interpolate ``keys`` by a periodic cubic spline.

    The first frame shows the first key, the last flows into it.
    """
    at = range(frames) if at is None else at
    if len(keys) == 1:
        return keys.expand(len(at), *keys.shape[1:])
    from scipy.interpolate import CubicSpline

    closed = torch.cat([keys, keys[:1]]).double().cpu().numpy()
    spline = CubicSpline(np.arange(len(closed)), closed, bc_type="periodic", axis=0)
    return torch.from_numpy(spline(np.asarray(at) * (len(keys) / frames))).to(keys)


@torch.no_grad()
def generate_frames(
    model: "Generator",
    seeds: Sequence[int],
    cameras: "Cameras",  # batch shape (T,)
    *,
    grid: tuple[int, int] = (1, 1),  # columns, rows
    size: int | None = None,  # pixels per cell; None = the size the network was trained at
    truncation_psi: float = 1.0,  # of the seeds
    truncation_cutoff: int | None = None,
    latents: Sequence["Latent"] = (),  # further heads, after the seeds, as they are
) -> Iterator[np.ndarray]:  # T times uint8 [rows * H, columns * H, 3]
    """Yield one image per camera.

    The heads are dealt to the cells; a cell with several interpolates between them.

    Raises ``UserError`` if they cannot be dealt evenly.
    """
    from gghead.latent import stack

    columns, rows = grid
    cells = columns * rows
    heads = [
        *seed_latents(model, seeds, truncation_psi, truncation_cutoff),
        *latents,
    ]
    if not heads or len(heads) % cells:
        raise UserError(
            f"grid='{columns}x{rows}' needs a multiple of {cells} seeds or latents, but there are"
            f" {len(heads)}: name {cells}, or more for an interpolation in every cell."
        )
    size = size or model.config.image_size
    frames, keys = cameras.shape[0], len(heads) // cells
    groups = [stack(heads[start : start + keys]) for start in range(0, len(heads), keys)]

    def generate(group: "Latent", frame: int) -> tuple["Gaussians", Tensor | None]:
        latent = group.map(lambda values: closed_path(values, frames, [frame]))
        return latent.gaussians(model), model.background_image(latent.ws, size)

    still = [generate(group, 0) for group in groups] if keys == 1 else None
    for frame in range(frames):
        drawn = []
        for cell, group in enumerate(groups):
            head, background = still[cell] if still else generate(group, frame)
            color = model.render(
                head, cameras[frame : frame + 1], size, background=background
            ).color
            drawn.append(to_uint8(color[0, 0]))
        yield np.concatenate(
            [beside(drawn[row * columns : (row + 1) * columns]) for row in range(rows)], axis=0
        )
