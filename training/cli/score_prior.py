"""Whether a prior is good, and its heads are new.

``python scripts/score_prior.py --prior=RUN`` calls it.
"""

import json
from pathlib import Path

import click

from gghead.torch_utils import cli
from gghead.torch_utils.progress import progress


@cli.command(renamed={"--count": "--samples", "--pictures": "--images"})
@click.option(
    "--prior", "prior_file", required=True, metavar="FILE|RUN", help="Prior inside its run folder"
)
@click.option(
    "--network",
    metavar="FILE|RUN|demo",
    help="Where the generator lies now  [default: as in training]",
)
@click.option(
    "--latents",
    metavar="FILE[,FILE…]|DIR",
    help="Where the latents lie now  [default: as in training]",
)
@click.option(
    "--samples",
    "count",
    type=click.IntRange(min=2),
    default=1000,
    show_default=True,
    help="Of the prior",
)
@click.option(
    "--images",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Rows of nearest.png, the nearest pairs first",
)
@click.option(
    "--prior-steps",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Steps per sample",
)
@cli.outdir("Where the files go  [default: the run folder]")
@cli.device()
def main(
    prior_file: str,
    network: str | None,
    latents: str | None,
    count: int,
    images: int,
    prior_steps: int,
    outdir: Path | None,
    device: str,
) -> None:
    """Compare a prior's heads with the generator's, and with those it was trained on.

    Writes score.json, nearest.png (sample, nearest training head), beside.png (the generator's or
    training heads above, the prior's below) and samples.png (16 heads from three views).

    \b
    python scripts/score_prior.py --prior=training-runs/00000-prior-tiny-samples
    """
    if outdir is not None:
        cli.check_writable(outdir, "--outdir", folder=True)
    from dataclasses import replace

    import torch

    import gghead
    from gghead.checkpoints import snapshot_file
    from gghead.cli.common import find_network, pick_device
    from gghead.figures import write_png
    from gghead.inversion.report import write_json
    from gghead.torch_utils.files import make_folder
    from gghead.training.prior import score
    from gghead.training.prior.config import PriorTrainConfig
    from gghead.training.prior.data import sampled_heads
    from gghead.training.prior.run import open_data
    from gghead.training.run.run_folder import read_options

    file = snapshot_file(find_network(prior_file, "prior", "--prior"))
    outdir = make_folder(outdir or file.parent)
    config = read_options(file.parent, PriorTrainConfig)
    config = replace(config, network=network or config.network, latents=latents or config.latents)
    chosen = pick_device(device)
    prior = gghead.load(file, device=chosen, kind="prior")
    model = gghead.load(config.network, device=chosen, kind="generator")
    prior.check_owner(model, file)
    train, held_out = open_data(config, model)
    noise = torch.cat([prior.noise(seed) for seed in range(count)])
    with progress(f"Drawing {count} heads of the prior"):
        samples = prior.draw(noise, steps=prior_steps)
    sets = {"prior": samples, "normal": score.normal_heads(prior, count, config.seed)}
    # there are as many true heads as one likes: seeds that were not trained on
    if config.latents is None:
        fresh = sampled_heads(model, range(config.samples, config.samples + 2 * count)).latent
        sets["generator"], truth = fresh[:count], fresh[count:]
    else:
        truth = train.latent
    with progress("Looking for the nearest heads"):
        nearest, found = score.neighbor_table(prior, samples, train, held_out)
    result = {
        "prior": file.name,
        "count": count,
        "truth": "seeds" if config.latents is None else "training heads",
        "distances": score.compare(model, prior, sets, truth),
        "nearest": nearest,
    }
    print(score.table(result))
    write_json(outdir / "score.json", result)
    write_png(outdir / "nearest.png", score.nearest_sheet(model, samples, train, found, images))
    write_png(outdir / "beside.png", score.beside_sheet(model, truth, samples))
    write_png(outdir / "samples.png", score.samples_sheet(model, samples))
    print(json.dumps({"closer_than_usual": nearest["closer_than_usual"]}))
    print(f"score.json, nearest.png, beside.png and samples.png are in {outdir}")
