"""What the score of a prior looks like: a table, samples beside their nearest training heads,
samples beside others."""

import numpy as np

from gghead.figures import beside, with_labels
from gghead.latent import Latent
from gghead.models.generator import Generator
from gghead.sampling import EG3D_YAWS, draw_latent
from gghead.training.prior.data import Heads
from gghead.training.prior.score import Neighbours

_YAWS = (0.0, -0.4)
_COLUMNS = 8


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
    model: Generator, samples: Latent, train: Heads, found: Neighbours, rows: int
) -> np.ndarray:  # uint8 [H, W, 3]
    """Sample and nearest training head, two views each, the nearest pairs first."""
    order = found.distance.argsort()[:rows].tolist()
    pictures, left = [], []
    for index in order:
        other = int(found.index[index])
        pictures.append(
            beside(
                [
                    _drawn(model, samples[index : index + 1], _YAWS),
                    _drawn(model, train.latent[other : other + 1], _YAWS),
                ]
            )
        )
        left.append(f"{float(found.distance[index]):.2f}")
    return with_labels(np.concatenate(pictures), ["sample", "nearest"], left)


# uint8 [H, W, 3]
def beside_sheet(model: Generator, truth: Latent, samples: Latent, rows: int = 2) -> np.ndarray:
    """The first heads of ``truth`` above those of ``samples``."""

    def block(latent: Latent) -> list[np.ndarray]:
        heads = [
            _drawn(model, latent[index : index + 1], (0.0,))
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
        _drawn(model, samples[index : index + 1], EG3D_YAWS)
        for index in range(min(count, len(samples)))
    ]
    strips += [np.full_like(strips[0], 255)] * (-len(strips) % columns)
    return np.concatenate(
        [beside(strips[start : start + columns]) for start in range(0, len(strips), columns)]
    )


def _drawn(model: Generator, latent: Latent, yaws: tuple[float, ...]) -> np.ndarray:
    return draw_latent(model, latent.map(lambda value: value.to(model.device)), "", yaws=yaws).image
