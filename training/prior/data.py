"""The heads a prior learns from.

Latent files, seeds of the generator, and their condition vectors.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from gghead import latent as latent_files
from gghead.latent import Latent, stack
from gghead.models.generator import Generator
from gghead.sampling import read_vectors
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.progress import track
from gghead.torch_utils.rng import derive_seed

_BATCH = 1024


@dataclass(frozen=True, eq=False)
class Heads:
    """Latents in a fixed order, with their names."""

    names: list[str]
    """``seed0003``, or the target that a latent file names."""
    latent: Latent
    """All of them in one batch; no deltas."""
    people: list[str] | None = None
    """Whose head each is; None: everyone's own."""

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: Sequence[int] | Tensor) -> "Heads":
        chosen = torch.as_tensor(index, dtype=torch.long)
        return Heads(
            [self.names[i] for i in chosen.tolist()],
            self.latent.map(lambda value: value[chosen]),
            None if self.people is None else [self.people[i] for i in chosen.tolist()],
        )

    @property
    def person(self) -> Tensor:  # int64 [N]
        """A number per person, in order of appearance."""
        numbers: dict[str, int] = {}
        return torch.tensor(
            [numbers.setdefault(name, len(numbers)) for name in self.people or self.names]
        )

    def batches(self, size: int = _BATCH) -> "Batches":
        """The latents in pieces; can be gone through again."""
        return Batches(self.latent, size)


@dataclass(frozen=True, eq=False)
class Batches:
    """A batch in pieces of at most ``size``."""

    latent: Latent
    size: int

    def __iter__(self) -> Iterator[Latent]:
        for start in range(0, len(self.latent), self.size):
            yield self.latent[start : start + self.size]


@torch.no_grad()
def sampled_heads(model: Generator, seeds: range) -> Heads:
    """The generator's own heads, without truncation.

    The very styles that gen_samples.py draws for these seeds.
    """
    label, styles = model.neutral_label(), []
    for start in track(range(0, len(seeds), _BATCH), "Drawing latents", unit="batches"):
        z = torch.cat([model.seed_to_z(seed) for seed in seeds[start : start + _BATCH]])
        styles.append(model.mapping(z, None if label is None else label.expand(len(z), -1)))
    return Heads([f"seed{seed:04d}" for seed in seeds], Latent(torch.cat(styles)))


def file_heads(model: Generator, paths: str) -> Heads:
    """Latent files; of a folder of scripts/invert.py the last stage before the decoder is changed.

    A file whose ``info`` names a ``subject`` is one of that person's heads. Raises ``UserError``
    for files of another network, two heads of one name, and a file that changes the decoder, which
    no prior over latents can draw.
    """
    names, people, loaded, own = [], [], [], latent_files.fingerprints(model)
    for file in latent_files.find(paths, last_stage="z"):
        latent = latent_files.load(file, model, own)
        if latent.delta:
            raise UserError(
                f"{file} changes the decoder's weights (pivotal tuning), which a prior over latents"
                " cannot draw; name the latent-z.safetensors beside it."
            )
        names.append(str(latent.info.get("target", file.parent.name)))
        people.append(str(latent.info.get("subject", names[-1])))
        loaded.append(replace(latent, camera=None, info={}))
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UserError(
            f"Two latent files of `latents='{paths}'` are both of the head '{twice}'; name one of"
            " them."
        )
    return Heads(names, stack(loaded), people)


def open_heads(model: Generator, paths: str | None, samples: int) -> Heads:
    """Latent files, seeds 0 to ``samples`` - 1, or both.

    Raises ``UserError`` where there is neither.
    """
    found = [file_heads(model, paths)] if paths else []
    found += [sampled_heads(model, range(samples))] if samples else []
    if not found:
        raise UserError(
            "There is nothing to train on: give `latents=DIR`, `samples=20000`, or both."
        )
    return Heads(
        [name for part in found for name in part.names],
        stack([part.latent for part in found]).map(lambda value: value.cpu()),
        [name for part in found for name in part.people or part.names],
    )


def split(heads: Heads, holdout: float, seed: int) -> tuple[Heads, Heads]:
    """Training and held-out heads: a fixed random choice of people; at least two are trained on."""
    person = heads.person
    count = int(person.max()) + 1
    order = np.random.RandomState(derive_seed(seed, "holdout") % 2**32).permutation(count)
    aside = min(int(round(holdout * count)), max(count - 2, 0))
    held_out = torch.isin(person, torch.from_numpy(order[:aside]))
    return heads[(~held_out).nonzero()[:, 0]], heads[held_out.nonzero()[:, 0]]


def conditions(path: str | None, names: Sequence[str]) -> Tensor | None:  # [N, cond_dim]
    """The vectors of the named heads.

    Raises ``UserError`` as ``read_vectors``, and for a head without one.
    """
    if path is None:
        return None
    vectors = read_vectors(path)
    missing = [name for name in names if name not in vectors]
    if missing:
        raise UserError(
            f"{path} has no vector for {len(missing)} of {len(names)} heads, such as"
            f" '{missing[0]}'; add them, or leave those heads out."
        )
    length = len(next(iter(vectors.values())))
    return torch.from_numpy(
        np.stack([vectors[name] for name in names]) if names else np.zeros((0, length), np.float32)
    )
