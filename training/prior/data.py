"""The heads a prior learns from: latent files, seeds of the generator, and their condition vectors."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gghead.inversion import latents as latent_files
from gghead.inversion.latents import Latent, stack
from gghead.models.generator import Generator
from torch_utils.errors import UserError
from torch_utils.rng import derive_seed

_BATCH = 1024


@dataclass(frozen=True, eq=False)
class Heads:
    """Latents in a fixed order, with their names."""

    names: list[str]
    """``seed0003``, or the target that a latent file names."""
    latent: Latent
    """All of them in one batch; no deltas."""

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: Sequence[int]) -> "Heads":
        chosen = torch.as_tensor(index, dtype=torch.long)
        return Heads([self.names[i] for i in chosen.tolist()], self.latent.map(lambda value: value[chosen]))

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
    """The generator's own heads, without truncation; the very styles that gen_samples.py draws for these seeds."""
    label, styles = model.neutral_label(), []
    for start in range(0, len(seeds), _BATCH):
        z = torch.cat([model.seed_to_z(seed) for seed in seeds[start : start + _BATCH]])
        styles.append(model.mapping(z, None if label is None else label.expand(len(z), -1)))
    return Heads([f"seed{seed:04d}" for seed in seeds], Latent(torch.cat(styles)))


def file_heads(model: Generator, paths: str) -> Heads:
    """Latent files; of a folder of scripts/invert.py the last stage before the decoder is changed.

    Raises ``UserError`` for files of another network, two heads of one name, and a file that changes the decoder,
    which no prior over latents can draw.
    """
    names, loaded = [], []
    for file in latent_files.find(paths, last_stage="z"):
        latent = latent_files.load(file, model)
        if latent.delta:
            raise UserError(f"{file} changes the decoder's weights (pivotal tuning), which a prior over latents cannot "
                            "draw; name the latent-z.safetensors beside it.")
        names.append(str(latent.info.get("target", file.parent.name)))
        loaded.append(replace(latent, camera=None, info={}))
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UserError(f"Two latent files of --latents={paths} are both of the head '{twice}'; name one of them.")
    return Heads(names, stack(loaded))


def open_heads(model: Generator, paths: str | None, samples: int) -> Heads:
    """Latent files, seeds 0 to ``samples`` - 1, or both. Raises ``UserError`` where there is neither."""
    found = [file_heads(model, paths)] if paths else []
    found += [sampled_heads(model, range(samples))] if samples else []
    if not found:
        raise UserError("There is nothing to train on: give --latents=DIR, --samples=20000, or both.")
    heads = Heads([name for part in found for name in part.names], stack([part.latent for part in found]))
    return Heads(heads.names, heads.latent.map(lambda value: value.cpu()))


def split(count: int, holdout: float, seed: int) -> tuple[list[int], list[int]]:
    """Indices of training and held-out heads: a fixed random choice; at least two heads are trained on."""
    order = np.random.RandomState(derive_seed(seed, "holdout") % 2**32).permutation(count).tolist()
    aside = min(int(round(holdout * count)), max(count - 2, 0))
    return sorted(order[aside:]), sorted(order[:aside])


def read_vectors(path: str | Path) -> dict[str, np.ndarray]:
    """Vectors by name: the arrays of an .npz, or the rows of a .csv (name first; a header line may stand above).

    Raises ``UserError`` for a broken file, vectors of different lengths, and numbers that are not finite.
    """
    path = Path(path)
    try:
        if path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                vectors = {name: np.asarray(archive[name], dtype=np.float32).ravel() for name in archive.files}
        elif path.suffix.lower() == ".csv":
            with open(path, newline="", encoding="utf-8") as file:
                rows = [row for row in csv.reader(file) if row]
            if rows and not _is_number(rows[0][-1]):
                rows = rows[1:]
            vectors = {row[0].strip(): np.array([float(cell) for cell in row[1:]], dtype=np.float32) for row in rows}
        else:
            raise UserError(f"{path} is neither .npz nor .csv; conditions are read from these.")
    except UserError:
        raise
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} holds no vectors that can be read ({error}).") from error
    lengths = {len(vector) for vector in vectors.values()}
    if len(lengths) != 1 or lengths == {0}:
        raise UserError(f"{path} must hold one vector per name, all of one length, but its lengths are "
                        f"{sorted(lengths)}.")
    bad = next((name for name, vector in vectors.items() if not np.isfinite(vector).all()), None)
    if bad is not None:
        raise UserError(f"The vector '{bad}' in {path} holds numbers that are not finite.")
    return vectors


def conditions(path: str | None, names: Sequence[str]) -> Tensor | None:  # [N, cond_dim]
    """The vectors of the named heads. Raises ``UserError`` as ``read_vectors``, and for a head without one."""
    if path is None:
        return None
    vectors = read_vectors(path)
    missing = [name for name in names if name not in vectors]
    if missing:
        raise UserError(f"{path} has no vector for {len(missing)} of {len(names)} heads, such as '{missing[0]}'; add "
                        "them, or leave those heads out.")
    return torch.from_numpy(np.stack([vectors[name] for name in names]))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
