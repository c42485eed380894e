"""The command ``gghead``: every command by its name, imported when it runs."""

import sys
from pathlib import Path

from gghead.torch_utils.cli_groups import LazyGroup, find

_TRAINING = "gghead.training.cli"

train = LazyGroup(
    {
        "gan": (f"{_TRAINING}.train_gan", "A generator, from images with cameras"),
        "decoder": (f"{_TRAINING}.train_decoder", "A generator from captures, before any GAN"),
        "encoder": (f"{_TRAINING}.train_encoder", "An encoder from views to heads, from captures"),
        "avatar": (f"{_TRAINING}.train_avatar", "An avatar of one person, from a tracked video"),
        "prior": (f"{_TRAINING}.train_prior", "A prior over the heads of a network"),
        "expression": (f"{_TRAINING}.train_expression", "Expressions for the heads of an encoder"),
    },
    help="Train a network.",
)

score = LazyGroup(
    {
        "gan": (f"{_TRAINING}.score_gan", "Distances from a generator's images to a data set"),
        "heads": (f"{_TRAINING}.score_heads", "Eyes, holes and backs of a generator's heads"),
        "encoder": (f"{_TRAINING}.score_encoder", "Reconstructions of people it has never seen"),
        "avatar": (f"{_TRAINING}.score_avatar", "An avatar on frames it was not trained on"),
        "prior": (f"{_TRAINING}.score_prior", "Whether a prior's heads are good, and new"),
        "expression": (f"{_TRAINING}.score_expression", "Ways to animate captured expressions"),
    },
    default="gan",
    renamed={"network": "gan"},
    help=(
        "Measure a trained network. Without a command: distances from a generator's images to a"
        " data set.\n\n\b\npython scripts/calc_metrics.py --network=RUN --metrics=frd2k,swd"
    ),
)

main = LazyGroup(
    {
        "sample": ("gghead.cli.gen_samples", "Draw heads: images, splats, latent files"),
        "video": ("gghead.cli.gen_video", "Film heads that turn or change into one another"),
        "invert": ("gghead.cli.invert", "Find the head of a photo"),
        "reconstruct": ("gghead.cli.reconstruct", "One person's head from one or more views"),
        "encode": ("gghead.cli.encode", "All heads of captures to latent files"),
        "edit": ("gghead.cli.edit", "Interpolate, mix and change heads"),
        "animate": ("gghead.cli.animate", "Move an avatar or heads by coefficients"),
        "train": train,
        "score": score,
        "data": ("gghead.cli.dataset_tool", "Make, convert, check and cut training data"),
        "compress": (f"{_TRAINING}.compress_avatar", "A small avatar from a trained one"),
        "convert-network": ("gghead.cli.convert_network", "A network as a smaller file"),
        "benchmark": (f"{_TRAINING}.benchmark", "Time parts of the system on this machine"),
        "doctor": (
            "gghead.cli.doctor",
            "What works on this machine, and what to do about the rest",
        ),
    },
    help="Generative 3D Gaussian heads: train, sample, reconstruct, edit, animate, measure.",
)


def run(words: str) -> None:
    """Run ``gghead WORDS`` with the arguments of this process, under the name of its script."""
    find(main, words).main(prog_name=Path(sys.argv[0]).name)
