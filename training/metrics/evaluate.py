"""Named metrics of a data set and a sampler: ``frd2k``, ``frd10k``, ``swd``, and ``fid…`` with the user's own network.

``frd2k`` is a Fréchet distance on fixed random-convolution features between 2,000 generated pictures and the data set
(up to 50,000 of it). Next to each distance stands its floor: one random half of the data set against the other. A floor
is measured on half as many pictures, and Fréchet distances grow as pictures get fewer, so a model can end below it.
"""

import functools
import hashlib
import json
import time
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from gghead.data.read_ahead import ReadAhead
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.files import cache_dir as default_folder
from gghead.torch_utils.files import write_atomically
from gghead.torch_utils.progress import format_time, track
from gghead.training.metrics import swd
from gghead.training.metrics.features import InceptionFeatures, RandomFeatures
from gghead.training.metrics.frechet import GaussianFit, distance
from gghead.training.metrics.names import SWD_IMAGES, parse_metrics

MAX_REALS = 50_000

Sampler = Callable[[int, int], Iterable[Tensor]]
"""``sample(n, batch)`` yields pictures [b, 3, H, W], uint8 or float in [-1, 1], ``n`` in all."""


class MetricSet:
    """Metrics against one data set; whatever concerns the real pictures is computed once and kept on disk."""

    def __init__(
        self,
        dataset: Any,  # gghead.data.ImageDataset, or what has its len, get, name, labels, has_masks and backdrop
        names: str | Sequence[str],
        *,
        background: Sequence[float] | None = None,  # RGB in [0, 1] put behind the mask; None = pictures as they are
        feature_net: str | Path | None = None,  # TorchScript network for fid
        cache_dir: str | Path | None = None,  # None = the user's cache folder
        seed: int = 0,
        device: torch.device | str = "cpu",
        batch: int = 64,
    ) -> None:
        """Raise ``UserError`` for unknown names, ``fid`` without a network and data sets too small to compare."""
        self.metrics = parse_metrics(names)
        if feature_net is None and any(metric.kind == "fid" for metric in self.metrics):
            raise UserError("A fid metric needs --feature-net=FILE (a TorchScript Inception), which "
                            "scripts/calc_metrics.py takes; frd2k needs no download.")
        if len(dataset) < 4:
            raise UserError(f"Metrics need a data set of at least 4 images, but this one has {len(dataset)}.")
        if background is not None and not dataset.has_masks:
            raise UserError("Metrics over a plain background need masks, but the data set has none; add them as masks.")
        self.dataset, self.background, self.feature_net = dataset, background, feature_net
        self.cache_dir = Path(cache_dir) if cache_dir is not None else default_folder("metrics")
        self.seed, self.device, self.batch = seed, torch.device(device), batch
        order = numpy.random.RandomState(seed).permutation(len(dataset))[:MAX_REALS]
        self.halves = (order[0::2], order[1::2])
        self._networks: dict[str, torch.nn.Module] = {}
        self._fits: dict[str, tuple[GaussianFit, GaussianFit]] = {}
        self._patches: tuple[swd.PatchSet, dict[int, float]] | None = None

    @property
    def images_needed(self) -> int:
        """Generated pictures that one evaluation takes; 0 without metrics."""
        return max((metric.images for metric in self.metrics), default=0)

    def prepare(self) -> None:
        """Compute everything about the real pictures now instead of in the first evaluation."""
        for kind in {metric.kind for metric in self.metrics}:
            if kind == "swd":
                self._real_patches()
            else:
                self._real_fits(kind)

    def evaluate(self, sample: Sampler, *, snapshot: str = "", num_gpus: int = 1) -> list[dict[str, Any]]:
        """Run all metrics on one set of generated pictures; returns one dictionary per metric in StyleGAN's form.

        ``results`` holds the distance under the metric's name and its floor under ``<name>_floor``.
        """
        if not self.metrics:
            return []
        start = time.time()
        self.prepare()
        kinds = {metric.kind for metric in self.metrics}
        frechet = [metric for metric in self.metrics if metric.kind != "swd"]
        fits = {m.name: GaussianFit.empty(self._real_fits(m.kind)[0].reference) for m in frechet}
        patches = {m.name: swd.PatchSet(m.images, self.seed) for m in self.metrics if m.kind == "swd"}
        done = 0
        batches, needed = sample(self.images_needed, self.batch), -(-self.images_needed // self.batch)
        for images in track(batches, "Measuring generated pictures", needed, "batches"):
            images = images[: self.images_needed - done].to(self.device)
            features = {kind: self._network(kind)(images) for kind in kinds - {"swd"}}
            for metric in self.metrics:
                share = max(min(metric.images - done, len(images)), 0)
                if share and metric.kind == "swd":
                    patches[metric.name].add(images[:share])
                elif share:
                    fits[metric.name].add(features[metric.kind][:share])
            done += len(images)
        if done < self.images_needed:
            raise ValueError(f"the sampler gave {done} pictures of {self.images_needed}")
        results = []
        for metric in self.metrics:
            if metric.kind == "swd":
                values = self._swd_results(metric.name, patches[metric.name])
            else:
                halves = self._real_fits(metric.kind)
                values = {metric.name: distance(halves[0].merged(halves[1]), fits[metric.name])}
                values[f"{metric.name}_floor"] = distance(*halves)
            results.append(metric_record(metric.name, values, time.time() - start, snapshot, num_gpus))
        return results

    def floors(self) -> dict[str, float]:
        """Return the distance of one half of the data set from the other under each metric's name."""
        self.prepare()
        return {
            m.name: _mean(self._real_patches()[1]) if m.kind == "swd" else distance(*self._real_fits(m.kind))
            for m in self.metrics
        }

    def _swd_results(self, name: str, fakes: swd.PatchSet) -> dict[str, float]:
        reals, floor = self._real_patches()
        levels = swd.compare(reals, fakes, self.seed)
        values = {name: _mean(levels), f"{name}_floor": _mean(floor)}
        return values | {f"{name}_{size}px": value for size, value in levels.items()}

    def _network(self, kind: str) -> torch.nn.Module:
        if kind not in self._networks:
            network = RandomFeatures() if kind == "frd" else InceptionFeatures(self.feature_net)
            self._networks[kind] = network.to(self.device)
        return self._networks[kind]

    def _real_fits(self, kind: str) -> tuple[GaussianFit, GaussianFit]:
        if kind not in self._fits:
            network = self._network(kind)
            digest = hashlib.blake2b(digest_size=12)
            digest.update(f"{dataset_key(self.dataset)}/{network.name}/{self.background}/{self.seed}".encode())
            path = self.cache_dir / f"{kind}-{digest.hexdigest()}.npz"
            fits = _load_fits(path)
            if fits is None:
                fits = self._fit_halves(network)
                _save_fits(path, fits)
            self._fits[kind] = tuple(fit_to(fit, self.device) for fit in fits)
        return self._fits[kind]

    def _fit_halves(self, network: torch.nn.Module) -> tuple[GaussianFit, GaussianFit]:
        fits: list[GaussianFit] = []
        for half in self.halves:
            fit = None
            for images in self._tracked(half):
                features = network(images)
                if fit is None:
                    fit = GaussianFit.empty(fits[0].reference if fits else features[0])
                fit.add(features)
            fits.append(fit)
        return fits[0], fits[1]

    def _real_patches(self) -> tuple[swd.PatchSet, dict[int, float]]:
        """Return the patches of the reals and the floor: half against half."""
        if self._patches is None:
            # Fewer pictures than the whole set are enough, and the order is random already.
            halves = [half[: SWD_IMAGES // 2] for half in self.halves]
            whole = swd.PatchSet(sum(len(half) for half in halves), self.seed)
            parts = []
            for number, half in enumerate(halves):
                part = swd.PatchSet(len(half), self.seed + 1 + number)
                for images in self._tracked(half):
                    part.add(images)
                    whole.add(images)
                parts.append(part)
            self._patches = whole, swd.compare(*parts, self.seed)
        return self._patches

    def _tracked(self, indices: Sequence[int]) -> Iterator[Tensor]:
        """``real_batches`` under a line that says how far they are."""
        return track(self.real_batches(indices), "Measuring the data set", -(-len(indices) // self.batch), "batches")

    def real_batches(self, indices: Sequence[int]) -> Iterator[Tensor]:  # uint8 [b, 3, H, W] on the device
        """Yield the pictures of the data set as the metrics see them."""
        jobs = (functools.partial(self._read, indices[start : start + self.batch])
                for start in range(0, len(indices), self.batch))
        with ReadAhead(jobs, size=4 * self.batch * self.dataset.resolution**2) as batches:
            yield from map(self._as_seen, batches)

    def _read(self, indices: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        return [self.dataset.get(int(index))[:2] for index in indices]

    def _as_seen(self, pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
        images = torch.stack([torch.as_tensor(rgb) for rgb, _ in pairs]).to(self.device)
        if self.background is not None:
            alpha = torch.stack([torch.as_tensor(alpha) for _, alpha in pairs]).to(self.device).float() / 255
            behind = torch.tensor(list(self.background), device=self.device).reshape(3, 1, 1) * 255
            images = (images * alpha + behind * (1 - alpha)).round().to(torch.uint8)
        return images


def dataset_key(dataset: Any) -> str:
    """Return a hash of which pictures the data set holds: file, names, labels and resolution."""
    digest = hashlib.blake2b(digest_size=12)
    path = Path(getattr(dataset, "path", ""))
    if path.is_file():
        stat = path.stat()
        digest.update(f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}".encode())
    else:
        digest.update(str(path.resolve()).encode())
    digest.update(f"{len(dataset)} {dataset.resolution} {dataset.has_masks}".encode())
    if dataset.backdrop is not None:  # otherwise the pictures are those that older caches were made of
        digest.update(f"without {[round(255 * float(value)) for value in dataset.backdrop]}".encode())
    digest.update("\n".join(dataset.name(index) for index in range(len(dataset))).encode())
    digest.update(numpy.ascontiguousarray(numpy.asarray(dataset.labels, dtype=numpy.float32)).tobytes())
    return digest.hexdigest()


def metric_record(name: str, results: dict[str, float], seconds: float, snapshot: str, num_gpus: int) -> dict[str, Any]:
    """Return a line of ``metric-<name>.jsonl``."""
    return {
        "results": results,
        "metric": name,
        "total_time": seconds,
        "total_time_str": format_time(seconds),
        "num_gpus": num_gpus,
        "snapshot": snapshot,
        "timestamp": time.time(),
    }


def write_metric(record: dict[str, Any], run_dir: str | Path) -> Path:
    """Append a record to ``metric-<name>.jsonl`` in the run folder and return that file."""
    path = Path(run_dir) / f"metric-{record['metric']}.jsonl"
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{path} could not be written ({reason}); free space or choose another folder.") from error
    return path


def _mean(levels: dict[int, float]) -> float:
    return sum(levels.values()) / len(levels)


def fit_to(fit: GaussianFit, device: torch.device) -> GaussianFit:
    """Move a fit to a device."""
    return GaussianFit(fit.count, fit.total.to(device), fit.outer.to(device), fit.reference.to(device))


def _save_fits(path: Path, fits: Sequence[GaussianFit]) -> None:
    arrays = {"reference": fits[0].reference.cpu().numpy()}
    for number, fit in enumerate(fits):
        arrays[f"count{number}"] = numpy.array(fit.count)
        arrays |= {f"total{number}": fit.total.cpu().numpy(), f"outer{number}": fit.outer.cpu().numpy()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: numpy.savez(file, **arrays))
    except (OSError, UserError) as error:  # only time is lost: the next run computes them again
        warnings.warn(f"The metrics' cache is not kept: {error}", stacklevel=3)


def _load_fits(path: Path) -> tuple[GaussianFit, GaussianFit] | None:
    """Return the cached fits, or None where there are none or the file is damaged."""
    if not path.exists():
        return None
    try:
        with path.open("rb") as file, numpy.load(file, allow_pickle=False) as archive:
            arrays = {name: torch.from_numpy(archive[name]) for name in archive.files}
        fits = [
            GaussianFit(int(arrays[f"count{n}"]), arrays[f"total{n}"], arrays[f"outer{n}"], arrays["reference"])
            for n in range(2)
        ]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        warnings.warn(f"The metrics' cache {path} is damaged ({error}) and will be rebuilt.", stacklevel=3)
        return None
    return fits[0], fits[1]
