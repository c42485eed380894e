"""Pictures and splats of seeds or latent files: ``seed0003.png`` with three views, ``seed0003.ply`` on request."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
import numpy as np
import torch

from gghead.cli.common import default_network, pick_device
from gghead.sheets import beside, to_uint8, write_png
from gghead.torch_utils import cli, rng
from gghead.torch_utils.errors import UserError

if TYPE_CHECKING:
    from gghead.gaussians import Gaussians
    from gghead.inversion.latents import Latent
    from gghead.models.prior import Prior

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


def seed_latents(
    model,
    seeds: Iterable[int],
    truncation_psi: float = 1.0,
    truncation_cutoff: int | None = None,  # number of leading layers that are truncated; None = all
) -> Iterator["Latent"]:
    """Yield the styles of each seed; z is ``numpy.random.RandomState(seed).randn(1, z_dim)``, as StyleGAN draws it."""
    from gghead.inversion.latents import Latent

    for seed in seeds:
        with torch.no_grad():  # left before the yield: the caller goes on with gradients as they were
            # One label for all views, so that only the camera moves and never the head.
            ws = model.mapping(model.seed_to_z(seed), model.neutral_label(), truncation_psi, truncation_cutoff)
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
    from gghead.data.vectors import pick_vector

    vector = None if cond is None else torch.from_numpy(pick_vector(cond))[None]
    for seed in seeds:
        yield prior.sample(seed, steps=steps, guidance=guidance, cond=vector)


def generate_samples(
    model,
    seeds: Iterable[int],
    *,
    truncation_psi: float = 1.0,
    truncation_cutoff: int | None = None,
    noise_mode: Literal["const", "random", "none"] = "const",
    **views,  # yaws, pitch, size, fov_deg of ``draw_latent``
) -> Iterator[Sample]:
    """Yield one ``Sample`` per seed, in order.

    Random noise comes from a generator derived from the seed. Every seed runs through the network alone: convolution
    libraries choose other summation orders for other batch sizes, and a seed's picture shall not depend on its
    neighbours.
    """
    for seed in seeds:
        (latent,) = seed_latents(model, [seed], truncation_psi, truncation_cutoff)
        yield draw_latent(model, latent, f"seed{seed:04d}", noise_mode, seed, **views)


@torch.no_grad()
def draw_latent(
    model,
    latent: "Latent",  # one head
    name: str,
    noise_mode: Literal["const", "random", "none"] = "const",
    noise_seed: int = 0,  # of noise mode "random"
    *,
    yaws: Sequence[float] = EG3D_YAWS,  # radians, > 0: the camera stands at the subject's left
    pitch: float = 0.0,  # radians, > 0: the camera stands above
    size: int | None = None,  # pixels; None = the size the network was trained at
    fov_deg: float | None = None,  # horizontal field of view; None = FFHQ's focal length, 13.38 degrees
) -> Sample:
    """Draw one head from several sides."""
    from gghead.cameras import FFHQ_FOCAL, Cameras, focal_from_fov_deg

    device, size = model.device, size or model.config.image_size
    focal = FFHQ_FOCAL if fov_deg is None else focal_from_fov_deg(fov_deg)
    cameras = Cameras.orbit(torch.tensor(yaws, dtype=torch.float32), pitch=pitch, focal=focal).to(device)
    generator = rng.generator(noise_seed, "sample-noise", device=device) if noise_mode == "random" else None
    gaussians = latent.gaussians(model, noise_mode, generator)
    background = model.background_image(latent.ws, size)
    color = model.render(gaussians, cameras, size, background=background).color  # [1, V, 3, H, W]
    return Sample(name, beside(to_uint8(color[0])), gaussians)


def spread_yaws(views: int) -> tuple[float, ...]:
    """Return ``views`` yaw angles evenly from +0.4 to -0.4 radians; one view is frontal."""
    return tuple(np.linspace(EG3D_YAWS[0], EG3D_YAWS[-1], views).tolist()) if views > 1 else (0.0,)


@cli.command()
@click.option("--network", metavar="FILE|RUN|demo",
              help="Snapshot, run folder, or the shipped network  [default: newest in training-runs, else demo]")
@click.option("--seeds", type=cli.IntRangeList(), default=(), help="Seeds such as 0,1,4-6")
@click.option("--latents", metavar="FILE[,FILE…]|DIR",
              help="Latent files of scripts/invert.py; a folder stands for the last stage of every target in it")
@click.option("--prior", "prior_file", metavar="FILE|RUN",
              help="Draw the seeds from this prior (scripts/train_prior.py) instead of the mapping network")
@click.option("--cond", metavar="FILE[:NAME]", help="Condition of the prior: an .npz or .csv, and which of its vectors")
@click.option("--guidance", type=float, help="Strength of the condition: 0 = none, 1 = as trained  [default: 1]")
@click.option("--prior-steps", type=click.IntRange(min=1), help="Steps from noise to a latent  [default: 20]")
@click.option("--save-latents", type=cli.BOOL, default=False, show_default=True,
              help="Write latent files of the seeds as well: OUTDIR/seed0000/latent-sample.safetensors")
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
def main(network, seeds, latents, prior_file, cond, guidance, prior_steps, save_latents, trunc, trunc_cutoff, outdir,
         views, yaw, pitch, size, shapes, fov_deg, noise_mode, device):
    """Draw the heads of --seeds, of --latents or of both from several sides.

    \b
    python gen_samples.py --network=training-runs/00000-tiny-heads --seeds=0-7 --trunc=0.7 --shapes=1
    python gen_samples.py --network=demo --prior=training-runs/00001-prior-tiny-samples --seeds=0-7
    """
    if views is not None and yaw is not None:
        raise UserError("--views and --yaw exclude each other: --yaw=0.4,0,-0.4 already says how many views there are.")
    if not seeds and latents is None:
        raise UserError("Nothing to draw: give --seeds=0-7 or --latents=FILE (or both).")
    flow = {name: value for name, value in (("cond", cond), ("guidance", guidance), ("steps", prior_steps))
            if value is not None}
    if prior_file is None and flow:
        raise UserError("--cond, --guidance and --prior-steps belong to a prior; name one with --prior=FILE.")
    if prior_file is not None and not seeds:
        raise UserError("--prior draws seeds, but none are given; add --seeds=0-7.")
    import gghead
    from gghead.inversion import latents as latent_files

    network = network or default_network()
    model = gghead.load(network, device=pick_device(device), kind="generator")
    files = [] if latents is None else latent_files.find(latents)
    loaded = [latent_files.load(file, model).truncated(model, trunc, trunc_cutoff) for file in files]
    names = [latent.name for latent in loaded]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"Two latents would both be written to {outdir / twice}.png; draw each with its own --outdir.")
    counted = [f"{len(seeds)} seeds"] * bool(seeds) + [f"{len(files)} latents"] * bool(files)
    print(f"Drawing {' and '.join(counted)} of {network}" + (f" with the prior {prior_file}" if prior_file else ""))
    looks = {"yaws": yaw if yaw is not None else spread_yaws(views or len(EG3D_YAWS)), "pitch": pitch, "size": size,
             "fov_deg": fov_deg}
    if prior_file is None:
        kind, drawn = "seed", seed_latents(model, seeds, trunc, trunc_cutoff)
    else:
        prior = gghead.load(prior_file, device=model.device, kind="prior")
        prior.check_owner(model, prior_file)
        kind = "prior"
        drawn = (latent.truncated(model, trunc, trunc_cutoff) for latent in prior_latents(prior, seeds, **flow))
    named = [f"{kind}{seed:04d}" for seed in seeds]
    heads = itertools.chain(zip(named, drawn, seeds, strict=True), zip(names, loaded, [0] * len(names), strict=True))
    for name, latent, seed in heads:
        sample = draw_latent(model, latent, name, noise_mode, seed, **looks)
        write_png(outdir / f"{name}.png", sample.image)
        print(outdir / f"{name}.png")
        if shapes:
            sample.gaussians[0].save_ply(outdir / f"{name}.ply")
            print(outdir / f"{name}.ply")
        if save_latents and name in named:
            path = outdir / name / "latent-sample.safetensors"
            latent_files.save(path, replace(latent, info={"target": name, "stage": "sample", **flow}), model)
            print(path)
