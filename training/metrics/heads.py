"""The figures of ``head_figures`` for a generator's seeds and for images of a data set.

The images are there to compare the seeds with.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from statistics import median

import numpy as np
import torch
from torch import Tensor

from gghead.cameras import Cameras
from gghead.data import ImageDataset
from gghead.models.generator import Generator
from gghead.rendering import RenderOutput
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.progress import track
from gghead.training.metrics.head_figures import (
    eye_figures,
    hollow_back,
    see_through,
    white_back,
)

FIGURES = {
    "iris": "iris darker than the white, levels",
    "weaker_iris": "  of the weaker eye",
    "eye_difference": "one eye from the mirrored other, levels",
    "see_through": "see-through inside the silhouette, %",
    "white_back": "skull white from behind, %",
    "hollow_back": "skull open from behind, %",
}
"""Key of a record -> row of the table."""
MORE_IS_BETTER = frozenset({"iris", "weaker_iris"})
BEHIND = math.radians(30)  # from straight behind
FRONT = math.radians(15)  # from straight in front
_LEVEL = math.radians(30)  # pitch of images of the back

Record = dict[str, float | str | int]


@torch.no_grad()
def score_seeds(
    model: Generator, seeds: Sequence[int], *, psi: float = 1.0, size: int = 256, views: int = 24
) -> list[Record]:
    """Measure the head of every seed.

    Eyes from straight in front, holes from ``views`` cameras once around it, the back from three
    cameras behind it.

    Raises ``UserError`` for a network whose template is no head, or that knows no seeds.
    """
    if model.config.template in ("plane", "sphere"):
        raise UserError(
            f"This network's template is a {model.config.template}, but the figures are of heads;"
            " name a network with another template."
        )

    def record(seed: int) -> Record:
        head = model.sample(seed, psi)
        if model.background_attributes is not None and head.features is not None:
            head = head.select(head.features[0, :, 0] > 0)  # without the plane behind it
        return {
            "seed": seed,
            **head_record(
                lambda cameras: model.render(head, cameras.to(model.device), size), views
            ),
        }

    return [record(seed) for seed in track(seeds, "Measuring heads", unit="heads")]


def head_record(draw: Callable[[Cameras], RenderOutput], views: int = 24) -> Record:
    """The figures of one head; ``draw`` renders it over white, [1, C, …] of cameras (C,)."""
    front = draw(Cameras.orbit(0.0))
    record = _eyes(front.color[0] * 255, Cameras.orbit(0.0, device=front.color.device))[0]
    missing, inside = see_through(draw(Cameras.turntable(views)).alpha[0, :, 0])
    record["see_through"] = _share(int(missing.sum()), int(inside.sum()))
    cameras = Cameras.orbit(math.pi + torch.tensor([-BEHIND, 0.0, BEHIND]))
    behind = draw(cameras)
    assert behind.depth is not None
    for key, found in (
        ("white_back", [white_back(behind.color[0, i] * 255, cameras[[i]]) for i in range(3)]),
        ("hollow_back", [hollow_back(behind.depth[0, i, 0], cameras[[i]]) for i in range(3)]),
    ):
        record[key] = 100 * float(np.mean([share for share in found if share is not None]))
    return record


def score_images(dataset: ImageDataset) -> list[Record]:
    """Measure the images of a data set, each for what it shows.

    Eyes within 15 degrees of straight in front, holes where there are masks, the back within 30
    degrees of straight behind. An image that shows none of it has no record.
    """
    cameras = Cameras.from_label(dataset.labels)
    x, y, z = (cameras.position / cameras.position.norm(dim=-1, keepdim=True)).unbind(-1)
    yaw, pitch = torch.atan2(x, z).abs(), torch.asin(y.clamp(-1, 1)).abs()
    front = (yaw <= FRONT) & (pitch <= FRONT)
    behind = (yaw >= math.pi - BEHIND) & (pitch <= _LEVEL)
    wanted = torch.ones_like(front) if dataset.has_masks else front | behind
    records: list[Record] = []
    for index in track(wanted.nonzero()[:, 0].tolist(), "Measuring images", unit="images"):
        color, mask, _ = dataset.get(index)
        alpha = mask.float() / 255 if dataset.has_masks else torch.ones(1)
        image = color * alpha + 255 * (1 - alpha)
        record: Record = {"image": dataset.name(index)}
        if front[index]:
            record |= _eyes(image[None], cameras[[index]])[0]
        if dataset.has_masks:
            missing, inside = see_through(alpha)
            record["see_through"] = _share(int(missing), int(inside))
        share = white_back(image, cameras[[index]]) if behind[index] else None
        if share is not None:
            record["white_back"] = 100 * share
        records.append(record)
    return records


def _eyes(images: Tensor, cameras: Cameras) -> list[Record]:
    figures = eye_figures(images, cameras)
    return [
        {"iris": iris, "weaker_iris": weaker, "eye_difference": difference}
        for iris, weaker, difference in zip(
            figures.iris.tolist(),
            figures.weaker_iris.tolist(),
            figures.difference.tolist(),
            strict=True,
        )
    ]


def _share(missing: int, inside: int) -> float:
    """Per cent; where nothing is drawn everything is see-through."""
    return 100 * missing / inside if inside else 100.0


def summary(records: Iterable[Record]) -> dict[str, dict[str, float]]:
    """Number of records that have a figure, their median, mean and worst, by figure."""
    found = {key: [float(record[key]) for record in records if key in record] for key in FIGURES}
    return {
        key: {
            "count": len(values),
            "median": median(values),
            "mean": sum(values) / len(values),
            "worst": min(values) if key in MORE_IS_BETTER else max(values),
        }
        for key, values in found.items()
        if values
    }


def table(summaries: dict[str, dict[str, dict[str, float]]]) -> str:
    """Name of what was measured -> its ``summary``, as lines of text: three columns each."""
    names = list(summaries)
    lines = [f"{'':<41s}" + "".join(f"  {name[-28:]:>28s}" for name in names)]
    lines.append(f"{'':<41s}" + f"  {'median':>10s}{'mean':>9s}{'worst':>9s}" * len(names))
    for key, title in FIGURES.items():
        cells = []
        for name in names:
            row = summaries[name].get(key)
            values = [f"{row[kind]:.1f}" for kind in ("median", "mean", "worst")] if row else "---"
            cells.append(f"  {values[0]:>10s}{values[1]:>9s}{values[2]:>9s}")
        lines.append(f"{title:<41s}" + "".join(cells))
    return "\n".join(lines)
