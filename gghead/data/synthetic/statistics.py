"""How often what occurs among synthetic people: the list in the documentation.

`python -m gghead.data.synthetic.statistics` prints it.
"""

import textwrap
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch

from gghead.cameras import Cameras
from gghead.data.synthetic.noise import display
from gghead.data.synthetic.scenes import sample_appearance, sample_label

PEOPLE, CAMERAS, SEED = 1000, 400, 0
_ACTIVE = 0.2  # a blendshape above it shows
_SIDEWAYS = ("jawLeft", "jawRight", "mouthLeft", "mouthRight")


def describe() -> str:
    """Return a Markdown list of shares and ranges, counted over draws as a data set makes them."""
    drawn = [sample_appearance(SEED, subject, 0) for subject in range(PEOPLE)]
    people = [scene.person for scene in drawn]
    luma = display(np.stack([person.skin for person in people])) @ [54.2, 182.4, 18.4]
    active = Counter(name for scene in drawn for name in _active(scene.expression))
    gaze = np.degrees([scene.gaze for scene in drawn])
    items = [
        ("Age (0 young, 1 old)", _range([person.age for person in people], 2)),
        ("Skin (luma, 0 to 255)", _range(luma)),
        ("Haircuts", _shares([person.hair_style for person in people])),
        ("Beards", _shares([person.beard for person in people])),
        ("Glasses", _shares([person.glasses for person in people])),
        ("Freckles", _percent(sum(person.freckles > 0 for person in people))),
        (
            f"Blendshapes above {_ACTIVE}",
            ", ".join(f"`{name}` {_percent(count)}" for name, count in active.most_common()),
        ),
        ("Gaze (degrees)", f"aside {_range(gaze[:, 0])}; upwards {_range(gaze[:, 1])}"),
    ]
    for cameras in ("ffhq", "full"):
        labels = [sample_label(np.random.RandomState(i), cameras) for i in range(CAMERAS)]
        angles = Cameras.from_label(torch.from_numpy(np.stack(labels))).angles()
        ranges = (
            f"{name} {_range(np.degrees(values.numpy()))}"
            for name, values in zip(("yaw", "pitch", "roll"), angles, strict=True)
        )
        items.append((f"`--cameras={cameras}` (degrees)", "; ".join(ranges)))
    return "\n".join(
        textwrap.fill(
            f"- **{name}**: {text}.".replace(" %", "\N{NO-BREAK SPACE}%"),
            100,
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for name, text in items
    ).replace("\N{NO-BREAK SPACE}", " ")


def _active(expression: dict[str, float]) -> set[str]:
    """Names of what shows, without the side."""
    return {
        name if name in _SIDEWAYS else name.removesuffix("Left").removesuffix("Right")
        for name, value in expression.items()
        if value > _ACTIVE
    }


def _percent(count: int) -> str:
    return f"{100 * count / PEOPLE:.0f} %"


def _shares(values: Sequence[str]) -> str:
    return ", ".join(f"{name} {_percent(count)}" for name, count in Counter(values).most_common())


def _range(values: np.ndarray | Sequence[float], digits: int = 0) -> str:
    """5th percentile, median and 95th percentile."""
    quantiles = np.quantile(values, [0.05, 0.5, 0.95]).round(digits) + 0.0  # no "-0"
    low, middle, high = (f"{value:.{digits}f}" for value in quantiles)
    return f"{low} to {high}, median {middle}"


if __name__ == "__main__":
    print(describe())
