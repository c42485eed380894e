"""Distances between sets of latents, and from each sample to its nearest head.

They say whether a prior is good and its heads are new, as a table and as sheets.

Distances are those of ``LatentTokens.spread``: every component counts by its variance, and two
unrelated heads are about sqrt(2) apart.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gghead.cameras import Cameras
from gghead.figures import beside, with_labels
from gghead.inversion.objective import draw
from gghead.latent import Latent
from gghead.models.generator import Generator
from gghead.models.prior import Prior
from gghead.sampling import EG3D_YAWS, draw_latent
from gghead.torch_utils.progress import track
from gghead.torch_utils.rng import generator
from gghead.training.metrics.features import RandomFeatures
from gghead.training.metrics.frechet import GaussianFit, distance
from gghead.training.prior.data import Heads

PERCENTILES = (0, 1, 5, 25, 50, 75, 95, 100)
_CHUNK = 512
_WIDEST = 128
_IMAGES = 64  # heads per pass
_YAW = 0.4  # radians; cameras of the images are even in [-_YAW, _YAW]
_SHEET_YAWS = (0.0, -_YAW)
_COLUMNS = 8


@dataclass(frozen=True, eq=False)
class Neighbors:
    """For every head of a set the nearest one of another."""

    distance: Tensor
    """[N]"""
    index: Tensor
    """[N] into the other set."""

    @property
    def percentiles(self) -> list[float]:
        """The distance at ``PERCENTILES``."""
        return torch.quantile(
            self.distance, torch.tensor(PERCENTILES).to(self.distance) / 100
        ).tolist()


def vectors(prior: Prior, latent: Latent) -> Tensor:  # [B, D]
    """Where heads are, for distances."""
    parts = [latent[start : start + _CHUNK] for start in range(0, len(latent), _CHUNK)]
    return torch.cat(
        [
            prior.tokens.spread(
                prior.tokens.encode(part.map(lambda value: value.to(prior.cond_mean.device)))
            )
            for part in parts
        ]
    )


def nearest(
    points: Tensor, others: Tensor, people: tuple[Tensor, Tensor] | None = None
) -> Neighbors:
    """Nearest of ``others`` [M, D] to each of ``points`` [N, D].

    ``people`` [N], [M]: other people's only.
    """
    distances, indices = [], []
    for start in range(0, len(points), _CHUNK):
        away = torch.cdist(
            points[start : start + _CHUNK], others, compute_mode="donot_use_mm_for_euclid_dist"
        )
        if people is not None:
            away.masked_fill_(people[0][start : start + _CHUNK, None] == people[1], torch.inf)
        found = away.min(dim=1)
        distances.append(found.values)
        indices.append(found.indices)
    return Neighbors(torch.cat(distances), torch.cat(indices))


def leave_one_out(points: Tensor, person: Tensor | None = None, limit: int = 2000) -> Neighbors:
    """Nearest other person's head to each of (at most ``limit``, evenly chosen) heads of a set.

    ``person`` [N].
    """
    person = torch.arange(len(points)) if person is None else person
    person = person.to(points.device)
    chosen = (
        torch.linspace(0, len(points) - 1, min(limit, len(points)), device=points.device)
        .round()
        .long()
    )
    return nearest(points[chosen], points, (person[chosen], person))


def closer_than_usual(samples: Neighbors, usual: Neighbors, share: float = 0.01) -> int:
    """How many samples lie nearer to a training head than all but ``share`` of these do.

    The distance of these is to each other.
    """
    return int((samples.distance < torch.quantile(usual.distance, share)).sum())


def latent_frechet(a: Tensor, b: Tensor) -> float:  # [N, D], [M, D]
    """Fréchet distance of two sets of ``vectors``, in thousandths of a set's variance.

    The variance is about one.

    Long vectors are first projected on the ``_WIDEST`` principal components of ``b``.
    """
    if b.shape[1] > _WIDEST:
        mean = b.mean(0)
        # [M, M]: D may be tens of thousands
        values, along = torch.linalg.eigh(((b - mean) @ (b - mean).T).double())
        # the others are rounding, not directions
        count = min(_WIDEST, int((values > 1e-5 * values[-1]).sum()))
        axes = torch.nn.functional.normalize(along[:, -count:].T.to(b) @ (b - mean), dim=1)
        a, b = (a - mean) @ axes.T, (b - mean) @ axes.T
    return 1000 * distance(GaussianFit.of(a), GaussianFit.of(b))


def marginals(a: Tensor, b: Tensor) -> float:  # [N, D], [N, D]
    """Mean Wasserstein-1 distance between the coordinates' distributions.

    It is in standard deviations of ``b``.
    """
    count = min(len(a), len(b))
    gap = (a[:count].sort(dim=0).values - b[:count].sort(dim=0).values).abs().mean(0)
    return float((gap / b.std(0).clamp_min(1e-6)).mean())


@torch.no_grad()
def image_fit(model: Generator, latent: Latent, seed: int = 0) -> GaussianFit:
    """Random features (``frd``) of images of the heads, one each.

    All sets are seen from the same cameras.
    """
    fit: GaussianFit | None = None
    features = RandomFeatures().to(model.device)
    yaws = (torch.rand(len(latent), generator=generator(seed, "prior-cameras")) * 2 - 1) * _YAW
    for start in track(range(0, len(latent), _IMAGES), "Comparing images", unit="batches"):
        part = latent[start : start + _IMAGES].map(lambda value: value.to(model.device))
        cameras = Cameras.orbit(yaws[start : start + _IMAGES, None]).to(model.device)
        found = features(draw(model, part.gaussians(model), part.ws, cameras).color[:, 0] * 2 - 1)
        fit = GaussianFit.empty(found[0]) if fit is None else fit
        fit.add(found)
    if fit is None:
        raise ValueError("There are no heads to draw, so nothing to fit.")
    return fit


def normal_heads(prior: Prior, count: int, seed: int) -> Latent:
    """Heads of the normal distribution with the training set's moments.

    A prior has to beat them.
    """
    noise = torch.randn(count, prior.size, generator=generator(seed, "prior-normal"))
    return prior.tokens.decode(noise.to(prior.cond_mean.device))


def compare(
    model: Generator, prior: Prior, sets: dict[str, Latent], truth: Latent
) -> dict[str, dict[str, float]]:
    """Distances of every set to ``truth``.

    They are of latents, of styles coordinate by coordinate, and of images.
    """
    reference, images = vectors(prior, truth), image_fit(model, truth)
    return {
        name: {
            "latent_fd": latent_frechet(vectors(prior, latent), reference),
            "marginals": marginals(latent.ws[:, 0], truth.ws[:, 0].to(latent.ws)),
            "frd": distance(image_fit(model, latent), images),
        }
        for name, latent in sets.items()
    }


def neighbor_table(
    prior: Prior, samples: Latent, train: Heads, held_out: Heads
) -> tuple[dict, Neighbors]:
    """Percentiles of the distance to the nearest training head.

    They are of samples, of held-out heads, and of training heads to those of other people.
    """
    heads = vectors(prior, train.latent)
    found, usual = nearest(vectors(prior, samples), heads), leave_one_out(heads, train.person)
    table = {
        "percentiles": list(PERCENTILES),
        "samples": found.percentiles,
        "training": usual.percentiles,
    }
    if len(held_out):
        table["held_out"] = nearest(vectors(prior, held_out.latent), heads).percentiles
    table["closer_than_usual"] = closer_than_usual(found, usual) / len(samples)
    return table, found


# ------------------------------------------------------------------------ as a table and sheets
def table(result: dict) -> str:
    """``score.json`` for people."""
    lines = [f"{result['count']} heads against {result['truth']}: latent_fd  marginals  frd"]
    for name, row in result["distances"].items():
        lines.append(
            f"  {name:<28s} {row['latent_fd']:10.1f} {row['marginals']:10.4f} {row['frd']:7.2f}"
        )
    nearest = result["nearest"]
    lines.append(
        "distance to the nearest training head, percentiles "
        + " ".join(f"{value:6d}" for value in nearest["percentiles"])
    )
    for name, label in (
        ("samples", "of the prior's heads"),
        ("held_out", "of held-out heads"),
        ("training", "of training heads (other people's)"),
    ):
        if name in nearest:
            lines.append(f"  {label:<48s} " + " ".join(f"{value:6.3f}" for value in nearest[name]))
    share = nearest["closer_than_usual"]
    lines.append(
        f"nearer to a training head than 99 % of these are to each other: {share:.1%} of the"
        " samples (1 % is chance)"
    )
    return "\n".join(lines)


def nearest_sheet(
    model: Generator, samples: Latent, train: Heads, found: Neighbors, rows: int
) -> np.ndarray:  # uint8 [H, W, 3]
    """Sample and nearest training head, two views each, the nearest pairs first."""
    order = found.distance.argsort()[:rows].tolist()
    images, left = [], []
    for index in order:
        other = int(found.index[index])
        images.append(
            beside(
                [
                    _draw_heads(model, samples[index : index + 1], _SHEET_YAWS),
                    _draw_heads(model, train.latent[other : other + 1], _SHEET_YAWS),
                ]
            )
        )
        left.append(f"{float(found.distance[index]):.2f}")
    return with_labels(np.concatenate(images), ["sample", "nearest"], left)


# uint8 [H, W, 3]
def beside_sheet(model: Generator, truth: Latent, samples: Latent, rows: int = 2) -> np.ndarray:
    """The first heads of ``truth`` above those of ``samples``."""

    def block(latent: Latent) -> list[np.ndarray]:
        heads = [
            _draw_heads(model, latent[index : index + 1], (0.0,))
            for index in range(min(rows * _COLUMNS, len(latent)))
        ]
        heads += [np.full_like(heads[0], 255)] * (-len(heads) % _COLUMNS)
        return [beside(heads[start : start + _COLUMNS]) for start in range(0, len(heads), _COLUMNS)]

    above, below = block(truth), block(samples)
    return with_labels(
        np.concatenate(above + below), None, ["truth"] * len(above) + ["prior"] * len(below)
    )


def samples_sheet(
    model: Generator, samples: Latent, count: int = 16, columns: int = 4
) -> np.ndarray:
    """The first ``count`` heads from three views each, ``columns`` in a row: uint8 [H, W, 3]."""
    strips = [
        _draw_heads(model, samples[index : index + 1], EG3D_YAWS)
        for index in range(min(count, len(samples)))
    ]
    strips += [np.full_like(strips[0], 255)] * (-len(strips) % columns)
    return np.concatenate(
        [beside(strips[start : start + columns]) for start in range(0, len(strips), columns)]
    )


def _draw_heads(model: Generator, latent: Latent, yaws: tuple[float, ...]) -> np.ndarray:
    return draw_latent(model, latent.map(lambda value: value.to(model.device)), "", yaws=yaws).image
