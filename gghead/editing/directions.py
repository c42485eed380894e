"""Principal directions of w.

GANSpace (Härkönen et al. 2020, section 2.1): one eigenvalue problem, no training.

A head moves along component i by k standard deviations, on all layers or some. The same seed and
sample count give the same directions on every machine but for rounding.
"""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gghead.editing.mixing import check_layers
from gghead.latent import Latent, fingerprints
from gghead.models.generator import Generator
from gghead.torch_utils import rng
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.files import make_folder, write_atomically

FORMAT = "gghead-directions/1"
_BATCH = 4096


@dataclass(frozen=True, eq=False)
class Directions:
    """Principal components of a network's w."""

    mean: Tensor
    """[w_dim] mean style."""
    components: Tensor
    """[K, w_dim] orthonormal, the widest first; each one's largest entry is positive."""
    deviations: Tensor
    """[K] standard deviation of w along each."""
    explained: Tensor
    """[K] share of all variance."""

    def move(
        self, latent: Latent, component: int, sigmas: float, layers: Sequence[int] | None = None
    ) -> Latent:
        """Return ``latent`` moved by ``sigmas`` along a component, on some layers (None: all).

        ``sigmas`` counts standard deviations.

        Raises ``UserError`` for a component that was not computed.
        """
        if not 0 <= component < len(self.components):
            raise UserError(
                f"There is no component {component}: 0 to {len(self.components) - 1} were computed."
            )
        step = (sigmas * self.deviations[component] * self.components[component]).to(latent.ws)
        ws = latent.ws.clone()
        ws[:, slice(None) if layers is None else list(layers)] += step
        return Latent(ws, latent.residual, latent.delta)

    def coordinates(self, latent: Latent) -> Tensor:  # [B, num_ws, K]
        """Return where the styles lie, in standard deviations from the mean."""
        return (
            (latent.ws - self.mean.to(latent.ws))
            @ self.components.T.to(latent.ws)
            / self.deviations.to(latent.ws)
        )


@torch.no_grad()
def find_directions(
    model: Generator, samples: int = 20_000, count: int = 20, seed: int = 0
) -> Directions:
    """Sample z, map it to w, and return the ``count`` widest principal components of w.

    Raises ``UserError`` for more components than w has dimensions, or fewer samples than that.
    """
    if not 1 <= count <= model.config.w_dim:
        raise UserError(
            f"w has {model.config.w_dim} dimensions, so there can be 1 to {model.config.w_dim}"
            f" components, not {count}."
        )
    if samples <= model.config.w_dim:
        raise UserError(
            f"{samples} samples are too few for {model.config.w_dim} dimensions; take 10,000 or"
            " more."
        )
    label = model.neutral_label()
    drawn = []
    for index, start in enumerate(range(0, samples, _BATCH)):
        size = min(_BATCH, samples - start)
        z = torch.randn(_BATCH, model.z_dim, generator=rng.generator(seed, "directions", index))[
            :size
        ]
        c = None if label is None else label.expand(size, -1)
        drawn.append(model.mapping(z.to(model.device), c)[:, 0].double().cpu())
    w = torch.cat(drawn)
    mean = w.mean(0)
    values, vectors = torch.linalg.eigh((w - mean).T @ (w - mean) / (samples - 1))
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1).T
    largest = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
    vectors = vectors * largest.sign()
    return Directions(
        mean.float(),
        vectors[:count].float().contiguous(),
        values[:count].sqrt().float(),
        (values[:count] / values.sum()).float(),
    )


def parse_moves(model: Generator, text: str) -> list[tuple[int, float, list[int] | None]]:
    """Parse moves such as ``0:2,3:-1.5@0-4``.

    This is component 0 by 2 sigma on all layers, component 3 by -1.5 sigma on layers 0 to 4.
    """
    moves = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+):([+-]?\d*\.?\d+)(?:@(\d+)(?:-(\d+))?)?", part.strip())
        if not match:
            raise UserError(
                f"'{part}' is no move: write COMPONENT:SIGMAS or COMPONENT:SIGMAS@FIRST-LAST, such"
                " as 0:2 or 3:-1.5@0-4."
            )
        layers = None
        if match[3]:
            layers = check_layers(model, range(int(match[3]), int(match[4] or match[3]) + 1))
            if not layers:
                raise UserError(f"The layers of '{part}' run backwards.")
        moves.append((int(match[1]), float(match[2]), layers))
    return moves


def save(path: str | os.PathLike, directions: Directions, model: Generator) -> None:
    """Write the directions, whole or not at all. Raises ``UserError`` if the disk refuses."""
    from safetensors.torch import save as to_bytes

    tensors = {name: getattr(directions, name).contiguous() for name in _FIELDS}
    data = to_bytes(tensors, {"directions": json.dumps({"format": FORMAT, **fingerprints(model)})})
    make_folder(Path(path).parent)
    write_atomically(path, lambda file: file.write(data))


def load(path: str | os.PathLike, model: Generator) -> Directions:
    """Read directions.

    Raises ``UserError`` for a broken or foreign file and for one of another network.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise UserError(f"The directions {path} do not exist; `scripts/edit.py pca` writes them.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {}).get("directions", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safe_open is no dict
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"{path} is truncated or no safetensors file ({error}); make it again."
        ) from error
    if metadata.get("format") != FORMAT or set(tensors) != set(_FIELDS):
        raise UserError(
            f"{path} holds no directions ('{FORMAT}'); `scripts/edit.py pca` writes such files."
        )
    if metadata["network"] != fingerprints(model)["network"]:
        raise UserError(
            f"{path} was made with another network; take that one, or find directions "
            "again with this one."
        )
    return Directions(**tensors)


_FIELDS = ("mean", "components", "deviations", "explained")
